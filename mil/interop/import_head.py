"""Import of checkpoints of ACMIL's, AEM's, CLAM's and MIL-Lab's code as trained heads."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mil.config import Recipe, dataset_path
from mil.errors import FormatError
from mil.heads import head_module
from mil.interop.checkpoints import read_checkpoint
from mil.interop.import_facts import (
    HeadImportOptions,
    bag_identity_of,
    checked_name,
    classification_of,
)
from mil.interop.import_recipe import epoch_of, recipe_of, seed_of
from mil.interop.layouts import MASKING_SETTINGS, PublishedHead, differences
from mil.interop.state_dicts import (
    Tensors,
    from_published,
    head_facts,
    normalised_names,
    published_head_of,
    with_classifier,
)
from mil.trained import Trained, save_trained
from mil.trained.seal import write_manifest

# Names of the outputs of weights that are published without a classifier.
NO_CLASSES = ("none_1", "none_2")
NO_CLASSIFIER = (
    "without a classifier, which is zeros here: a start for training (train.init), whose own "
    "predictions mean nothing"
)


@dataclass(frozen=True)
class HeadImportResult:
    """Head that was imported, the published class it was of, and notes for the user."""

    published: PublishedHead
    trained: Trained
    notes: list[str] = field(default_factory=list)


def run(
    file: Path, out: Path, *, tool: str, options: HeadImportOptions, force: bool = False
) -> HeadImportResult:
    """Write the folder of a trained head from a checkpoint of another code.

    Args:
        file: a state dict saved by torch, alone or in a dict beside `epoch` and
            `config`.
        out: folder for the head.
        tool: code that trained the head: acmil, aem, clam or feather.
        options: facts that the file lacks.
        force: write into a folder that is not empty.

    Raises:
        FormatError: the file holds no head of that code, or does not fit the bags.
        ConfigError: an option is missing, or contradicts the file.
    """
    if out.is_dir() and any(out.iterdir()) and not force:
        raise FormatError(
            f"{out}: is not empty; choose another --out, or write into it with --force"
        )
    checkpoint = read_checkpoint(file)
    in_file = normalised_names(checkpoint.tensors)
    published = published_head_of(in_file, tool, file)
    tensors = with_classifier(published, in_file)
    lacks_classifier = len(tensors) > len(in_file)
    if lacks_classifier and not (options.classes or options.dataset):
        options = replace(options, classes=NO_CLASSES)
    facts = head_facts(published, tensors, file)
    task = classification_of(options, facts.classes, file)
    # Without it a head could be applied to features of another encoder.
    identity = bag_identity_of(options, facts.dim, file)
    weights = from_published(published, facts, tensors, file)
    trained = Trained(
        recipe_name=checked_name(options.name or published.head),
        recipe=recipe_of(published, tool, facts, checkpoint.settings, file),
        encoder=identity.encoder,
        weights_sha256=identity.weights_sha256,
        tiling=identity.tiling,
        stain_norm=identity.stain_norm,
        dim=facts.dim,
        task=task,
        dataset=dataset_path(options.dataset).stem if options.dataset else "",
        seed=seed_of(checkpoint) if options.seed is None else options.seed,
        fold=options.fold,
        epoch=epoch_of(checkpoint),
    )
    # A checkpoint has no course of training, but the file belongs to every head.
    history = {"train": [], "valid": [], "best_epoch": trained.epoch}
    save_trained(out, trained, weights, history)
    write_manifest(out)
    notes = [
        *_converted_notes(tensors),
        *_missing_notes(published, trained.recipe),
        *differences(published, tool),
    ]
    if lacks_classifier:
        notes.append(NO_CLASSIFIER)
    return HeadImportResult(published, trained, notes)


def _converted_notes(tensors: Tensors) -> Sequence[str]:
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    converted = sorted(dtypes - {"float32"})
    return [f"kept as float32, was {' and '.join(converted)}"] if converted else []


def _missing_notes(published: PublishedHead, recipe: Recipe) -> Sequence[str]:
    """A line about options of training that the file does not state."""
    options = head_module(published.head).Config.model_fields
    missing = [name for name in MASKING_SETTINGS if name in options and name not in recipe.options]
    if not missing:
        return []
    names = ", ".join(missing)
    return [f"not in the file, so set to the default, which only training uses: {names}"]
