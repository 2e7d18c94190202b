"""The score file: what is written is read back, and nothing else is believed."""

import h5py
import numpy as np
import pytest

from mil.errors import FormatError
from mil.io.scores import (
    FLIP_SHARES,
    BagScores,
    BranchAblation,
    HeadScores,
    Outputs,
    ScoredBag,
    ScoringHead,
    TileEvidence,
    TileSelection,
    check_bags,
    check_tiles,
    read_branch_parts,
    read_scores,
    score_path,
    write_scores,
)
from tests.messages import one_line
from tests.synthetic import bag_file

RNG = np.random.default_rng(0)
TILES = 7


def numbers(*shape: int) -> np.ndarray:
    """Float32 values in float64, as heads give them."""
    return RNG.random(shape).astype(np.float32).astype(np.float64)


def shares(tiles: int) -> np.ndarray:
    """Attention: it sums to 1."""
    weights = numbers(tiles)
    return (weights / weights.sum()).astype(np.float32).astype(np.float64)


def outputs(*rows: int) -> Outputs:
    return Outputs(numbers(*rows, 2), numbers(*rows, 3))


def of_a_head(**changes) -> HeadScores:
    usual = {
        "logits": numbers(2),
        "predictions": numbers(3),
        "attention": shares(TILES),
        "branch_logits": numbers(4, 2),
        "branch_parts": numbers(3, 2),
        "branch_attention": numbers(TILES, 5),
        "last": outputs(),
        "selection": TileSelection(
            selected=np.arange(TILES) < 3, full=outputs(), random=outputs(6), rest=outputs()
        ),
    }
    return HeadScores(**{**usual, **changes})


def of_a_bag(*scores: HeadScores, **changes) -> BagScores:
    usual = {
        "name": "s1",
        "bags": (ScoredBag("s1", "digest"),),
        "heads": tuple(ScoringHead(f"record {n}", f"sha {n}") for n, _ in enumerate(scores)),
        "scores": scores,
    }
    return BagScores(**{**usual, **changes})


def values(scores) -> dict[str, np.ndarray]:
    """Every array of a head's scores, by its dotted name."""
    arrays = {}
    for name, value in vars(scores).items() if hasattr(scores, "__dict__") else []:
        if isinstance(value, Outputs):
            arrays |= {f"{name}.{part}": rows for part, rows in value._asdict().items()}
        elif isinstance(value, TileSelection | TileEvidence | BranchAblation):
            arrays |= {f"{name}.{part}": rows for part, rows in values(value).items()}
        elif value is not None:
            arrays[name] = value
    return arrays


def assert_same(one: HeadScores, other: HeadScores) -> None:
    left, right = values(one), values(other)
    assert left.keys() == right.keys()
    for name, rows in left.items():
        np.testing.assert_array_equal(rows, right[name], err_msg=name)


def test_everything_comes_back_bit_for_bit(tmp_path):
    scores = of_a_bag(of_a_head(), of_a_head())
    write_scores(tmp_path / "s1.h5", scores)
    found = read_scores(tmp_path / "s1.h5", branches=True)
    assert (found.name, found.state, found.bags, found.heads) == (
        "s1",
        "ok",
        scores.bags,
        scores.heads,
    )
    for one, other in zip(found.scores, scores.scores, strict=True):
        assert_same(one, other)


def test_rollout_and_branches_that_are_left_out_come_back(tmp_path):
    mixed = of_a_head(rollout=shares(TILES), flipped_rollout=numbers(2, len(FLIP_SHARES), 2))
    own = BranchAblation(numbers(4, 2), numbers(TILES, 4))
    branched = of_a_head(ablation=own)
    known = of_a_head()
    same = of_a_head(
        ablation=BranchAblation(numbers(5, 2), known.branch_attention),
        branch_attention=known.branch_attention,
    )
    path = tmp_path / "s1.h5"
    write_scores(path, of_a_bag(mixed, branched))
    for one, other in zip(read_scores(path, branches=True).scores, (mixed, branched), strict=True):
        assert_same(one, other)
    assert read_scores(path).scores[1].ablation.attention is None
    # What is the attention of the branches is not written twice.
    write_scores(path, of_a_bag(same))
    with h5py.File(path) as file:
        assert "ablated_attention" not in file
    assert_same(read_scores(path, branches=True).scores[0], same)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("rollout", (0, 3), np.nan, "its rollout is no share of 1"),
        ("rollout", (0, 3), -0.1, "its rollout is no share of 1"),
        ("rollout", (0, 3), 2.0, "its rollout is no share of 1"),
        ("flipped_rollout", (0, 1, 3, 1), np.nan, "flipped_rollout holds values that are not"),
        ("ablated_logits", (0, 1, 1), np.nan, "ablated_logits holds values that are not numbers"),
        ("ablated_attention", (0, 2, 1), np.inf, "ablated_attention holds values that are not"),
        ("branch_attention", (0, 2, 1), np.nan, "branch_attention holds values that are not"),
    ],
)
def test_branches_and_rollout_that_cannot_be_are_one_line(tmp_path, name, place, value, message):
    head = of_a_head(
        rollout=shares(TILES),
        flipped_rollout=numbers(2, len(FLIP_SHARES), 2),
        ablation=BranchAblation(numbers(4, 2), numbers(TILES, 4)),
    )
    write_scores(tmp_path / "s1.h5", of_a_bag(head))
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        del file.attrs["xxh3_64"]
        file[name][place] = value
    with one_line(FormatError, match=message):
        read_scores(tmp_path / "s1.h5", branches=True)


def test_parts_are_read_without_the_maps(tmp_path):
    heads = [of_a_head(), of_a_head(branch_parts=None), of_a_head(branch_parts=numbers(2, 2))]
    write_scores(tmp_path / "s1.h5", of_a_bag(*heads))
    found = read_branch_parts(tmp_path / "s1.h5")
    assert found[1] is None
    for one, head in ((found[0], heads[0]), (found[2], heads[2])):
        np.testing.assert_array_equal(one.parts, head.branch_parts)
        np.testing.assert_array_equal(one.logits, head.logits)
    write_scores(tmp_path / "s2.h5", of_a_bag(heads[1]))
    assert read_branch_parts(tmp_path / "s2.h5") == []


def test_evidence_comes_back_where_it_is_asked_for(tmp_path):
    estimated = TileEvidence(
        alone=numbers(TILES, 2),
        effect=numbers(TILES, 2),
        removed_tiles=np.array([1, 4]),
        removed_effect=numbers(2, 2),
        completeness_error=0.25,
    )
    exact = TileEvidence(alone=numbers(TILES, 2), effect=numbers(TILES, 2))
    flipped = numbers(3, 2, len(FLIP_SHARES), 2)
    heads = [of_a_head(evidence=estimated, flipped_logits=flipped), of_a_head(evidence=exact)]
    write_scores(tmp_path / "s1.h5", of_a_bag(*heads))
    found = read_scores(tmp_path / "s1.h5", branches=True, evidence=True)
    for one, other in zip(found.scores, heads, strict=True):
        assert_same(one, other)
    assert read_scores(tmp_path / "s1.h5").scores[0].evidence is None


ESTIMATED = {
    "alone": numbers(TILES, 2),
    "effect": numbers(TILES, 2),
    "removed_tiles": np.array([1, TILES - 1]),
    "removed_effect": numbers(2, 2),
    "completeness_error": 0.25,
}


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("alone", (0, 3, 1), np.nan, "alone holds values that are not numbers"),
        ("effect", (0, 0, 0), np.inf, "effect holds values that are not numbers"),
        ("removed_effect", (0, 1, 0), np.nan, "removed_effect holds values that are not"),
        ("removed_tiles", (0, 1), TILES, "removed_tiles are not numbers of its 7 tiles"),
        ("removed_tiles", (0, 0), -1, "removed_tiles are not numbers of its 7 tiles"),
        ("removed_tiles", (0, 0), 0.5, "removed_tiles are not numbers of its 7 tiles"),
        ("completeness_error", (0, 0), -1, "its completeness_error is negative"),
        ("completeness_error", (0, 0), np.inf, "completeness_error holds values that are not"),
        ("flipped_logits", (0, 1, 0, 3, 1), np.nan, "flipped_logits holds values that are not"),
        ("flipped_logits", (0, 2, 1, 9, 0), np.inf, "flipped_logits holds values that are not"),
    ],
)
def test_evidence_that_cannot_be_is_one_line(tmp_path, name, place, value, message):
    flipped = numbers(3, 2, len(FLIP_SHARES), 2)
    head = of_a_head(evidence=TileEvidence(**ESTIMATED), flipped_logits=flipped)
    write_scores(tmp_path / "s1.h5", of_a_bag(head))
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        del file.attrs["xxh3_64"]
        file[name][place] = value
    with one_line(FormatError, match=message):
        read_scores(tmp_path / "s1.h5", evidence=True)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("alone", None, "it has effect, but no alone"),
        ("removed_effect", None, "it has removed_tiles, but no removed_effect"),
        ("effect", (1, TILES + 1, 2), "effect has 8 rows along tile, others 7"),
        ("flipped_logits", (1, 3, 2, 5, 2), "flipped_logits has 5 rows along share, not 28"),
        ("flipped_logits", (1, 1, 2, 28, 2), "flipped_logits has 1 rows along kind, not 3"),
        ("completeness_error", (1, 2), "completeness_error has 2 rows along one, not 1"),
    ],
)
def test_evidence_of_other_sizes_is_one_line(tmp_path, name, shape, message):
    flipped = numbers(3, 2, len(FLIP_SHARES), 2)
    head = of_a_head(evidence=TileEvidence(**ESTIMATED), flipped_logits=flipped)
    write_scores(tmp_path / "s1.h5", of_a_bag(head))
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        del file.attrs["xxh3_64"]
        del file[name]
        if shape is not None:
            file[name] = np.ones(shape, np.float32)
    with one_line(FormatError, match=message):
        read_scores(tmp_path / "s1.h5", evidence=True)


def test_heads_without_branches_last_epoch_or_selection(tmp_path):
    plain = of_a_head(
        branch_parts=None, branch_logits=None, branch_attention=None, last=None, selection=None
    )
    write_scores(tmp_path / "s1.h5", of_a_bag(plain))
    assert_same(read_scores(tmp_path / "s1.h5", branches=True).scores[0], plain)
    with h5py.File(tmp_path / "s1.h5") as file:
        assert set(file) == {"record", "logits", "predictions", "attention"}


def test_a_head_that_selected_all_has_no_rest_and_one_that_selects_none_no_selection(tmp_path):
    every = TileSelection(selected=np.ones(TILES, bool), full=outputs(), random=outputs(6))
    heads = [of_a_head(), of_a_head(selection=every), of_a_head(selection=None)]
    write_scores(tmp_path / "s1.h5", of_a_bag(*heads))
    for one, other in zip(
        read_scores(tmp_path / "s1.h5", branches=True).scores, heads, strict=True
    ):
        assert_same(one, other)


def test_attention_of_branches_is_read_when_asked_for(tmp_path):
    write_scores(tmp_path / "s1.h5", of_a_bag(of_a_head()))
    assert read_scores(tmp_path / "s1.h5").scores[0].branch_attention is None


def test_every_dataset_names_its_unit_and_axes_and_is_contiguous(tmp_path):
    write_scores(tmp_path / "s1.h5", of_a_bag(of_a_head()))
    with h5py.File(tmp_path / "s1.h5") as file:
        for name, data in file.items():
            assert data.attrs["unit"], name
            assert len(data.attrs["axes"].split()) == data.ndim, name
            assert data.chunks is None, name
        assert {
            data.dtype for name, data in file.items() if name not in ("record", "selected")
        } == {np.dtype("float32")}


def test_what_a_later_version_adds_is_passed_over(tmp_path):
    """Such as evidence of each tile for each class, without a new version of the format."""
    write_scores(tmp_path / "s1.h5", of_a_bag(of_a_head()))
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        file["alone"] = np.zeros((1, TILES, 2), np.float32)
    assert read_scores(tmp_path / "s1.h5").name == "s1"


def test_a_slide_without_tiles_has_a_state_and_no_scores(tmp_path):
    heads = (ScoringHead("record", "sha"),)
    write_scores(tmp_path / "s1.h5", of_a_bag(state="no_tissue", reason="none <here>", heads=heads))
    found = read_scores(tmp_path / "s1.h5")
    assert (found.state, found.reason, found.scores) == ("no_tissue", "none <here>", ())


def change(file: h5py.File, name: str, array: np.ndarray) -> None:
    del file[name]
    file[name] = array


SPOILT = {
    "record is no text": (lambda f: change(f, "record", np.zeros(3)), "not text of a sensible"),
    "record is no JSON": (
        lambda f: change(f, "record", np.frombuffer(b"{", np.uint8)),
        "record cannot be used",
    ),
    "record lacks heads": (
        lambda f: change(f, "record", np.frombuffer(b'{"name": "s1"}', np.uint8)),
        "record cannot be used",
    ),
    "record is a group": (
        lambda f: (f.__delitem__("record"), f.create_group("record")),
        "record is not the numbers",
    ),
    "no attention": (lambda f: f.__delitem__("attention"), "it has no attention"),
    "attention of another length": (
        lambda f: change(f, "selected", np.zeros((1, TILES + 1), bool)),
        "selected has 8 rows along tile",
    ),
    "more heads than records": (
        lambda f: change(f, "logits", np.zeros((2, 2), np.float32)),
        "rows along head",
    ),
    "numbers of another kind": (
        lambda f: change(f, "attention", np.zeros((1, TILES), np.int32)),
        "attention does not hold the numbers",
    ),
    "a claim of tiles that were never written": (
        lambda f: (
            f.__delitem__("attention"),
            f.create_dataset("attention", (1, 10**12), np.float32, chunks=(1, 1024)),
        ),
        "claims data that was never written",
    ),
    "no end mark": (lambda f: f.attrs.__delitem__("complete"), "has no end mark"),
    "another version": (
        lambda f: f.attrs.__setitem__("format_version", 2),
        r"expected mil\.score version 1, found mil\.score version 2",
    ),
}


def test_heads_with_more_branches_than_others_of_their_recipe(tmp_path):
    """Ensembles average more members in one fold than in another."""
    few = of_a_head(branch_logits=numbers(2, 2), branch_attention=numbers(TILES, 2))
    none = of_a_head(branch_logits=None, branch_attention=None)
    written = of_a_bag(of_a_head(), few, none)
    write_scores(tmp_path / "s1.h5", written)
    read = read_scores(tmp_path / "s1.h5", branches=True)
    for then, now in zip(written.scores[:2], read.scores, strict=False):
        np.testing.assert_array_equal(now.branch_logits, then.branch_logits)
        np.testing.assert_array_equal(now.branch_attention, then.branch_attention)
    assert read.scores[2].branch_logits is None
    assert read.scores[2].branch_attention is None


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_file_that_cannot_be_is_one_line(tmp_path, spoil):
    how, message = SPOILT[spoil]
    write_scores(tmp_path / "s1.h5", of_a_bag(of_a_head()))
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        # As a file of an older version, whose numbers have no checksums.
        del file.attrs["xxh3_64"]
        how(file)
    with one_line(FormatError, match=message):
        read_scores(tmp_path / "s1.h5")


def test_scores_of_another_bag_are_refused(tmp_path):
    from mil.io.bags.fingerprint import bag_digest

    bag = tmp_path / "bags/s1.h5"
    bag.parent.mkdir()
    features = RNG.normal(size=(TILES, 4))
    bag_file(bag, "s1", features)
    scores = of_a_bag(of_a_head(), bags=(ScoredBag("s1", bag_digest(bag)),))
    check_bags(scores, tmp_path / "s1.h5", [bag])
    for changes in (
        {"features": features + 1},
        {"features": features, "valid": np.arange(TILES) > 0},
        {"features": features, "coords": np.zeros((TILES, 2), int)},
    ):
        bag_file(bag, "s1", **changes)
        with one_line(FormatError, match=r"from another bag than .* delete it and run"):
            check_bags(scores, tmp_path / "s1.h5", [bag])
    with pytest.raises(FormatError, match="from 1 bags, not from 2"):
        check_bags(scores, tmp_path / "s1.h5", [bag, bag])


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a\n", "x" * 500, "ä" * 180, "*", ""])
def test_a_patients_name_that_cannot_be_a_files_is_escaped(tmp_path, name):
    path = score_path(tmp_path, name)
    assert path.parent == tmp_path
    assert len(path.name.encode()) < 255
    assert path.resolve().parent == tmp_path.resolve()
    write_scores(path, of_a_bag(of_a_head(), name=name))
    assert read_scores(path).name == name


def test_slides_keep_their_names(tmp_path):
    for name in ("S 12 (HE) $HOME;x", "Größe-3.1"):
        assert score_path(tmp_path, name) == tmp_path / f"{name}.h5"


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def killed(_):
        raise KeyboardInterrupt

    scores = of_a_bag(of_a_head())
    monkeypatch.setattr("mil.io.scores.write._stacked", killed)
    with pytest.raises(KeyboardInterrupt):
        write_scores(tmp_path / "s1.h5", scores)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["logits", "predictions", "attention"])
def test_values_that_no_head_gives_are_refused(tmp_path, name):
    write_scores(tmp_path / "s1.h5", of_a_bag(of_a_head()))
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        del file.attrs["xxh3_64"]
        file[name][...] = np.nan
    with pytest.raises(FormatError, match=f"{name} holds values that are not numbers; delete it"):
        read_scores(tmp_path / "s1.h5")


def test_attention_is_a_share_of_one(tmp_path):
    write_scores(tmp_path / "s1.h5", of_a_bag(of_a_head()))
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        file["attention"][0, 2] += 0.5
    with pytest.raises(FormatError, match="its attention differ from their checksum"):
        read_scores(tmp_path / "s1.h5")
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        del file.attrs["xxh3_64"]
    with pytest.raises(FormatError, match="attention is no share of 1"):
        read_scores(tmp_path / "s1.h5")


def test_attention_has_a_value_for_each_tile(tmp_path):
    scores = of_a_bag(of_a_head())
    check_tiles(scores, tmp_path / "s1.h5", TILES)
    with pytest.raises(FormatError, match="has attention of 7 tiles, not of 8"):
        check_tiles(scores, tmp_path / "s1.h5", 8)
