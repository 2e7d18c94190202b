"""State dicts of the published codes to those of heads here and back: names and shapes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mil.errors import FormatError, some
from mil.heads import build_head
from mil.interop.layouts import PUBLISHED_HEADS, PublishedHead

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class HeadFacts:
    """Facts about a head that the shapes of its tensors give away.

    Attributes:
        dim: number of features per tile.
        classes: number of classes.
        options: options of the head here.
    """

    dim: int
    classes: int
    options: Mapping[str, int | bool]

    @property
    def branches(self) -> int:
        """Number of attention branches."""
        return self.options.get("branches", 1)


def normalised_names(tensors: Tensors) -> dict[str, Tensor]:
    """The same tensors under the names of one GPU and of CLAM's present version."""
    # DataParallel puts `module.` before every name, and transformers `model.`.
    wrappers = ("module.", "model.")
    wrapper = next((w for w in wrappers if all(name.startswith(w) for name in tensors)), "")
    # CLAM trained without dropout has one layer less before the attention.
    without_dropout = "attention_net.2.attention_c.weight" in tensors
    normalised = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(wrapper)
        # CLAM on several GPUs wraps only this part of the model.
        name = re.sub(r"^attention_net\.module\.(?=\d)", "attention_net.", name)
        if without_dropout:
            name = re.sub(r"^attention_net\.2\.", "attention_net.3.", name)
        # CLAM's SVM loss keeps a constant table among the weights.
        if not name.startswith("instance_loss_fn."):
            normalised[name] = tensor
    return normalised


def published_head_of(tensors: Tensors, tool: str, path: Path) -> PublishedHead:
    """Class of the published codes that a state dict is of.

    Args:
        tensors: the state dict, with normalised names.
        tool: code that the user states: acmil, aem, clam or feather.
        path: the checkpoint, for messages.

    Raises:
        FormatError: the class is not known, or is one of another code.
    """
    # The first class that matches: see the order of PUBLISHED_HEADS.
    for published in PUBLISHED_HEADS:
        if all(key in tensors for key in published.identifying_keys):
            break
    else:
        names = ", ".join(head.name for head in PUBLISHED_HEADS if tool in head.tools)
        raise FormatError(
            f"{path}: its tensors are those of none of {names}; it has "
            f"{some(sorted(tensors)) or 'none'}"
        )
    if tool not in published.tools:
        raise FormatError(
            f"{path}: its tensors are those of {published.name}; give --from "
            f"{' or '.join(published.tools)}"
        )
    return published


def with_classifier(published: PublishedHead, tensors: Tensors) -> dict[str, Tensor]:
    """The tensors, with a classifier of zeros for two classes where there is none.

    FEATHER is published to be trained further, for classes that its user has.

    Args:
        published: class of the published codes.
        tensors: the state dict, with normalised names.
    """
    name = published.output_weight
    width = tensors.get(published.width_weights.get("hidden", ""))
    if not published.without_classifier or name in tensors or width is None or width.dim() != 2:
        return dict(tensors)
    weight = torch.zeros(2, len(width))
    bias_name = name.removesuffix("weight") + "bias"
    return {**tensors, name: weight, bias_name: torch.zeros(2)}


def head_facts(published: PublishedHead, tensors: Tensors, path: Path) -> HeadFacts:
    """Read dimension, classes and options from the shapes of the tensors.

    Args:
        published: class of the published codes.
        tensors: the state dict, with normalised names.
        path: the checkpoint, for messages.

    Raises:
        FormatError: a tensor that is needed is missing, or is no matrix.
    """
    if "{}" in published.output_weight:
        pattern = re.escape(published.output_weight).replace(r"\{\}", r"\d+")
        classes = _count_names(tensors, pattern)
    else:
        classes = _rows(tensors, published.output_weight, path)
    options: dict[str, int | bool] = {
        option: _rows(tensors, name, path) for option, name in published.width_weights.items()
    }
    if "Slide_classifier.fc.weight" in published.output_weight:
        # ACMIL has a classifier for each branch beside the one of the slide.
        options["branches"] = _count_names(tensors, r"classifier\.\d+\.fc\.weight")
    # Only to check that it is a matrix.
    _rows(tensors, published.input_weight, path)
    dim = tensors[published.input_weight].shape[1]
    return HeadFacts(dim, classes, {**options, **published.fixed_options})


def _rows(tensors: Tensors, name: str, path: Path) -> int:
    """Number of rows of a matrix."""
    if name not in tensors:
        raise FormatError(f"{path}: has no tensor {name!r}")
    shape = tensors[name].shape
    if len(shape) != 2:
        raise FormatError(f"{path}: {name!r} has the shape {list(shape)}, which is no matrix")
    return shape[0]


def _count_names(tensors: Tensors, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)


def to_published(
    published: PublishedHead, tensors: Tensors, branches: int, classes: int
) -> dict[str, Tensor]:
    """Tensors of a head here under the published names, in the published shapes and order.

    Args:
        published: class of the published codes.
        tensors: state dict of the head here.
        branches: number of attention branches.
        classes: number of classes.
    """
    names = _names_by_published(published, tensors, branches, classes)
    return {
        published_name: _in_published_shape(published_name, tensors[name], classes)
        for published_name, name in names.items()
    }


def from_published(
    published: PublishedHead, facts: HeadFacts, tensors: Tensors, path: Path
) -> dict[str, Tensor]:
    """Published tensors under the names and in the shapes of the head here, as float32.

    Args:
        published: class of the published codes.
        facts: facts about the head.
        tensors: the state dict, with normalised names.
        path: the checkpoint, for messages.

    Raises:
        FormatError: a tensor is missing, surplus, or of a shape that does not go with
            the others.
        ConfigError: no head can have those widths.
    """
    # Only shapes, no memory: the widths in the file may be absurd.
    with torch.device("meta"):
        head = build_head(published.head, dict(facts.options), dim=facts.dim, classes=facts.classes)
    expected = head.state_dict()
    names = _names_by_published(published, expected, facts.branches, facts.classes)
    _check_names(published, names, tensors, path)
    weights = {}
    for published_name, name in names.items():
        tensor = tensors[published_name]
        target = _in_published_shape(published_name, expected[name], facts.classes)
        if tensor.shape != target.shape or not tensor.is_floating_point():
            raise FormatError(
                f"{path}: {published_name!r} is {_shape_and_type(tensor)}, but should be "
                f"{_shape_and_type(target)}"
            )
        weights[name] = _as_float32(tensor.reshape(expected[name].shape))
    return weights


def _names_by_published(
    published: PublishedHead, tensors: Tensors, branches: int, classes: int
) -> dict[str, str]:
    """Name here of each tensor by its published name, in the published order."""
    names = {}
    for published_name, name in published.tensor_names(branches, classes):
        # A pair names a tensor, or a layer with weight and perhaps bias.
        for part in ("", ".weight", ".bias"):
            if name + part in tensors:
                names[published_name + part] = name + part
    assert len(names) == len(tensors), f"{published.name} does not name all of {list(tensors)}"
    return names


def _in_published_shape(name: str, tensor: Tensor, classes: int) -> Tensor:
    if name == "q":
        # Queries have a batch dimension there: [1, queries, hidden].
        return tensor.unsqueeze(0)
    if name == "b_classifier.fcc.weight":
        # DSMIL's bag classifier is a convolution: [classes, classes, dim].
        return tensor.unflatten(1, (classes, -1))
    return tensor


def _as_float32(tensor: Tensor) -> Tensor:
    # A copy: tensors of a file may share their memory.
    return tensor.to(torch.float32, copy=True).contiguous()


def _check_names(
    published: PublishedHead, expected: Iterable[str], actual: Iterable[str], path: Path
) -> None:
    missing = sorted({*expected} - {*actual})
    surplus = sorted({*actual} - {*expected})
    faults = []
    if missing:
        faults.append(f"without {some(missing)}")
    if surplus:
        faults.append(f"with {some(surplus)}")
    if faults:
        raise FormatError(
            f"{path}: {published.name} {' and '.join(faults)}, so it is of another model or "
            "another version"
        )


def _shape_and_type(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
