"""`mil heads show`: a head or recipe with its options, its losses and its training."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticUndefined
from torch import nn

from mil.bags import Bags, join
from mil.catalogue.listing import leading_comment
from mil.config import Recipe, load_recipe, recipe_errors, recipe_path
from mil.config.heads import check_head, head_names, package_of
from mil.config.recipes import recipe_files
from mil.errors import ConfigError, unknown_name
from mil.heads import (
    TERM_AT_ONCE,
    FitsAtOnce,
    TwoStage,
    UsesGraph,
    build_head,
    head_module,
    plugin_errors,
)
from mil.losses import TERMS
from mil.tasks import CLASSES
from mil.trained.record import RECORD, read_record

# Words of a JSON schema, and how they are shown.
BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
TYPE_NAMES = {
    "integer": "whole number",
    "boolean": "true or false",
    "null": "empty",
    "string": "text",
}
NO_EFFECT = "nothing: this head does not give what it needs"
# Bags that loss terms are tried on: as small as any head accepts, tiles in a square so
# that heads over a graph find neighbours.
TRIAL_DIM = 16
TRIAL_SIDE_TILES = 6
TRIAL_TILE_PX = 224
# Deeper than this share of the width, a continued line would have no room for words.
MAX_INDENT_SHARE = 0.6


def description_lines(name: str) -> list[str]:
    """Lines about a recipe and its head, about a head alone, or about a trained head.

    Args:
        name: name of a head or a recipe, path of a recipe's yaml, or folder of a trained
            head.

    Raises:
        ConfigError: there is no such head or recipe, or it is broken.
        FormatError: the record of the trained head is damaged.
    """
    if (Path(name) / RECORD).is_file():
        return list(_trained_lines(Path(name)))
    if name.endswith((".yaml", ".yml")) or name in recipe_files():
        recipe = load_recipe(name)
        with recipe_errors(name):
            terms = _effective_terms(recipe.name, recipe.options)
        recipe_lines = _recipe_lines(name, recipe, terms)
        return [*recipe_lines, "", *_head_lines(recipe.name, recipe.options, terms)]
    if name not in head_names():
        raise ConfigError(unknown_name("head or recipe", name, {*head_names(), *recipe_files()}))
    return list(_head_lines(name, {}, _effective_terms(name, {})))


def wrapped(line: str, width: int) -> list[str]:
    """A line broken to a width; continued lines begin under its last column.

    Args:
        line: line of columns that are two or more spaces apart.
        width: number of characters of the terminal.
    """
    gaps = re.finditer(r"^ +| {2,}", line)
    columns = [gap.end() for gap in gaps if gap.end() <= width * MAX_INDENT_SHARE]
    lines = wrap(
        line,
        width,
        subsequent_indent=" " * max(columns, default=0),
        break_long_words=False,
        # An address with hyphens that is cut cannot be followed.
        break_on_hyphens=False,
    )
    # Of an empty line `wrap` makes no line at all.
    return lines or [""]


def _recipe_lines(name: str, recipe: Recipe, terms: Sequence[str]) -> Iterator[str]:
    path = recipe_path(name)
    yield f"recipe {path.stem}, {path}"
    comment = leading_comment(path)
    if comment:
        yield f"  {comment}"
    if recipe.source:
        yield f"  source: {recipe.source}"
    yield from _settings_lines(recipe, terms)


def _trained_lines(folder: Path) -> Iterator[str]:
    """Lines about a trained head: what it was trained on, its members and its recipe."""
    trained = read_record(folder)
    recipe = trained.recipe
    run = f"seed {trained.seed}, fold {trained.fold}"
    yield f"trained head {folder}: recipe {trained.recipe_name}, {run}"
    cohort = trained.planned_from
    if cohort is not None:
        yield (
            f"  planned (train: auto) for {cohort.num_slides} slides of {cohort.num_patients} "
            f"patients, {cohort.tiles_median} tiles a slide, {cohort.dim} features a tile"
        )
    if trained.started_from is not None:
        yield f"  started from: {trained.started_from.described()}"
    for member in trained.members:
        loss = member.validation_loss
        yield (
            f"  member: part {member.part}, restart {member.restart}, epoch {member.epoch}, "
            f"validation loss {'not known' if loss is None else f'{loss:.4g}'}"
        )
    yield from _settings_lines(recipe, _effective_terms(recipe.name, recipe.options))
    yield "  options"
    yield from _option_lines(head_module(recipe.name).Config, recipe.options)


def _settings_lines(recipe: Recipe, terms: Sequence[str]) -> Iterator[str]:
    """Lines about a recipe's head, losses and training."""
    yield f"  head: {recipe.name}"
    yield "  losses"
    for term, weight in recipe.losses.items():
        height = f"{weight.start:g}"
        if weight.end is not None:
            height += f" to {weight.end:g}"
        effect = _summary(TERMS[term]) if term in terms else NO_EFFECT
        yield f"    {term:<24} {height:<12} {effect}"
    auto = recipe.train.auto
    yield "  train" + (": settings not written here are planned from the cohort" if auto else "")
    for option, field in type(recipe.train).model_fields.items():
        value = _value(getattr(recipe.train, option))
        if auto and option not in recipe.train.model_fields_set:
            value = "planned"
        yield f"    {option:<24} {value:<12} {field.description or ''}".rstrip()


def _head_lines(name: str, options: Mapping[str, object], terms: Sequence[str]) -> Iterator[str]:
    module = head_module(name)
    entry = check_head(name)
    origin = f"from the package {package_of(entry)}" if entry else f"mil/heads/{name}.py"
    yield f"head {name}, {origin}"
    for line in _paragraphs(inspect.getdoc(module) or ""):
        yield f"  {line}".rstrip()
    yield "  options" + (" (as the recipe sets them)" if options else "")
    yield from _option_lines(module.Config, options)
    yield "  losses it can take"
    for term in terms:
        yield f"    {term:<24} {_summary(TERMS[term])}"


def _paragraphs(text: str) -> Iterator[str]:
    """Each paragraph as one line, unless it is a list or otherwise laid out."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ""
        lines = paragraph.splitlines()
        if any(line[:1] in " -*>|" for line in lines):
            yield from lines
        else:
            yield " ".join(lines)


def _option_lines(config: type[BaseModel], chosen: Mapping[str, object]) -> Iterator[str]:
    """Lines about the options of a head: name, type, value, and the description below.

    Args:
        config: model of the options.
        chosen: options that a recipe sets.
    """
    try:
        schemas = config.model_json_schema()["properties"]
    except (PydanticUserError, KeyError):
        # Another package's head may have types without a JSON schema, or no options.
        schemas = {}
    for option, field in config.model_fields.items():
        default = "needed" if field.default is PydanticUndefined else _value(field.default)
        value = _value(chosen[option]) if option in chosen else default
        if value != default:
            value += f" (default {default})"
        yield f"    {option:<16} {_type_name(schemas.get(option, {})):<28}  {value}"
        if field.description:
            yield f"    {'':<16} {field.description}"


def _type_name(schema: Mapping[str, Any]) -> str:
    """Type of an option in words.

    Args:
        schema: JSON schema of the option.
    """
    if "anyOf" in schema:
        return " or ".join(_type_name(alternative) for alternative in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type_name(schema.get('items', {}))}".removesuffix(" of ")
    bounds = ", ".join(f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema)
    name = schema.get("type", "")
    return " ".join(filter(None, [TYPE_NAMES.get(name, name), bounds]))


def _value(value: object) -> str:
    """A value as a yaml file would have it."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _summary(term: Callable[..., object]) -> str:
    """First sentence of a loss term's docstring, or its part before a semicolon."""
    text = inspect.getdoc(term) or ""
    return re.split(r"(?<=[.;])\s", text, maxsplit=1)[0].rstrip(";.")


def _effective_terms(name: str, options: Mapping[str, Any]) -> list[str]:
    """Names of the loss terms that reach a head's parameters.

    They are not declared anywhere: each term is tried on small bags.
    """
    labels = torch.tensor([0, 1])
    bags = _trial_bags()
    # The user's random state is left as it was.
    with plugin_errors(check_head(name)), torch.random.fork_rng(devices=[]):
        head = build_head(name, {**options}, dim=TRIAL_DIM, classes=2)
        if isinstance(head, FitsAtOnce):
            return [TERM_AT_ONCE]
        # In training mode: a teacher, for instance, takes part only then.
        output = _prepared(head, bags).train()(bags)
    terms = []
    for term, loss in TERMS.items():
        try:
            # A term that finds nothing to act on is a constant 0, which has no
            # gradient.
            if loss(output, bags, labels, CLASSES).requires_grad:
                terms.append(term)
        except ConfigError:
            # The head does not give what the term needs.
            continue
    return terms


def _trial_bags() -> Bags:
    rng = torch.Generator().manual_seed(0)
    positions = torch.arange(TRIAL_SIDE_TILES)
    coords = torch.cartesian_prod(positions, positions) * TRIAL_TILE_PX
    features = [torch.randn(len(coords), TRIAL_DIM, generator=rng) for _ in range(2)]
    return join(features, [coords] * 2)


def _prepared(head: nn.Module, bags: Bags) -> nn.Module:
    """A head in the state in which its training begins."""
    if isinstance(head, TwoStage):
        head.follow(head.first_stage().eval(), [bags])
    if isinstance(head, UsesGraph):
        head.see_training([bags])
    return head
