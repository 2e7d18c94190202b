"""All there is to know of one head or recipe: what it is, its options, its losses, how it is trained."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

import torch
from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticUndefined
from torch import nn

from mil.bags import Bags, join
from mil.catalogue.listing import comment
from mil.config import Recipe, load_recipe, recipe_path
from mil.config.recipes import check_head, head_names, package_of, recipe_files
from mil.errors import ConfigError, unknown_name
from mil.heads import TwoStage, UsesGraph, blamed, build_head, head_module
from mil.losses import TERMS
from mil.tasks import CLASSES

BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
WORDS = {"integer": "whole number", "boolean": "true or false", "null": "empty", "string": "text"}
NOTHING = "nothing: this head does not give what it needs"
# of the bags that losses are tried on
DIM = 16
SIDE = 6


def described(name: str) -> list[str]:
    """A recipe and the head it is of, or a head alone.

    Raises:
        ConfigError: there is neither, or it is broken.
    """
    if name.endswith((".yaml", ".yml")) or name in recipe_files():
        recipe = load_recipe(name)
        terms = _losses(recipe.name, recipe.options)
        return [*_recipe(name, recipe, terms), "", *_head(recipe.name, recipe.options, terms)]
    if name not in head_names():
        raise ConfigError(unknown_name("head or recipe", name, {*head_names(), *recipe_files()}))
    return [*_head(name, {}, _losses(name, {}))]


def fitted(line: str, width: int) -> list[str]:
    """A line broken to a width; what follows stands under its last column."""
    columns = [gap.end() for gap in re.finditer(r"^ +| {2,}", line) if gap.end() <= width * 0.6]
    return wrap(
        line,
        width,
        subsequent_indent=" " * max(columns, default=0),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def _recipe(name: str, recipe: Recipe, terms: Sequence[str]) -> Iterator[str]:
    path = recipe_path(name)
    yield f"recipe {path.stem}, {path}"
    if said := comment(path):
        yield f"  {said}"
    if recipe.source:
        yield f"  source: {recipe.source}"
    yield f"  head: {recipe.name}"
    yield "  losses"
    for term, weight in recipe.losses.items():
        height = (
            f"{weight.start:g}" if weight.end is None else f"{weight.start:g} to {weight.end:g}"
        )
        yield f"    {term:<24} {height:<12} {_gist(TERMS[term]) if term in terms else NOTHING}"
    yield "  train"
    for option, field in type(recipe.train).model_fields.items():
        yield f"    {option:<24} {_value(getattr(recipe.train, option)):<12} {field.description or ''}".rstrip()


def _head(name: str, options: Mapping[str, Any], terms: Sequence[str]) -> Iterator[str]:
    module = head_module(name)
    entry = check_head(name)
    yield f"head {name}" + (
        f", from the package {package_of(entry)}" if entry else f", mil/heads/{name}.py"
    )
    for line in _paragraphs(inspect.getdoc(module) or ""):
        yield f"  {line}".rstrip()
    yield "  options" + (" (as the recipe sets them)" if options else "")
    yield from _options(module.Config, options)
    yield "  losses it can take"
    for term in terms:
        yield f"    {term:<24} {_gist(TERMS[term])}"


def _paragraphs(text: str) -> Iterator[str]:
    """Each paragraph as one line, unless it is a list or otherwise laid out."""
    for number, part in enumerate(text.split("\n\n")):
        if number:
            yield ""
        lines = part.splitlines()
        yield from lines if any(line[:1] in " -*>|" for line in lines) else [" ".join(lines)]


def _options(config: type[BaseModel], chosen: Mapping[str, Any]) -> Iterator[str]:
    try:
        kinds = config.model_json_schema()["properties"]
    except (
        PydanticUserError,
        KeyError,
    ):  # another package's head may take what JSON cannot say, or nothing at all
        kinds = {}
    for option, field in config.model_fields.items():
        default = "needed" if field.default is PydanticUndefined else _value(field.default)
        value = _value(chosen[option]) if option in chosen else default
        value += f" (default {default})" if value != default else ""
        yield f"    {option:<16} {_kind(kinds.get(option, {})):<28}  {value}"
        if field.description:
            yield f"    {'':<16} {field.description}"


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of an option in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}".removesuffix(" of ")
    bounds = ", ".join(f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema)
    kind = schema.get("type", "")
    return " ".join(filter(None, [WORDS.get(kind, kind), bounds]))


def _value(value: Any) -> str:
    if value is None:
        return "empty"
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _gist(term: Any) -> str:
    return re.split(r"(?<=[.;])\s", inspect.getdoc(term) or "", maxsplit=1)[0].rstrip(";.")


def _losses(name: str, options: Mapping[str, Any]) -> list[str]:
    """Terms that reach a head's parameters: found by trying them on small bags."""
    labels = torch.tensor([0, 1])
    bags = _small_bags()
    with blamed(check_head(name)), torch.random.fork_rng(devices=[]):
        head = _ready(build_head(name, {**options}, dim=DIM, classes=2), bags).train()
        out = head(bags)
    found = []
    for term, loss in TERMS.items():
        try:
            if loss(out, bags, labels, CLASSES).requires_grad:
                found.append(term)
        except ConfigError:  # the head does not give what it needs
            continue
    return found


def _small_bags() -> Bags:
    random = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))
    return join([torch.randn(len(grid), DIM, generator=random) for _ in range(2)], [grid * 224] * 2)


def _ready(head: nn.Module, bags: Bags) -> nn.Module:
    """A head as it is when its training begins."""
    if isinstance(head, TwoStage):
        head.follow(head.first_stage().eval(), [bags])
    if isinstance(head, UsesGraph):
        head.see_training([bags])
    return head
