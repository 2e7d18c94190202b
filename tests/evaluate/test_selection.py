"""What a selection of tiles is worth: by hand, and from heads and bags to metrics.json."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from shapely import box

from mil.config import Recipe
from mil.evaluate.rows import EvaluatedSlide
from mil.evaluate.selection import Selected, annotated_tiles, of_selection
from mil.heads import build_head
from mil.io.annotations import feature, write_geojson
from mil.io.bags import read_bag
from mil.io.tables import read_csv, write_csv
from mil.score.selection import RANDOM_DRAWS
from mil.statistics.attention import entropy_share
from mil.statistics.classified import classification
from mil.tasks import Classification
from mil.trained import Trained, apply, load_trained, save_trained
from mil.trained.forward import forward_selections, tensors_of
from tests.scored import evaluate
from tests.synthetic import bag_file

CLASSES = ["normal", "tumour"]
DIM = 6
TILES = 40
SIDE = 448


def row(slide, label, seed, tiles, p, full, *, rest=None, found=None, of=10, random=0.5):
    drawn = np.full((RANDOM_DRAWS, 2), (1 - random, random))
    mine = Selected(
        np.array(tiles),
        of,
        np.array([1 - full, full]),
        drawn,
        rest and np.array([1 - rest, rest]),
        found,
    )
    return EvaluatedSlide(
        slide=slide,
        patient=slide,
        split="test",
        label=label,
        predictions={"p_normal": 1 - p, "p_tumour": p},
        recipe="r",
        encoder="e",
        seed=seed,
        fold=0,
        selection=mine,
    )


def test_by_hand():
    found = {"tile_precision": 0.5, "tile_recall": 1.0, "tile_prevalence": 0.2}
    rows = [
        row("a", "tumour", 1, [0, 1], 0.9, 0.6, rest=0.3, found=found),
        row(
            "b", "normal", 1, [0, 1, 2, 3, 4], 0.2, 0.7, rest=0.4, found=found
        ),  # negative: its annotation is ignored
        row("a", "tumour", 2, [1, 2], 0.8, 0.8, found={**found, "tile_precision": 1.0}, of=2),
        row("b", "normal", 2, [0, 1, 2, 3, 4], 0.2, 0.2),
    ]
    metrics = of_selection(rows, CLASSES, "tumour").model_dump()
    first, second = metrics["runs"]
    assert (first["seed"], first["n_slides"], second["seed"]) == (1, 2, 2)
    assert first["reduction"] == pytest.approx((0.8 + 0.5) / 2)
    assert second["reduction"] == pytest.approx((0.0 + 0.5) / 2)
    assert (first["agreement"], second["agreement"]) == (0.5, 1.0)
    kl = [
        0.6 * np.log(0.6 / 0.9) + 0.4 * np.log(0.4 / 0.1),
        0.7 * np.log(0.7 / 0.2) + 0.3 * np.log(0.3 / 0.8),
    ]
    assert first["kl"] == pytest.approx(np.mean(kl))
    assert second["kl"] == 0
    assert first["auroc_macro_selected"] == 1.0
    assert first["auroc_macro_full"] == first["auroc_macro_rest"] == 0.0
    assert first["auroc_macro_random"] == 0.5
    assert second["auroc_macro_rest"] is None
    assert (first["tile_precision"], first["tile_recall"], second["tile_precision"]) == (
        0.5,
        1.0,
        1.0,
    )
    assert metrics["over_runs"]["agreement"] == {
        "mean": 0.75,
        "sd": pytest.approx(0.5 / np.sqrt(2)),
    }
    assert metrics["over_runs"]["auroc_macro_rest"] == {"mean": 0.0, "sd": None}
    assert metrics["jaccard_over_seeds"] == {"mean": pytest.approx((1 / 3 + 1) / 2), "n_pairs": 2}
    assert metrics["per_slide"] == {"a": {**found, "tile_precision": 0.75}}
    json.dumps(metrics)


def test_heads_that_select_nothing():
    without = replace(row("a", "tumour", 1, [0], 0.9, 0.6), selection=None)
    assert of_selection([without], CLASSES, "tumour") is None


def test_annotated_tiles_that_are_found():
    share = np.array([1.0, 0.5, 0.3, 0.0, 0.0, 0.0])  # the third is on the border
    chosen = np.array([True, False, True, True, True, False])
    assert annotated_tiles(chosen, share) == {
        "tile_precision": 1 / 3,
        "tile_recall": 0.5,
        "tile_prevalence": 0.4,
    }
    assert annotated_tiles(chosen, np.zeros(6)) is None
    assert annotated_tiles(share == 0.3, share) is None


def test_spread_of_attention():
    assert entropy_share(np.full(7, 1 / 7)) == pytest.approx(1)
    assert entropy_share(np.array([0.5, 0.5, 0.0, 0.0])) == pytest.approx(0.5)
    assert entropy_share(np.array([1.0, 0.0])) == 0
    assert entropy_share(np.ones(1)) is None


def save_head(folder, name, seed, *, fold=0, **options):
    torch.manual_seed(seed)
    recipe = Recipe(name=name, options={"hidden": 8, **options}, losses={"cross_entropy": 1})
    trained = Trained(
        recipe_name=name,
        recipe=recipe,
        encoder="tiny",
        weights_sha256="0" * 64,
        tiling="224px_0.5mpp",
        dim=DIM,
        task=Classification(classes=CLASSES, positive="tumour"),
        dataset="toy",
        seed=seed,
        fold=fold,
        epoch=1,
    )
    save_trained(
        folder / f"{name}_{seed}",
        trained,
        build_head(name, recipe.options, dim=DIM, classes=2).state_dict(),
        {},
    )
    return folder / f"{name}_{seed}"


@pytest.fixture
def study(tmp_path):
    """Six bags, four of them test slides; two tiles of each tumour are annotated.

    In one tumour a part of a third tile is, too.
    """
    rng = np.random.default_rng(0)
    rows = []
    for i in range(6):
        slide = f"s{i}"
        label = CLASSES[i % 2]
        bag_file(tmp_path / "bags" / f"{slide}.h5", slide, rng.normal(size=(TILES, DIM)))
        split = "test" if i < 4 else "train"
        rows.append({"fold": 0, "slide": slide, "patient": slide, "label": label, "split": split})
        if label == "tumour":
            write_geojson(
                tmp_path / f"{slide}.geojson",
                [feature(box(0, 0, SIDE * (1.5 + 0.2 * i), SIDE), {})],
            )
    (tmp_path / "toy.yaml").write_text(
        'classes: [normal, tumour]\nannotation_paths: ["{slide}.geojson"]\n'
    )
    write_csv(
        tmp_path / "toy.csv", [{k: r[k] for k in ("slide", "patient", "label")} for r in rows]
    )
    write_csv(tmp_path / "folds.csv", rows)
    return tmp_path


def evaluated(study, heads):
    where = study / "bags", study / "folds.csv", study / "out"
    return evaluate(str(study / "toy.yaml"), heads, *where, slides_dir=study, threads=1)


def test_heads_and_bags_give_metrics(study):
    # Graphs by features alone: each tile that is removed makes a graph anew.
    options = {"keep_least": 4, "graph": ["knn"]}
    heads = [save_head(study, "graph_select", seed, **options) for seed in (1, 2)]
    metrics = evaluated(study, heads)
    assert json.loads((study / "out" / "metrics.json").read_text()) == metrics
    selection = metrics["selection"]
    assert selection["over_runs"]["reduction"] == {
        "mean": pytest.approx(0.9),
        "sd": pytest.approx(0),
    }
    assert selection["jaccard_over_seeds"]["n_pairs"] == 4
    assert list(selection["per_slide"]) == ["s1", "s3"]
    applied = [
        apply(*load_trained(heads[0]), read_bag(study / "bags" / f"s{i}.h5")) for i in range(4)
    ]
    full = classification(
        np.array([0, 1, 0, 1]), np.stack([one.selection.full.predictions for one in applied])
    )
    found = {
        name.removesuffix("_full"): v
        for name, v in selection["runs"][0].items()
        if name.endswith("_full")
    }
    assert found == full
    mine = {
        name.removesuffix("_selected"): v
        for name, v in selection["runs"][0].items()
        if name.endswith("_selected")
    }
    run = metrics["runs"][0]
    assert mine == {
        "auroc_macro": run["auroc"],
        "f1_macro": run["f1_macro"],
        "accuracy": run["accuracy"],
    }
    assert "selection" not in read_csv(study / "out" / "predictions.csv")[0]


def test_a_head_answers_from_what_it_is_given(study):
    head, trained = load_trained(save_head(study, "graph_select", 1, keep_least=4))
    bag = read_bag(study / "bags" / "s1.h5")
    applied = apply(head, trained, bag)
    selected = applied.selection.selected
    own, all_tiles, rest = forward_selections(
        head, trained, tensors_of(bag), [selected, np.ones(TILES, bool), ~selected]
    ).predictions
    np.testing.assert_allclose(own, applied.predictions, rtol=1e-5)
    np.testing.assert_allclose(all_tiles, applied.selection.full.predictions, rtol=1e-5)
    assert np.abs(rest - own).max() > 1e-4


def test_tile_auroc_and_spread_of_attention_of_each_run(study):
    metrics = evaluated(study, [save_head(study, "abmil", seed) for seed in (1, 2, 3)])
    assert metrics["selection"] is None
    for number, each in enumerate(metrics["runs"], start=1):
        head, trained = load_trained(study / f"abmil_{number}")
        attention = [
            apply(head, trained, read_bag(study / "bags" / f"s{i}.h5")).attention for i in range(4)
        ]
        above = [
            (one[:2, None] > one[first:]).mean()
            for one, first in ((attention[1], 2), (attention[3], 3))
        ]
        assert each["tile_auroc"] == pytest.approx(np.mean(above))
        assert each["attention_entropy_share"] == pytest.approx(
            np.mean([entropy_share(a) for a in attention])
        )
    values = [each["tile_auroc"] for each in metrics["runs"]]
    assert metrics["over_runs"]["tile_auroc"] == {
        "mean": pytest.approx(np.mean(values)),
        "sd": pytest.approx(np.std(values, ddof=1)),
    }
    assert 0 < metrics["over_runs"]["attention_entropy_share"]["mean"] <= 1


def test_the_ensemble_of_a_slide_is_the_heads_that_held_it_out(study):
    """The second fold trains on two of the test slides of the first."""
    rows = read_csv(study / "folds.csv")
    seen = ("s0", "s1")
    second = [r | {"fold": 1, "split": "train" if r["slide"] in seen else "test"} for r in rows]
    write_csv(study / "folds.csv", [*rows, *second])
    heads = [save_head(study, "abmil", seed, fold=fold) for seed, fold in ((1, 0), (2, 0), (3, 1))]
    metrics = evaluated(study, heads)
    assert metrics["predicted_by"] == "ensemble of 1 to 3 heads per slide"
    # Of s1 two tiles are annotated, of s3 and s5 two and a part of a third and more.
    for slide, of_slide, first in (("s1", heads[:2], 2), ("s3", heads, 3), ("s5", heads[2:], 3)):
        bag = read_bag(study / "bags" / f"{slide}.h5")
        attention = np.mean([apply(*load_trained(one), bag).attention for one in of_slide], axis=0)
        inside = attention[:2] if slide != "s5" else attention[:3]
        expected = (inside[:, None] > attention[first:]).mean()
        assert metrics["localisation"]["per_slide"][slide] == pytest.approx(expected)
        assert metrics["attention_entropy_share"][slide] == pytest.approx(entropy_share(attention))
        hit = metrics["localisation"]["hottest_tile"]["per_slide"][slide]
        assert hit["hit"] == (attention.argmax() < len(inside))
        assert hit["by_chance"] == len(inside) / TILES
