"""How a bag of joined encoders came about."""

from collections.abc import Sequence
from pathlib import Path

from mil.config import tiling_name
from mil.errors import FormatError
from mil.io.bags.content import BagHeader
from mil.io.bags.file import read_header
from mil.io.bags.join import joined_digest
from mil.io.bags.joined import JoinedPart, joined_parts
from mil.io.provenance import read_provenance
from mil.why.answer import Answer, Input, title
from mil.why.slides import NO_STUDY, OLDER, made_facts, of_bag, version_input
from mil.why.study import AGAIN, Study


def of_any_bag(path: Path, study: Study | None) -> Answer:
    """Answer for a bag, joined or not."""
    header = read_header(path)
    parts = joined_parts(header)
    return _of_joined(path, header, parts, study) if parts else of_bag(path, study)


def _of_joined(
    path: Path, header: BagHeader, parts: Sequence[JoinedPart], study: Study | None
) -> Answer:
    provenance = read_provenance(path)
    facts = {
        **made_facts(provenance, "bags join"),
        "slide": header.slide,
        "state": header.state,
        "encoder": header.encoder,
        "weights": header.weights_sha256,
        "tiles": f"{header.tile_px} px at {header.target_mpp} µm per pixel",
    }
    kind = f"bag of slide {header.slide}, joined of {len(parts)}"
    if study is None:
        return Answer(title(path, kind), facts, [], notes=[NO_STUDY])
    folders = [_folder(part, study) for part in parts]
    stated = provenance.facts.get("bags", [])
    digests = [str(digest) for digest in stated] if isinstance(stated, list) else []
    inputs = [version_input(provenance, "join")]
    for number, folder in enumerate(folders):
        bag = None if folder is None else folder / f"{header.slide}.h5"
        digest = digests[number] if number < len(digests) else ""
        inputs.append(Input(f"bag {number + 1}", str(bag or "of unknown tiles"), digest, _now(bag)))
    command = []
    if digests and all(folders):
        command = ["mil", "bags", "join", *map(str, folders), "--out", AGAIN]
        command += study.options(header.slide)
    makes = f"{AGAIN}/{header.slide}.h5"
    notes = [] if digests else [OLDER]
    return Answer(title(path, kind), facts, inputs, command, makes, notes)


def _folder(part: JoinedPart, study: Study) -> Path | None:
    """Folder of a joined bag in the study; None where its tiles are not known."""
    if part.tile_px is None or part.target_mpp is None:
        return None
    # A bag may come from anywhere; `JoinedPart` lets no name lead out of the study.
    return study.root / "features" / tiling_name(part.tile_px, part.target_mpp) / part.encoder


def _now(bag: Path | None) -> str:
    """Digest of a bag as it is here; empty where it is not, or is no bag."""
    try:
        return joined_digest(bag) if bag is not None and bag.is_file() else ""
    except FormatError:
        return ""
