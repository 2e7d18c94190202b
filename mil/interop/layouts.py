"""How the published codes of ACMIL, AEM and CLAM name the tensors of heads that we have too."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Pairs = Iterable[tuple[str, str]]

PAPERS = {
    "acmil": "https://arxiv.org/abs/2311.07125",
    "aem": "https://arxiv.org/abs/2406.15303",
    "clam": "https://arxiv.org/abs/2004.09666",
}
# Our name of a setting, and its name in the settings of ACMIL and AEM.
TRAINING = {
    "epochs": "train_epoch",
    "lr": "lr",
    "min_lr": "min_lr",
    "warmup_epochs": "warmup_epoch",
    "weight_decay": "wd",
}
MASKING = {"mask_top": "n_masked_patch", "mask_share": "mask_drop"}

ACMIL_LOSSES = {"cross_entropy": 1.0, "branch_cross_entropy": 1.0, "branch_diversity": 1.0}
REDUCER = ("dimreduction.fc1", "reduce.0")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One class of the published codes and the head of ours that computes the same."""

    name: str
    arch: str  # as their command lines call it
    head: str
    tools: tuple[str, ...]  # whose code has it, the first before the others
    marks: tuple[str, ...]  # keys that tell it from the others
    first: str  # weight of the layer that takes the features, [width, dim]
    answers: str  # weight with a row for each class; with {}: one for each
    pairs: Callable[
        [int, int], Pairs
    ]  # of (branches, classes): their names and ours, in their order
    widths: Mapping[str, str] = field(
        default_factory=dict
    )  # option of ours: weight whose rows it counts
    fixed: Mapping[str, Any] = field(
        default_factory=dict
    )  # options of ours that their code has no choice in
    losses: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})


def _gated(*classifiers: tuple[str, str]) -> list[tuple[str, str]]:
    return [
        REDUCER,
        ("attention.attention_V.0", "attention.value"),
        ("attention.attention_U.0", "attention.gate"),
        ("attention.attention_weights", "attention.score"),
        *classifiers,
    ]


def _branch_classifiers(branches: int) -> list[tuple[str, str]]:
    each = [(f"classifier.{i}.fc", f"branch_classify.{i}") for i in range(branches)]
    return [*each, ("Slide_classifier.fc", "classify")]


def _values(theirs: str, ours: str) -> list[tuple[str, str]]:
    names = (("v_proj", "value"), ("out_proj", "out"), ("layer_norm", "norm"))
    return [(f"{theirs}.{a}", f"{ours}.{b}") for a, b in names]


def _queried(theirs: str, scores: str, values: str) -> list[tuple[str, str]]:
    keys = [(f"{theirs}.q_proj", f"{scores}.query"), (f"{theirs}.k_proj", f"{scores}.key")]
    return keys + _values(theirs, values)


def _acmil_mha(branches: int, _: int) -> Pairs:
    yield from (("q", "queries"), REDUCER)
    for i in range(branches):
        yield from _queried(f"sub_attention.{i}", f"attention.{i}", f"branch_values.{i}")
    yield from [*_values("bag_attention", "values"), *_branch_classifiers(branches)]


def _clam(classifiers: list[tuple[str, str]], classes: int) -> list[tuple[str, str]]:
    net = "attention_net.3"
    return [
        ("attention_net.0", "reduce.0"),
        (f"{net}.attention_a.0", "attention.value.0"),
        (f"{net}.attention_b.0", "attention.gate.0"),
        (f"{net}.attention_c", "attention.score"),
        *classifiers,
        *((f"instance_classifiers.{k}", f"judge.judges.{k}") for k in range(classes)),
    ]


_HIDDEN = {"hidden": "dimreduction.fc1.weight"}
_GATED = {**_HIDDEN, "attention": "attention.attention_V.0.weight"}
_CLAM = {"hidden": "attention_net.0.weight", "attention": "attention_net.3.attention_a.0.weight"}
_CLAM_LOSSES = {"cross_entropy": 0.7, "instance_cross_entropy": 0.3}

LAYOUTS = (
    Layout(
        name="ACMIL_MHA",
        arch="mha",
        head="acmil_mha",
        tools=("acmil",),
        marks=("q", "Slide_classifier.fc.weight"),
        first=_HIDDEN["hidden"],
        answers="Slide_classifier.fc.weight",
        pairs=_acmil_mha,
        widths=_HIDDEN,
        fixed={"heads": 8},
        losses=ACMIL_LOSSES,
    ),
    Layout(
        name="ACMIL_GA",
        arch="ga",
        head="acmil",
        tools=("acmil", "aem"),
        marks=("Slide_classifier.fc.weight",),
        first=_HIDDEN["hidden"],
        answers="Slide_classifier.fc.weight",
        widths=_GATED,
        losses=ACMIL_LOSSES,
        pairs=lambda branches, _: _gated(*_branch_classifiers(branches)),
    ),
    Layout(
        name="MHA",
        arch="mha",
        head="mha",
        tools=("aem", "acmil"),
        marks=("q", "classifier.fc.weight"),
        first=_HIDDEN["hidden"],
        answers="classifier.fc.weight",
        widths=_HIDDEN,
        fixed={"heads": 8},
        pairs=lambda *_: [
            ("q", "query"),
            REDUCER,
            *_queried("attention", "attention", "values"),
            ("classifier.fc", "classify"),
        ],
    ),
    Layout(
        name="ABMIL",
        arch="abmil",
        head="abmil",
        tools=("aem", "acmil"),
        marks=("classifier.fc.weight",),
        first=_HIDDEN["hidden"],
        answers="classifier.fc.weight",
        widths=_GATED,
        fixed={"gated": True},
        pairs=lambda *_: _gated(("classifier.fc", "classify")),
    ),
    Layout(
        name="CLAM_SB",
        arch="clam_sb",
        head="clam_sb",
        tools=("clam", "acmil"),
        marks=("classifiers.weight",),
        first=_CLAM["hidden"],
        answers="classifiers.weight",
        widths=_CLAM,
        losses=_CLAM_LOSSES,
        pairs=lambda _, classes: _clam([("classifiers", "classify")], classes),
    ),
    Layout(
        name="CLAM_MB",
        arch="clam_mb",
        head="clam_mb",
        tools=("clam", "acmil"),
        marks=("classifiers.0.weight",),
        first=_CLAM["hidden"],
        answers="classifiers.{}.weight",
        widths=_CLAM,
        losses=_CLAM_LOSSES,
        pairs=lambda _, classes: _clam(
            [(f"classifiers.{k}", f"classify.{k}") for k in range(classes)], classes
        ),
    ),
    Layout(
        name="DSMIL",
        arch="dsmil",
        head="dsmil",
        tools=("aem", "acmil"),
        marks=("i_classifier.fc.0.weight",),
        first="i_classifier.fc.0.weight",
        answers="i_classifier.fc.0.weight",
        widths={"hidden": "b_classifier.q.weight"},
        fixed={"two_layers": False},
        losses={"cross_entropy": 0.5, "branch_cross_entropy": 0.5},
        pairs=lambda *_: [
            ("i_classifier.fc.0", "classify_tile"),
            ("b_classifier.q", "attention.0"),
            ("b_classifier.fcc", "classify"),
        ],
    ),
)
