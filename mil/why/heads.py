"""How scores and a trained head came about."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mil.config import load_recipe, recipe_path
from mil.errors import ConfigError, DatasetError, FormatError
from mil.io.bags.fingerprint import bag_digest
from mil.io.bags.patients import digest_of_seen, read_fold_bags
from mil.io.provenance import read_provenance
from mil.io.scores import BagScores, read_scores, score_path
from mil.trained.manifest import MANIFEST, changed_files, file_digest
from mil.trained.record import FILES, RECORD, Trained, read_record, read_records
from mil.why.answer import Answer, Input, title
from mil.why.slides import NO_STUDY, made_facts, version_input
from mil.why.study import AGAIN, Study

SCORE_DEVICE = (
    "another kind of processor, release of torch or number of threads (--threads, 1 unless a "
    "profile sets it) adds up in another order"
)
TRAIN_DEVICE = (
    "training gives the same bytes on the same device with the same releases and number of "
    "threads (--threads, 1 unless a profile sets it); on another device the weights differ"
)


def of_scores(path: Path, study: Study | None) -> Answer:
    """Answer for a score file."""
    scores = read_scores(path)
    provenance = read_provenance(path)
    records = read_records([head.record for head in scores.heads], path)
    facts = {
        **made_facts(provenance, "score"),
        "bag": scores.name,
        "recipe": records[0].recipe_name,
        "heads": f"{len(records)}, seeds and folds {_runs(records)}",
        "calibration": _calibration(records),
    }
    kind = f"scores of {scores.name} by {records[0].recipe_name}"
    if study is None:
        return Answer(title(path, kind), facts, [], notes=[NO_STUDY])
    heads = _heads(scores, records, study)
    bags = [study.folder("features") / f"{bag.slide}.h5" for bag in scores.bags]
    inputs = [
        version_input(provenance, "score"),
        *heads,
        *(
            Input("bag", str(file), bag.digest, digest_of_bag(file))
            for file, bag in zip(bags, scores.bags, strict=True)
        ),
    ]
    words = ["mil", "score"]
    for head in heads:
        words += ["--head-dir", head.name]
    words += ["--bags", str(study.folder("features")), "--scores", AGAIN]
    words += ["--evidence", str(provenance.facts.get("evidence", "all"))]
    slide = scores.bags[0].slide
    if len(scores.bags) == 1 and scores.name == slide:
        words += study.options(slide)
    else:
        # All slides of a patient as one bag: the folds say which.
        words += [word for file in study.folds_files()[:1] for word in ("--folds", str(file))]
    makes = str(score_path(Path(AGAIN), scores.name))
    return Answer(title(path, kind), facts, inputs, words, makes, [SCORE_DEVICE])


def _heads(scores: BagScores, records: Sequence[Trained], study: Study) -> list[Input]:
    """The heads that scored, each where its weights are, else where its run belongs."""
    folders = sorted(file.parent for file in study.folder("train").glob(f"*/{FILES['kept']}"))
    identities = {folder: _identity(folder) for folder in folders}
    inputs = []
    for head, record in zip(scores.heads, records, strict=True):
        stated = _joined(head.record, head.sha256)
        matching = [folder for folder, identity in identities.items() if identity == stated]
        run = f"seed{record.seed}_fold{record.fold}of"
        matching += [folder for folder in folders if folder.name.startswith(run)]
        folder = matching[0] if matching else study.folder("train") / f"{run}N"
        inputs.append(Input("head", str(folder), stated, identities.get(folder, "")))
    return inputs


def _identity(folder: Path) -> str:
    try:
        record = (folder / RECORD).read_text(encoding="utf-8")
        return _joined(record, file_digest(folder / FILES["kept"]))
    except (OSError, ValueError):
        return ""


def _joined(record: str, weights: str) -> str:
    """Digest of a head's record and weights."""
    return sha256(f"{record}{weights}".encode()).hexdigest()


def digest_of_bag(path: Path) -> str:
    """Digest of a bag as it is now; empty where it is missing or damaged."""
    try:
        return bag_digest(path)
    except FormatError:
        return ""


def of_head(folder: Path, study: Study | None) -> Answer:
    """Answer for the folder of a trained head."""
    record = read_record(folder)
    facts = {
        "made by": "mil train",
        "recipe": f"{record.recipe_name} ({record.recipe.name})",
        "seed and fold": f"{record.seed}, {record.fold}",
        "epoch kept": str(record.epoch),
        "members": str(record.num_members),
        "encoder": f"{record.encoder}, weights {record.weights_sha256 or 'not known'}",
        "tiling": record.tiling,
        "stain normalisation": record.stain_norm,
        "dataset": record.dataset,
        "planned from": "" if record.planned_from is None else str(record.planned_from),
        "calibration": _calibration([record]),
        "seal": _seal(folder),
        "digest of all inputs": _text(folder / "inputs.sha256"),
    }
    kind = f"head {record.recipe_name}, seed {record.seed}, fold {record.fold}"
    if study is None:
        return Answer(title(folder, kind), facts, [], notes=[NO_STUDY])
    recipe, recipe_file = _recipe(record)
    folds = _folds_of_head(folder, study)
    inputs = [recipe, _folds_input(record, folds)]
    words = ["mil", "train", *study.options(), "--bags", str(study.folder("features"))]
    words += ["--folds", str(folds), "--head", recipe_file]
    words += ["--seed", str(record.seed), "--fold", str(record.fold), "--out", AGAIN]
    return Answer(title(folder, kind), facts, inputs, words, AGAIN, [TRAIN_DEVICE])


def _recipe(record: Trained) -> tuple[Input, str]:
    """The recipe that is here under the head's name; one that was planned is not compared."""
    try:
        file = str(recipe_path(record.recipe_name))
        here = load_recipe(record.recipe_name)
    except ConfigError:
        return Input("recipe", record.recipe_name, record.recipe_name, ""), record.recipe_name
    if record.planned_from is not None:
        return Input("recipe", f"{file} (planned)", "", file), file
    stated = sha256(record.recipe.model_dump_json().encode()).hexdigest()
    now = sha256(here.model_dump_json().encode()).hexdigest()
    return Input("recipe", file, stated, now), file


def _folds_of_head(folder: Path, study: Study) -> Path:
    count = folder.name.rpartition("of")[2]
    return study.folder("split") / f"folds{count if count.isdigit() else ''}.csv"


def _folds_input(record: Trained, folds: Path) -> Input:
    """The division of the slides, by the digest of those that the head has seen."""
    now = ""
    if folds.is_file():
        try:
            bags = [bag for bag in read_fold_bags(folds) if bag.fold == record.fold]
            now = digest_of_seen(bags) or ""
        except (DatasetError, FormatError):
            now = ""
    return Input("training and validation slides of", str(folds), record.seen or "", now)


def _seal(folder: Path) -> str:
    if not (folder / MANIFEST).is_file():
        return "none"
    faults = changed_files(folder)
    return "; ".join(faults) if faults else "all files are unchanged"


def _runs(records: Sequence[Trained]) -> str:
    return ", ".join(f"{record.seed}/{record.fold}" for record in records)


def _calibration(records: Sequence[Trained]) -> str:
    calibration = records[0].calibration
    if calibration is None:
        return "none"
    if calibration.reason:
        return f"none: {calibration.reason}"
    return f"temperature {calibration.temperature:.6g}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
