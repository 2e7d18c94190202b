"""The reference of all settings, from the pydantic models that check them."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mil.config import (
    BagSetConfig,
    Config,
    DatasetConfig,
    EncoderConfig,
    LossWeight,
    Recipe,
    Section,
    TrainConfig,
)
from mil.config.heads import own_heads
from mil.config.machines import EncoderRate, MachineConfig, Rate
from mil.heads import head_module

HEAD = """# Configuration

All settings are checked before anything runs. A key that is unknown, of the wrong type or out of
range stops the run with one line that names it.

| settings | file | how to change them |
|---|---|---|
| [a run](#a-run) | `configs/config.yaml` | the file, or `snakemake --config KEY=VALUE` |
| [a dataset](#a-dataset) | `configs/datasets/NAME.yaml`, beside the slide table | the file |
| [an encoder](#an-encoder) | an entry of `configs/encoders.yaml` | the file |
| [a bag set](#a-bag-set) | an entry of `configs/bag_sets.yaml` | the file |
| [a machine](#a-machine) | `configs/machines/NAME.yaml` | the file |
| [a recipe](#a-recipe) | `configs/heads/NAME.yaml` | the file |
| [options of heads](#options-of-heads) | `options` of a recipe | the recipe |

Sections are set as `--config 'tile={min_tissue: 0.5}'`. This page is made from the code.
"""
SIGNS = {Gt: ("gt", ">"), Ge: ("ge", "≥"), Lt: ("lt", "<"), Le: ("le", "≤")}


def config_page() -> str:
    """All settings with type, range, default and meaning, as Markdown."""
    run_sections = [
        (name, field.annotation)
        for name, field in Config.model_fields.items()
        if _is_section(field.annotation)
    ]
    parts = [
        HEAD,
        "## A run",
        table(Config),
        *(f"### `{name}:`\n\n{_summary(model)}\n\n{table(model)}" for name, model in run_sections),
        "## A dataset",
        _summary(DatasetConfig),
        table(DatasetConfig),
        "## An encoder",
        _summary(EncoderConfig),
        table(EncoderConfig),
        "## A bag set",
        _summary(BagSetConfig),
        table(BagSetConfig),
        "## A machine",
        _summary(MachineConfig),
        table(MachineConfig),
        f"A number is written as:\n\n{table(Rate)}",
        f"The rate of an encoder is written as:\n\n{table(EncoderRate)}",
        "## A recipe",
        _summary(Recipe),
        table(Recipe),
        f"### `losses:`\n\nThe weight of a loss term is a number, or:\n\n{table(LossWeight)}",
        f"### `train:`\n\n{_summary(TrainConfig)}\n\n{table(TrainConfig)}",
        "## Options of heads",
        "A recipe sets them under `options`. See also [heads and losses](heads.md).",
        *_heads(),
    ]
    return "\n\n".join(parts) + "\n"


def _heads() -> Iterator[str]:
    for name in own_heads():
        model = head_module(name).Config
        yield f"### `{name}`\n\n" + (table(model) if model.model_fields else "No options.")


def table(model: type[BaseModel]) -> str:
    """The fields of one model, without those that are sections."""
    rows = [
        _row(name, field)
        for name, field in model.model_fields.items()
        if not _is_section(field.annotation)
    ]
    return "\n".join(["| key | value | default | |", "|---|---|---|---|", *rows])


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _summary(model: Any) -> str:
    return (model.__doc__ or "").split("\n\n")[0]


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name}`", _value(field), _default(field), _escape(field.description or ""))
    return f"| {' | '.join(cells)} |"


def _value(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    limits = _limits(field.metadata)
    return _escape(f"{kind}, {limits}" if limits else kind)


def _kind(annotation: Any) -> str:
    """A type in the words of a yaml file."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (list, tuple):
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "mapping"
    if hasattr(annotation, "__metadata__"):  # Annotated
        limits = _limits(annotation.__metadata__)
        kind = _kind(annotation.__origin__)
        return f"{kind} {limits}" if limits else kind
    if arguments:  # a union
        return " or ".join(_kind(part) for part in arguments if part is not type(None))
    names = {str: "text", int: "integer", float: "number", bool: "true, false", Any: "any"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limits(metadata: Sequence[Any]) -> str:
    """Ranges of numbers, least lengths of texts and lists."""
    limits = []
    for constraint in metadata:
        # A Field inside Annotated carries its constraints one level deeper.
        inner = constraint.metadata if isinstance(constraint, FieldInfo) else (constraint,)
        for each in inner:
            if type(each) in SIGNS:
                attribute, sign = SIGNS[type(each)]
                limits.append(f"{sign} {getattr(each, attribute):g}")
            elif isinstance(each, MinLen | MaxLen):
                limits.append(
                    "not empty" if isinstance(each, MinLen) else f"at most {each.max_length}"
                )
    return ", ".join(limits)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else ""
    if field.default is None or field.default in ("", [], {}):
        return "empty"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, list):
        return f"`[{', '.join(map(str, field.default))}]`"
    return f"`{field.default}`"


def _escape(text: str) -> str:
    """Text in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
