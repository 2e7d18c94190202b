"""State dicts of the published codes into ours and back: names and shapes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mil.errors import FormatError, some
from mil.heads import build_head
from mil.interop.layouts import LAYOUTS, Layout

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """What the shapes of a checkpoint say."""

    dim: int
    classes: int
    options: dict[str, Any]


def tidy(tensors: Tensors) -> dict[str, Tensor]:
    """The same tensors without what wrappers for several GPUs, and CLAM over the years, did to their names."""
    wrapped = all(name.startswith("module.") for name in tensors)
    without_dropout = "attention_net.2.attention_c.weight" in tensors  # older CLAM, trained without
    found = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix("module.") if wrapped else name
        plain = re.sub(r"^attention_net\.module\.(?=\d)", "attention_net.", plain)
        plain = (
            re.sub(r"^attention_net\.2\.", "attention_net.3.", plain) if without_dropout else plain
        )
        if not plain.startswith("instance_loss_fn."):  # a table of CLAM's SVM loss
            found[plain] = tensor
    return found


def layout_of(tensors: Tensors, tool: str, path: Path) -> Layout:
    """Which class of the published codes a state dict is of.

    Raises:
        FormatError: none that is known, or one of another code than the user says.
    """
    found = next((each for each in LAYOUTS if all(mark in tensors for mark in each.marks)), None)
    if found is None:
        known = ", ".join(each.name for each in LAYOUTS if tool in each.tools)
        raise FormatError(
            f"{path}: its tensors are those of none of {known}; it has "
            f"{some(sorted(tensors)) or 'none'}"
        )
    if tool not in found.tools:
        raise FormatError(
            f"{path}: its tensors are those of {found.name}; say --from {' or '.join(found.tools)}"
        )
    return found


def sizes_of(layout: Layout, tensors: Tensors, path: Path) -> Sizes:
    """Read the shapes.

    Raises:
        FormatError: a tensor they are read from is missing, or is not a matrix.
    """
    numbered = re.escape(layout.answers).replace(r"\{\}", r"\d+")
    single = "{}" not in layout.answers
    classes = _rows(tensors, layout.answers, path) if single else _count(tensors, numbered)
    options = {option: _rows(tensors, name, path) for option, name in layout.widths.items()}
    if "Slide_classifier.fc.weight" in layout.answers:
        options["branches"] = _count(tensors, r"classifier\.\d+\.fc\.weight")
    _rows(tensors, layout.first, path)
    return Sizes(tensors[layout.first].shape[1], classes, {**options, **layout.fixed})


def _rows(tensors: Tensors, name: str, path: Path) -> int:
    if name not in tensors:
        raise FormatError(f"{path}: has no tensor {name!r}")
    if tensors[name].ndim != 2:
        raise FormatError(
            f"{path}: {name!r} has the shape {list(tensors[name].shape)}, which is no matrix"
        )
    return tensors[name].shape[0]


def _count(tensors: Tensors, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)


def to_theirs(layout: Layout, ours: Tensors, branches: int, classes: int) -> dict[str, Tensor]:
    """Our tensors under their names, in their shapes and their order."""
    names = _their_names(layout, ours, branches, classes)
    return {name: _in_their_shape(name, ours[mine], classes) for name, mine in names.items()}


def to_ours(layout: Layout, sizes: Sizes, theirs: Tensors, path: Path) -> dict[str, Tensor]:
    """Their tensors under our names, in our shapes, as float32.

    Raises:
        FormatError: one is missing, surplus, or of a shape that does not go with the
            others.
        ConfigError: no head can have those widths.
    """
    with torch.device("meta"):  # only shapes, no memory: those of the file may not go together
        ours = build_head(
            layout.head, sizes.options, dim=sizes.dim, classes=sizes.classes
        ).state_dict()
    names = _their_names(layout, ours, sizes.options.get("branches", 1), sizes.classes)
    _check_names(layout, names, theirs, path)
    for name, mine in names.items():
        given = theirs[name]
        wanted = _in_their_shape(name, ours[mine], sizes.classes)
        if given.shape != wanted.shape or not given.is_floating_point():
            raise FormatError(f"{path}: {name!r} is {_said(given)}, but should be {_said(wanted)}")
    return {
        mine: _as_float32(theirs[name].reshape(ours[mine].shape)) for name, mine in names.items()
    }


def _their_names(layout: Layout, ours: Tensors, branches: int, classes: int) -> dict[str, str]:
    """Their name: our name, in their order."""
    names = {
        theirs + part: mine + part
        for theirs, mine in layout.pairs(branches, classes)
        for part in ("", ".weight", ".bias")
        if mine + part in ours
    }
    assert len(names) == len(ours), f"{layout.name} does not name all of {list(ours)}"
    return names


def _in_their_shape(name: str, tensor: Tensor, classes: int) -> Tensor:
    if name == "q":
        return tensor.unsqueeze(0)  # [1, queries, hidden]
    return (
        tensor.unflatten(1, (classes, -1)) if name == "b_classifier.fcc.weight" else tensor
    )  # of a convolution


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.to(
        torch.float32, copy=True
    ).contiguous()  # tensors of a file may share their numbers


def _check_names(layout: Layout, wanted: Iterable[str], given: Iterable[str], path: Path) -> None:
    lists = {"without": {*wanted} - {*given}, "with": {*given} - {*wanted}}
    faults = [f"{what} {some(sorted(names))}" for what, names in lists.items() if names]
    if faults:
        raise FormatError(
            f"{path}: {layout.name} {' and '.join(faults)}, so it is of another model or another "
            "version"
        )


def _said(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
