"""How the vectors of a slide came about."""

from pathlib import Path

from mil.config.slide_encoders import STATISTICS
from mil.io.provenance import read_provenance
from mil.io.vectors import VectorHead, VectorsHeader, read_vectors_header
from mil.trained.manifest import file_digest
from mil.trained.record import FILES
from mil.why.answer import Answer, Input, title
from mil.why.heads import SCORE_DEVICE, digest_of_bag
from mil.why.slides import NO_STUDY, made_facts, version_input
from mil.why.study import AGAIN, Study


def of_vectors(path: Path, study: Study | None) -> Answer:
    """Answer for a vectors file."""
    header = read_vectors_header(path)
    provenance = read_provenance(path)
    facts = {
        **made_facts(provenance, "embed"),
        "slide": header.slide,
        "state": header.state if header.state == "ok" else f"{header.state}: {header.reason}",
        "slide encoder": header.slide_encoder,
        "vectors": _count(header),
        "encoder": f"{header.encoder}, weights {header.weights_sha256 or 'not known'}",
        "tiles": f"{header.tiles} of {header.tiling}",
    }
    if header.slide_encoder_sha256:
        source = f"{header.slide_encoder_sha256}, from {header.slide_encoder_revision}"
        facts["weights of the slide encoder"] = source
    kind = f"vector of slide {header.slide} by {header.slide_encoder}"
    if study is None:
        return Answer(title(path, kind), facts, [], notes=[NO_STUDY])
    bag = study.folder("features") / f"{header.slide}.h5"
    heads = [_head_input(head, study) for head in header.heads]
    inputs = [
        version_input(provenance, "embed"),
        *heads,
        Input("bag", str(bag), header.bag_digest, digest_of_bag(bag)),
    ]
    words = ["mil", "embed", "--slide-encoder", header.slide_encoder]
    for head in heads:
        words += ["--head-dir", head.name]
    words += _weights_option(header.slide_encoder_revision)
    words += ["--bags", str(study.folder("features")), "--vectors", AGAIN]
    words += study.options(header.slide)
    # Statistics are sums in float64, in one order.
    notes = [] if header.slide_encoder in STATISTICS else [SCORE_DEVICE]
    return Answer(title(path, kind), facts, inputs, words, f"{AGAIN}/{header.slide}.h5", notes)


def _weights_option(revision: str) -> list[str]:
    """Option for a user's file of weights, of which the name alone is known."""
    is_hub = "/" in revision
    return [] if is_hub or revision in ("", "random") else ["--weights", revision]


def _count(header: VectorsHeader) -> str:
    if header.state != "ok":
        return "none"
    if not header.heads:
        return "one"
    runs = ", ".join(f"{head.seed}/{head.fold}" for head in header.heads)
    if len(header.heads) == 1:
        return f"one by a head, seed and fold {runs}"
    return f"one by each of {len(header.heads)} heads, seeds and folds {runs}"


def _head_input(head: VectorHead, study: Study) -> Input:
    """The head of a vector where its weights are, else where its run belongs."""
    run = f"seed{head.seed}_fold{head.fold}of"
    folders = sorted(file.parent for file in study.folder("train").glob(f"{run}*/{FILES['kept']}"))
    digests = {folder: file_digest(folder / FILES["kept"]) for folder in folders}
    alike = [folder for folder in folders if digests[folder] == head.sha256]
    folder = next(iter([*alike, *folders]), study.folder("train") / f"{run}N")
    return Input("head", str(folder), head.sha256, digests.get(folder, ""))
