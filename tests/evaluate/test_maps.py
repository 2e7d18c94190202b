"""How good maps are, from score files to metrics.json: one planted tile, known by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mil.evaluate.dice import ranked_tiles
from mil.evaluate.evidence import evidence_checks, removed_tiles
from mil.evaluate.flipping import flip_curves
from mil.evaluate.mapped import (
    AnnotatedTiles,
    FoundTiles,
    MappedSlide,
    ScoredHead,
    ValidationTiles,
    _annotated_tiles,
    detection_scores,
    maps_of,
)
from mil.evaluate.maps import tile_metrics
from mil.evaluate.text import metrics_line
from mil.io.bags.patients import FoldBag
from mil.io.map_metrics import MapMetrics
from mil.io.results import read_metrics, write_metrics
from mil.io.scores import FLIP_SHARES, TileEvidence, read_scores, write_scores
from mil.statistics.flipping import flip_area
from mil.tasks import Regression
from tests.evaluate.mapped_study import (
    PLANTED,
    TILES,
    WITH,
    WITHOUT,
    evaluated,
    flipped,
    head_scores,
    logits,
    write_study,
)
from tests.evaluate.test_metrics import TASK, trained

SHARES = np.array(FLIP_SHARES)
# From one tile to the last share that leaves one: 0.9 of 12 tiles is 11, 0.95 is all.
AXIS = np.log10(0.9) - np.log10(1 / TILES)


def area(kind: str, scores) -> float:
    return flip_area(SHARES, flip_curves(TASK, [scores])[kind], TILES)


def test_the_planted_tile_gives_the_area_by_hand():
    """Lost with the first tile removed, kept to the last: 4 log-odds all along."""
    for kind in ("alone", "effect"):
        assert area(kind, head_scores(tumour=True)) == pytest.approx(WITH - WITHOUT)


def test_a_map_that_ranks_the_tile_in_the_middle_or_last_loses_the_area():
    """Attention of the first tile, others tie: the planted one is fifth of twelve."""
    # Gone with 5 tiles removed from the front (10^(-3/8)), with 8 from the back (10^(-1/8)).
    last = head_scores(tumour=True)
    turned = replace(last, flipped_logits=last.flipped_logits[:, ::-1])
    assert area("alone", turned) == pytest.approx(-area("alone", last))
    assert area("attention", last) == pytest.approx((WITH - WITHOUT) * (2 / 8) / AXIS)


def test_attention_counts_toward_the_prediction_and_evidence_toward_the_class():
    """A slide predicted normal, by a tile that speaks against tumour."""
    scores = head_scores(tumour=True)
    against = replace(scores, logits=-scores.logits, flipped_logits=-scores.flipped_logits)
    assert area("attention", against) == pytest.approx(area("attention", scores))
    # The order by evidence for tumour puts such a tile last: the same area once turned.
    turned = replace(against, flipped_logits=against.flipped_logits[:, ::-1])
    assert area("alone", turned) == pytest.approx(area("alone", scores))


def test_of_a_number_attention_counts_where_the_prediction_moves_either_way():
    task = Regression(mean=0.0, deviation=1.0)
    numbers = np.zeros((3, 2, len(FLIP_SHARES), 1))
    numbers[:, 0, 1:] = 2.0
    scores = replace(head_scores(tumour=True), logits=np.zeros(1), flipped_logits=numbers)
    curves = flip_curves(task, [scores])
    assert flip_area(SHARES, curves["attention"], TILES) == pytest.approx(2)
    # Removing what raises the number should lower it, and here it rises.
    assert flip_area(SHARES, curves["effect"], TILES) == pytest.approx(-2)


def test_curves_are_the_mean_over_heads_and_unknown_kinds_are_left_out():
    one = head_scores(tumour=True)
    without = one.flipped_logits.copy()
    without[1:] = np.nan
    curves = flip_curves(TASK, [one, replace(one, flipped_logits=without)])
    np.testing.assert_allclose(curves["attention"], flip_curves(TASK, [one])["attention"])
    np.testing.assert_allclose(curves["alone"], flip_curves(TASK, [one])["alone"])
    assert list(flip_curves(TASK, [replace(one, flipped_logits=without)])) == ["attention"]
    assert flip_curves(TASK, [replace(one, flipped_logits=None)]) == {}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def metrics(study):
    return evaluated(study)


def test_each_kind_is_measured_over_the_test_slides(metrics):
    assert list(metrics.maps) == ["attention", "alone", "effect"]
    found = metrics.maps["effect"].faithfulness
    # In normal slides no tile changes anything.
    assert found.area.value == pytest.approx((WITH - WITHOUT) / 2)
    assert found.per_slide["t0"] == pytest.approx(WITH - WITHOUT)
    assert found.per_slide["n0"] == 0
    assert (found.n_slides, found.unit) == (8, "log-odds")
    low, high = found.area.ci95
    assert low < found.area.value < high
    # Half the slides lose 4 log-odds, and the last two shares leave no tile.
    assert found.curves.shares == list(FLIP_SHARES)
    assert found.curves.most_first[0] == found.curves.least_first[-3] == 0
    assert found.curves.most_first[-3] == (WITHOUT - WITH) / 2
    assert found.curves.most_first[-2:] == [None, None]


def test_rollout_is_measured_beside_attention():
    """Attention looks at the first tile, whose features came from the annotated one."""
    rollout = np.full(TILES, 0.5 / (TILES - 1))
    rollout[PLANTED] = 0.5
    scores = replace(
        head_scores(tumour=True),
        rollout=rollout,
        flipped_rollout=flipped(np.argsort(-rollout, kind="stable"), tumour=True),
    )
    assert area("rollout", scores) == pytest.approx(area("effect", scores))
    tumour = FoldBag(fold=0, name="t0", slides=("t0",), patient="t0", label="tumour", split="test")
    heads = [ScoredHead(trained(), scores, tumour)]
    maps = {one.kind: one for one in maps_of(heads)}
    assert detection_scores(maps["rollout"], TASK, heads).argmax() == PLANTED
    share = (np.arange(TILES) == PLANTED).astype(float)
    found = _annotated_tiles(list(maps.values()), share)
    assert found.by_kind["rollout"].auroc == 1
    assert found.by_kind["attention"].auroc < 0.5
    # On the scale of attention: multiples of uniform.
    assert found.by_kind["rollout"].ranked.values[0] == pytest.approx(0.5 * TILES)


def test_evidence_finds_the_annotated_tile_and_attention_does_not(metrics):
    effect = metrics.maps["effect"].tiles
    assert effect.n_slides == 4
    assert effect.tile_auroc.value == effect.average_precision.value == effect.dice.value == 1
    assert effect.dice_thresholds == {"0": WITH - WITHOUT}
    assert "validation slides" in effect.dice_rule
    assert [hit.rate.value for hit in effect.top_hits] == [1, 1, 1]
    attention = metrics.maps["attention"].tiles
    # One of eleven others is above; the rest tie.
    assert attention.tile_auroc.value == pytest.approx(10 / 11 / 2)
    assert attention.average_precision_by_chance == pytest.approx(1 / TILES)
    assert [hit.k for hit in attention.top_hits] == [1, 5, 10]
    assert [hit.rate.value for hit in attention.top_hits] == pytest.approx([0, 4 / 11, 9 / 11])
    assert [hit.by_chance for hit in attention.top_hits] == pytest.approx([1 / 12, 5 / 12, 10 / 12])
    assert metrics.localisation.tile_auroc_mean == attention.tile_auroc.value


def test_attention_detects_by_the_probability_of_the_slide():
    """The tile of most attention has the slide's probability, others their part of it."""
    scores = head_scores(tumour=True)
    attention, alone, effect = maps_of([ScoredHead(trained(), scores, None)])
    heads = [ScoredHead(trained(), scores, None)]
    found = detection_scores(attention, TASK, heads)
    assert found[0] == scores.predictions[0]
    np.testing.assert_allclose(found[1:], found[0] / (TILES - 1), rtol=1e-6)
    number = Regression(mean=0.0, deviation=1.0)
    assert detection_scores(attention, number, heads)[0] == 1
    np.testing.assert_array_equal(detection_scores(alone, TASK, heads), alone.values)
    assert np.flatnonzero(detection_scores(effect, TASK, heads) > -np.inf) == [PLANTED]


def test_lesions_are_found_by_evidence_and_missed_by_attention(metrics):
    assert metrics.lesions.n_slides == 8
    # 112 x 224 um: the major axis of a rectangle is 4 L / sqrt(12).
    assert metrics.lesions.n_lesions == {"itc": 0, "micro": 4, "macro": 0}
    assert metrics.lesions.n_slides_with_lesions == 4
    assert metrics.lesions.left_out == {}
    effect = metrics.maps["effect"].froc
    assert effect.score.value == 1
    assert effect.by_size["micro"].n_lesions == 4
    assert effect.curve.sensitivity == [0, 1]
    attention = metrics.maps["attention"].froc
    # The first tile is false on every slide; the tile two further is lower and finds none.
    assert attention.sensitivity[0].value == 0
    assert attention.score.value < 1


def test_the_file_is_read_back_with_the_same_bytes(study, metrics):
    path = study / "out" / "metrics.json"
    read = read_metrics(path)
    assert read == metrics
    write_metrics(study / "again.json", read)
    assert (study / "again.json").read_bytes() == path.read_bytes()


def test_a_file_of_before_has_no_maps(study):
    content = json.loads((study / "out" / "metrics.json").read_text())
    for name in ("maps", "lesions", "evidence_checks"):
        del content[name]
    (study / "before.json").write_text(json.dumps(content))
    before = read_metrics(study / "before.json")
    assert (before.maps, before.lesions, before.evidence_checks) == ({}, None, [])


def test_the_closing_lines_name_each_kind(metrics):
    lines = metrics_line(metrics).splitlines()
    assert lines[1].startswith("attention: flipping area 0.")
    assert lines[3].startswith("effect of the tile: flipping area 2.000 (")
    assert " log-odds, tile AUROC 1.000, Dice 1.000, FROC 1.000 (" in lines[3]
    assert len(lines) == 4


def test_scores_without_evidence_are_said_in_one_line(metrics):
    heads = [ScoredHead(trained(), head_scores(tumour=True, evidence=False), None)]
    assert [one.kind for one in maps_of(heads)] == ["attention"]
    older = metrics.model_copy(update={"maps": {"attention": MapMetrics()}})
    (line,) = metrics_line(older).splitlines()[1:]
    assert line.startswith("Evidence of tiles was not evaluated")
    assert line.endswith("`mil score` computes it.")


def test_slides_that_cannot_count_are_named(tmp_path):
    study = write_study(tmp_path, more_yaml="incomplete_annotations: [t0, t9]\n")
    (study / "t1.geojson").unlink()
    (study / "n0.geojson").write_bytes((study / "t2.geojson").read_bytes())
    for slide in ("v0", "v1"):
        (study / f"{slide}.geojson").unlink()
    path = study / "scores" / "t0.h5"
    checked = estimated([PLANTED, 0, 7], [3, 0.5, 0])
    write_scores(path, replace(read_scores(path), scores=(checked,)))
    metrics = evaluated(study)

    assert metrics.lesions.n_slides == 5
    assert metrics.lesions.left_out == {
        "n0": "its label is normal, but its annotation outlines a positive region",
        "t0": "its annotation is not exhaustive (`incomplete_annotations` of the dataset's yaml)",
        "t1": "it has no annotation",
    }
    assert metrics.localisation.n_slides == 2
    lines = metrics_line(metrics)
    assert "Test slides that FROC leaves out (3): n0: its label is normal" in lines
    assert "`incomplete_annotations` names slides that the slide table lacks: t9." in lines

    # No validation slide is annotated: only the planted tile is above 0.
    tiles = metrics.maps["alone"].tiles
    assert (tiles.n_slides, tiles.dice_thresholds, tiles.dice.value) == (2, {"0": 0.0}, 1)
    assert tiles.dice_rule.startswith("Threshold (evidence of a tile) 0, since no validation")

    (check,) = metrics.evidence_checks
    assert (check.n_slides, check.n_tiles) == (1, 3)
    assert check.spearman == pytest.approx(3**0.5 / 2)


def test_each_fold_has_the_threshold_of_its_own_validation_slides():
    """Validation slides of one fold are test slides of another, and choose nothing there."""
    share = np.array([1.0, 0, 0, 0])
    values = np.array([4.0, 3, 2, 1])

    def mapped(slide, *folds):
        tiles = AnnotatedTiles(
            {"alone": FoundTiles(1.0, 1.0, np.ones(3), ranked_tiles(values, share))},
            0.25,
            np.ones(3),
        )
        return MappedSlide(slide, slide, frozenset(folds), 4, {}, tiles)

    def chosen(fold, threshold):
        ranked = ranked_tiles(np.array([threshold, -9.0]), share[:2])
        return ValidationTiles(fold, "alone", ranked)

    validation = [chosen(0, 4.0), chosen(1, 1.0), chosen(7, 0.0)]
    found = tile_metrics([mapped("a", 0), mapped("b", 1), mapped("c", 0, 1)], validation, "alone")
    assert found.dice_thresholds == {"0": 4.0, "1": 1.0}
    # One tile from 4 up, four from 1, two from the mean, 2.5.
    assert [slide["dice"] for slide in found.per_slide.values()] == pytest.approx([1, 2 / 5, 2 / 3])
    alone = tile_metrics([mapped("a", 0, 2)], validation, "alone")
    assert alone.dice_thresholds == {"0": 4.0, "2": 4.0}


def estimated(removed, effect):
    whole = head_scores(tumour=True)
    tiles = TileEvidence(
        alone=whole.evidence.alone,
        effect=whole.evidence.effect,
        removed_tiles=np.array(removed),
        removed_effect=logits(np.array(effect, float)) * [1, 0],
        completeness_error=0.004,
    )
    return replace(whole, evidence=tiles)


def test_estimated_effects_are_compared_with_real_ones():
    # The planted tile was removed with an effect of 3 and not of 4, two others with 0.5 and 0.
    checked = removed_tiles(trained(), estimated([PLANTED, 0, 7], [3, 0.5, 0]))
    assert checked.tiles == 3
    assert checked.pearson == pytest.approx(np.corrcoef([4, 0, 0], [3, 0.5, 0])[0, 1])
    assert removed_tiles(trained(), head_scores(tumour=True)) is None
    same = removed_tiles(trained(), estimated([0, 1], [0, 0]))
    assert same.pearson is None
    (check,) = evidence_checks([checked, same])
    assert (check.seed, check.fold, check.n_slides, check.n_tiles) == (1, 0, 2, 5)
    assert check.pearson == checked.pearson
    assert check.completeness_error_max == 0.004
