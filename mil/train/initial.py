"""Warm start: training from the weights of another head, `train.init`.

A head that was trained on many slides is a better start for few slides than random
weights are (Shao et al. 2025, https://arxiv.org/abs/2506.09022). Weights are in the
space of their features, so that the scaling of the other head is taken with them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from mil.config import Recipe
from mil.config.stain import NO_STAIN_NORM
from mil.errors import ConfigError, FormatError
from mil.heads import FitsAtOnce, TwoStage, build_head
from mil.tasks import AnyTask
from mil.trained import Trained, load_trained
from mil.trained.record import FILES, InitialRecord
from mil.trained.scaling import FeatureScaling, Whitening, ZScore, equal_scalings


@dataclass(frozen=True, kw_only=True)
class InitialHead:
    """Head whose weights a training starts from.

    Attributes:
        folder: Its folder.
        record: Its record.
        members: Weights of each of its members, by name; restarts take turns.
        scaling: Scaling of the features of these members; None: none.
        sha256: SHA-256 of its weights file, hex.
    """

    folder: Path
    record: Trained
    members: Sequence[Mapping[str, Tensor]]
    scaling: FeatureScaling | None
    sha256: str

    def followed_by(self, written: Recipe, planned: Recipe, dim: int) -> Recipe:
        """Concrete recipe with the scaling and the widths of this head.

        Args:
            written: Recipe as its file has it; options that it writes are kept.
            planned: The same after planning.
            dim: Number of features per tile of the bags.

        Raises:
            ConfigError: The recipe is of another head, or the bags of another width.
        """
        own = self.record.recipe
        if dim != self.record.dim:
            raise ConfigError(
                f"train.init: {self.folder} takes {self.record.dim} features a tile, but the bags "
                f"have {dim}; give a head of the same encoder, or leave init out"
            )
        if planned.name != own.name:
            raise ConfigError(
                f"train.init: {self.folder} is a head {own.name}, but the recipe trains "
                f"{planned.name}; give a folder of {planned.name}, or leave init out"
            )
        scaling = {"zscore": own.train.zscore, "whiten": own.train.whiten}
        return planned.model_copy(
            update={
                "train": planned.train.model_copy(update=scaling),
                "options": {**planned.options, **own.options, **written.options},
            }
        )

    def start(self, head: nn.Module, number: int, recipe: Recipe, task: AnyTask) -> None:
        """Give a new head the weights of a member.

        Args:
            head: Head, changed in place.
            number: Number of the restart; member `number` modulo their number is taken.
            recipe: Concrete recipe.
            task: Task of the head.

        Raises:
            ConfigError: The head trains in two stages or is fitted at once, or has weights of
                other shapes.
        """
        if isinstance(head, TwoStage):
            raise ConfigError(
                f"head {recipe.name}: trains in two stages, of which train.init would replace one "
                "alone; leave init out"
            )
        if isinstance(head, FitsAtOnce):
            raise ConfigError(
                f"head {recipe.name}: is fitted at once, whatever its weights were; leave "
                "train.init out"
            )
        classifier = self._classifier(recipe, task)
        new = self._new_names(classifier, task)
        member = self.members[number % len(self.members)]
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                if name not in new:
                    parameter.copy_(self._checked(member, name, parameter))
        if recipe.train.init_frozen:
            for name, parameter in head.named_parameters():
                if name not in classifier:
                    parameter.requires_grad_(False)

    def entry(self, recipe: Recipe, task: AnyTask) -> InitialRecord:
        """What the record of the new head says of this one."""
        new = self._new_names(self._classifier(recipe, task), task)
        return InitialRecord(
            recipe_name=self.record.recipe_name,
            dataset=self.record.dataset,
            sha256=self.sha256,
            new=sorted(new),
            frozen=recipe.train.init_frozen,
        )

    def _classifier(self, recipe: Recipe, task: AnyTask) -> frozenset[str]:
        head_dim = recipe.train.scaled_dim(self.record.dim)
        return classifier_names(recipe, head_dim, task.outputs)

    def _new_names(self, classifier: frozenset[str], task: AnyTask) -> frozenset[str]:
        """Parameters that start from random numbers."""
        own = self.record.task
        same_outputs = own.kind == task.kind and own.outputs == task.outputs
        is_same = same_outputs and list(own.classes) == list(task.classes)
        return frozenset() if is_same else classifier

    def _checked(self, member: Mapping[str, Tensor], name: str, parameter: Tensor) -> Tensor:
        value = member.get(name)
        if value is None or value.shape != parameter.shape:
            shape = "none" if value is None else list(value.shape)
            raise ConfigError(
                f"train.init: {self.folder} has {name} of shape {shape}, but the recipe's is "
                f"{list(parameter.shape)}; write the options of that head into the recipe, or "
                "leave them out"
            )
        return value


def classifier_names(recipe: Recipe, head_dim: int, outputs: int) -> frozenset[str]:
    """Parameters of a recipe's head that depend on the number of its outputs.

    Args:
        recipe: Concrete recipe.
        head_dim: Number of features per tile that the head takes.
        outputs: Number of outputs.
    """
    # Their random weights must not take numbers from those of the head to train.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        few, more = (
            build_head(recipe.name, recipe.options, dim=head_dim, classes=count)
            for count in (outputs, outputs + 1)
        )
    shapes = {name: parameter.shape for name, parameter in few.named_parameters()}
    own = {name: parameter.shape for name, parameter in more.named_parameters()}
    resized = {name for name in shapes if own[name] != shapes[name]}
    # Lists with a module for each class: those of the first classes are alike in both.
    lists = {re.sub(r"\d+", "#", name) for name in own.keys() - shapes.keys()}
    of_lists = {name for name in shapes if re.sub(r"\d+", "#", name) in lists}
    return frozenset(resized | of_lists)


def read_initial(folder: Path, identity: Mapping[str, str]) -> InitialHead:
    """Read the head that a training starts from.

    Args:
        folder: Its folder.
        identity: Encoder, its weights, tiling and stain normalisation of the bags.

    Raises:
        FormatError: The folder is not that of a trained head.
        ConfigError: The head is for other features than those of the bags.
    """
    try:
        head, record = load_trained(folder)
    except FormatError as error:
        raise FormatError(f"train.init: {error}") from None
    for name, value in identity.items():
        expected = getattr(record, name)
        # Heads of other codes do not always say which weights their features are of. Without
        # a stain normalisation there was none.
        if expected != value and (expected or name == "stain_norm"):
            raise ConfigError(
                f"train.init: {folder} is for bags of {name} {expected or NO_STAIN_NORM}, but "
                f"these are of {value or NO_STAIN_NORM}; give a head of the same encoder and "
                "tiling, or leave init out"
            )
    members, scaling = _members(head, record)
    content = (folder / FILES["kept"]).read_bytes()
    return InitialHead(
        folder=folder,
        record=record,
        members=members,
        scaling=scaling,
        sha256=sha256(content).hexdigest(),
    )


def _members(
    head: nn.Module, record: Trained
) -> tuple[list[Mapping[str, Tensor]], FeatureScaling | None]:
    """Weights of the members that share the first one's scaling, and that scaling."""
    if not record.is_assembled:
        return [head.state_dict()], None
    members = list(head.get_submodule("members").children())
    scalings = list(head.get_submodule("scalings").children())
    if not scalings:
        return [member.state_dict() for member in members], None
    first = scalings[0]
    alike: list[Mapping[str, Tensor]] = [
        member.state_dict()
        for member, scaling in zip(members, scalings, strict=True)
        if equal_scalings(first, scaling)
    ]
    assert isinstance(first, ZScore | Whitening)
    return alike, first
