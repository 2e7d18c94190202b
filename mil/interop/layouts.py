"""Names of tensors in the published codes of ACMIL, AEM, CLAM and MIL-Lab (FEATHER's weights).

For heads that exist here too.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

# Published name of a tensor or layer, and its name in the head here.
NamePairs = Iterable[tuple[str, str]]

PAPERS = {
    "acmil": "https://arxiv.org/abs/2311.07125",
    "aem": "https://arxiv.org/abs/2406.15303",
    "clam": "https://arxiv.org/abs/2004.09666",
    "feather": "https://arxiv.org/abs/2506.09022",
}
OTHER_SOFTMAX = (
    "CLAM_MB in ACMIL's code adds 1 to the sum that its softmax divides by: its probabilities "
    "differ from those here"
)
# Setting of a recipe's training, and its name in the settings of ACMIL and AEM.
TRAINING_SETTINGS = {
    "epochs": "train_epoch",
    "lr": "lr",
    "min_lr": "min_lr",
    "warmup_epochs": "warmup_epoch",
    "weight_decay": "wd",
}
# Option of a head that masks tiles in training (STKIM), and its name in those settings.
MASKING_SETTINGS = {"mask_top": "n_masked_patch", "mask_share": "mask_drop"}


@dataclass(frozen=True, kw_only=True)
class PublishedHead:
    """Class of the published codes, and the head here that computes the same.

    Attributes:
        name: name of the published class.
        arch: name of the class on the published command lines.
        head: name of the head here.
        tools: codes that have the class; the first is the one it is from.
        identifying_keys: tensors by which a state dict is recognised.
        input_weight: weight of the layer that takes the features, [width, dim].
        output_weight: weight with a row for each class; with {}: one weight a class.
        tensor_names: for (branches, classes), names of all tensors in the published
            order.
        width_weights: weight whose rows count the width, by the option that sets it.
        fixed_options: options that the published class does not let one choose.
        losses: loss terms and weights of the published training.
        without_classifier: whether its weights are published without a classifier.
    """

    name: str
    arch: str
    head: str
    tools: tuple[str, ...]
    identifying_keys: tuple[str, ...]
    input_weight: str
    output_weight: str
    tensor_names: Callable[[int, int], NamePairs]
    width_weights: Mapping[str, str] = field(default_factory=dict)
    fixed_options: Mapping[str, int | bool] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    without_classifier: bool = False


# The reducer is the first layer of ACMIL's and AEM's heads: features to hidden width.
REDUCER = ("dimreduction.fc1", "reduce.0")


def _gated_names(*classifiers: tuple[str, str]) -> list[tuple[str, str]]:
    """Names of a head with gated attention (Ilse et al. 2018, eq. 9: V and U)."""
    return [
        REDUCER,
        ("attention.attention_V.0", "attention.value"),
        ("attention.attention_U.0", "attention.gate"),
        ("attention.attention_weights", "attention.score"),
        *classifiers,
    ]


def _branch_classifier_names(branches: int) -> list[tuple[str, str]]:
    names = [(f"classifier.{i}.fc", f"branch_classify.{i}") for i in range(branches)]
    return [*names, ("Slide_classifier.fc", "classify")]


def _value_names(published: str, here: str) -> list[tuple[str, str]]:
    """Names of values, output layer and norm of a multi-head attention."""
    layers = (("v_proj", "value"), ("out_proj", "out"), ("layer_norm", "norm"))
    return [(f"{published}.{layer}", f"{here}.{name}") for layer, name in layers]


def _attention_names(published: str, scores: str, values: str) -> list[tuple[str, str]]:
    """Names of a multi-head attention, whose scores and values are two modules here."""
    names = [
        (f"{published}.q_proj", f"{scores}.query"),
        (f"{published}.k_proj", f"{scores}.key"),
    ]
    return names + _value_names(published, values)


def _acmil_ga_names(branches: int, _: int) -> NamePairs:
    return _gated_names(*_branch_classifier_names(branches))


def _acmil_mha_names(branches: int, _: int) -> NamePairs:
    yield ("q", "queries")
    yield REDUCER
    for i in range(branches):
        yield from _attention_names(f"sub_attention.{i}", f"attention.{i}", f"branch_values.{i}")
    yield from _value_names("bag_attention", "values")
    yield from _branch_classifier_names(branches)


def _mha_names(_: int, __: int) -> NamePairs:
    yield ("q", "query")
    yield REDUCER
    yield from _attention_names("attention", "attention", "values")
    yield ("classifier.fc", "classify")


def _abmil_names(_: int, __: int) -> NamePairs:
    return _gated_names(("classifier.fc", "classify"))


def _feather_names(_: int, __: int) -> NamePairs:
    return [
        ("patch_embed.0", "reduce.0"),
        ("global_attn.attention_a.0", "attention.value"),
        ("global_attn.attention_b.0", "attention.gate"),
        ("global_attn.attention_c", "attention.score"),
        ("classifier", "classify"),
    ]


def _dsmil_names(_: int, __: int) -> NamePairs:
    return [
        ("i_classifier.fc.0", "classify_tile"),
        ("b_classifier.q", "attention.0"),
        ("b_classifier.fcc", "classify"),
    ]


def _clam_names(classifiers: list[tuple[str, str]], classes: int) -> list[tuple[str, str]]:
    # attention_net is a Sequential: layer, ReLU, dropout, then the attention at 3.
    net = "attention_net.3"
    return [
        ("attention_net.0", "reduce.0"),
        (f"{net}.attention_a.0", "attention.value.0"),
        (f"{net}.attention_b.0", "attention.gate.0"),
        (f"{net}.attention_c", "attention.score"),
        *classifiers,
        *((f"instance_classifiers.{k}", f"judge.judges.{k}") for k in range(classes)),
    ]


def _clam_sb_names(_: int, classes: int) -> NamePairs:
    return _clam_names([("classifiers", "classify")], classes)


def _clam_mb_names(_: int, classes: int) -> NamePairs:
    return _clam_names([(f"classifiers.{k}", f"classify.{k}") for k in range(classes)], classes)


_REDUCER_WEIGHT = "dimreduction.fc1.weight"
_HIDDEN_WIDTH = {"hidden": _REDUCER_WEIGHT}
_GATED_WIDTHS = {"hidden": _REDUCER_WEIGHT, "attention": "attention.attention_V.0.weight"}
_CLAM_WIDTHS = {
    "hidden": "attention_net.0.weight",
    "attention": "attention_net.3.attention_a.0.weight",
}
# ACMIL adds its three terms with equal weight.
ACMIL_LOSSES = {"cross_entropy": 1.0, "branch_cross_entropy": 1.0, "branch_diversity": 1.0}
# CLAM's default bag_weight, 0.7, and the rest for the instances.
CLAM_LOSSES = {"cross_entropy": 0.7, "instance_cross_entropy": 0.3}
DSMIL_LOSSES = {"cross_entropy": 0.5, "branch_cross_entropy": 0.5}

# In this order a state dict is compared with them: keys of a later class may stand in
# the state dict of an earlier one.
PUBLISHED_HEADS = (
    PublishedHead(
        name="ACMIL_MHA",
        arch="mha",
        head="acmil_mha",
        tools=("acmil",),
        identifying_keys=("q", "Slide_classifier.fc.weight"),
        input_weight=_REDUCER_WEIGHT,
        output_weight="Slide_classifier.fc.weight",
        tensor_names=_acmil_mha_names,
        width_weights=_HIDDEN_WIDTH,
        fixed_options={"heads": 8},
        losses=ACMIL_LOSSES,
    ),
    PublishedHead(
        name="ACMIL_GA",
        arch="ga",
        head="acmil",
        tools=("acmil", "aem"),
        identifying_keys=("Slide_classifier.fc.weight",),
        input_weight=_REDUCER_WEIGHT,
        output_weight="Slide_classifier.fc.weight",
        tensor_names=_acmil_ga_names,
        width_weights=_GATED_WIDTHS,
        losses=ACMIL_LOSSES,
    ),
    PublishedHead(
        name="MHA",
        arch="mha",
        head="mha",
        tools=("aem", "acmil"),
        identifying_keys=("q", "classifier.fc.weight"),
        input_weight=_REDUCER_WEIGHT,
        output_weight="classifier.fc.weight",
        tensor_names=_mha_names,
        width_weights=_HIDDEN_WIDTH,
        fixed_options={"heads": 8},
    ),
    PublishedHead(
        name="ABMIL",
        arch="abmil",
        head="abmil",
        tools=("aem", "acmil"),
        identifying_keys=("classifier.fc.weight",),
        input_weight=_REDUCER_WEIGHT,
        output_weight="classifier.fc.weight",
        tensor_names=_abmil_names,
        width_weights=_GATED_WIDTHS,
        fixed_options={"gated": True, "reducer_bias": False},
    ),
    PublishedHead(
        name="ABMIL of MIL-Lab",
        arch="abmil.base",
        head="abmil",
        tools=("feather",),
        identifying_keys=("patch_embed.0.weight", "global_attn.attention_b.0.weight"),
        input_weight="patch_embed.0.weight",
        output_weight="classifier.weight",
        tensor_names=_feather_names,
        width_weights={
            "hidden": "patch_embed.0.weight",
            "attention": "global_attn.attention_a.0.weight",
        },
        fixed_options={"gated": True, "reducer_bias": True},
        without_classifier=True,
    ),
    PublishedHead(
        name="CLAM_SB",
        arch="clam_sb",
        head="clam_sb",
        tools=("clam", "acmil"),
        identifying_keys=("classifiers.weight",),
        input_weight=_CLAM_WIDTHS["hidden"],
        output_weight="classifiers.weight",
        tensor_names=_clam_sb_names,
        width_weights=_CLAM_WIDTHS,
        losses=CLAM_LOSSES,
    ),
    PublishedHead(
        name="CLAM_MB",
        arch="clam_mb",
        head="clam_mb",
        tools=("clam", "acmil"),
        identifying_keys=("classifiers.0.weight",),
        input_weight=_CLAM_WIDTHS["hidden"],
        output_weight="classifiers.{}.weight",
        tensor_names=_clam_mb_names,
        width_weights=_CLAM_WIDTHS,
        losses=CLAM_LOSSES,
    ),
    PublishedHead(
        name="DSMIL",
        arch="dsmil",
        head="dsmil",
        tools=("aem", "acmil"),
        identifying_keys=("i_classifier.fc.0.weight",),
        input_weight="i_classifier.fc.0.weight",
        output_weight="i_classifier.fc.0.weight",
        tensor_names=_dsmil_names,
        width_weights={"hidden": "b_classifier.q.weight"},
        fixed_options={"two_layers": False},
        losses=DSMIL_LOSSES,
    ),
)


def differences(published: PublishedHead, tool: str) -> list[str]:
    """Sentences on what a published class computes otherwise than the head here; mostly none.

    Args:
        published: the published class.
        tool: code that has it.
    """
    return [OTHER_SOFTMAX] if (published.name, tool) == ("CLAM_MB", "acmil") else []
