"""Help texts stand alone, and the defaults of options are those of the configuration."""

import re

import pytest
import typer
from typer.main import get_command

from mil import config
from mil.cli import app
from mil.config.heads import own_heads
from mil.heads import head_module

# A text that begins so refers to a line above it, which a terminal does not show.
FRAGMENT = re.compile(
    r"(of|what|whose|who|its?|their|which|the same|those|where|how|whether|as|and|but|such)\b", re.I
)
SECTIONS = [value for value in vars(config).values() if isinstance(value, type)]
SECTIONS = [*SECTIONS, *(head_module(name).Config for name in own_heads())]
OPTIONS_OF = {
    "tile": config.TileConfig,
    "features": config.FeaturesConfig,
    "split": config.SplitConfig,
    "heatmap": config.HeatmapConfig,
}


def commands(command, name="mil"):
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {child}")


def helps():
    for name, command in commands(get_command(app)):
        yield name, command.help.split("\n\n")[0]
        for parameter in command.params:
            yield f"{name} {parameter.name}", parameter.help
    for section in SECTIONS:
        for field, info in getattr(section, "model_fields", {}).items():
            if not (isinstance(info.annotation, type) and info.annotation in SECTIONS):
                yield f"{section.__module__}.{section.__name__}.{field}", info.description


def test_every_help_text_is_a_phrase_that_stands_alone():
    texts = dict(helps())
    assert len(texts) > 250
    missing = [name for name, text in texts.items() if not text]
    fragments = {name: text for name, text in texts.items() if text and FRAGMENT.match(text)}
    unfinished = {
        name: text
        for name, text in texts.items()
        if text and not re.fullmatch(r"[A-Z0-9`][^\n]* [^\n]*[.\])]", text.replace("\n", " "))
    }
    assert (missing, fragments, unfinished) == ([], {}, {})


@pytest.mark.parametrize("text", ["Of the features.", "The same.", "Whose it is.", "Its tiles."])
def test_a_fragment_is_found(text):
    assert FRAGMENT.match(text)


@pytest.mark.parametrize("stage", OPTIONS_OF)
def test_defaults_of_options_are_those_of_the_configuration(stage):
    section = OPTIONS_OF[stage]()
    # `mil tile --mpp` is the pixel size of the slide, `tile.mpp` the resolution of the tiles.
    # `heatmap.stride` is of `mil refine`, whose own default is a stride that refines.
    names = {"mpp": "target_mpp", "slides": None, "stride": None} if stage != "split" else {}
    options = {
        parameter.name: parameter.default
        for parameter in get_command(app).commands[stage].params
        if isinstance(parameter, typer.core.TyperOption)
    }
    fields = {field: names.get(field, field) for field in type(section).model_fields}
    expected = {name: getattr(section, field) for field, name in fields.items() if name}
    assert {name: options[name] for name in expected} == expected


def test_no_help_text_has_square_brackets():
    """A terminal takes them for markup and drops them with their text."""
    assert {
        name: text for name, text in helps() if "[" in (text or "") and name.startswith("mil ")
    } == {}
