"""`mil bench learn`: banks, cohorts, trainings, the ceiling, tables, results that are resumed."""

import json
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mil.bench import learn, learn_encode
from mil.bench.learn import BankOptions, FitTask, run, run_task
from mil.bench.learn_bank import FeatureBank, stain_file, write_features
from mil.bench.learn_cohorts import CohortName, CohortSettings, bags_of, build_cohort
from mil.bench.learn_encode import TileSource, at_most, open_bank, open_source, source_digest
from mil.bench.learn_fit import SlidePrediction, train_and_predict
from mil.bench.learn_probe import probe_and_predict
from mil.bench.learn_results import LearnResult, TestMetrics, measure
from mil.bench.learn_rows import LearnRun, references_of, rows_of
from mil.bench.learn_stains import stain_groups
from mil.bench.learn_table import CEILING, by_cohort, difference_table, estimate, learn_table
from mil.cli import app
from mil.config import Recipe, load_recipe
from mil.demo.composite import oriented, stained
from mil.demo.composite_plan import Stain, plan_composites
from mil.demo.labelled_tiles import read_labelled_tiles, read_tile
from mil.errors import ConfigError, DatasetError, FormatError
from mil.features.stain import normalise
from mil.io.bags.stain import SlideStain
from tests.labelled_tiles import labelled_tiles
from tests.messages import one_line

DIM = 8
STAINS = 16
SMALL = CohortSettings(
    train_slides=6, val_slides=4, test_slides=6, second_test_slides=8, witness=0.2
)
QUICK = Recipe.model_validate(
    {
        "name": "abmil",
        "options": {"hidden": 8, "attention": 4},
        "losses": {"cross_entropy": {"start": 1.0}},
        "train": {"epochs": 2, "batch_bags": 2, "lr": 0.01},
    }
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Features of 60 tiles of each class, in which the first feature tells tumour."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    features = rng.normal(size=(STAINS, 120, DIM))
    features[..., 0] += 6 * labels
    # Marks of stain and tile, so that tests can tell where a row comes from.
    features[..., 1] = np.arange(STAINS)[:, None]
    features[..., 2] = np.arange(120)
    usable = np.arange(120) % 20 != 0
    folder = tmp_path_factory.mktemp("bank")
    bank = FeatureBank(folder, "digest", labels, usable, STAINS)
    for stain in range(STAINS):
        write_features(folder / stain_file(stain), features[stain].astype(np.float16))
    cohort = SMALL.tool_cohort(0)
    rows = [features[0, slide.tiles] for slide in bank.tool_slides(cohort)]
    write_features(folder / cohort.file, np.concatenate(rows).astype(np.float16))
    return bank


@pytest.fixture
def ready(bank, monkeypatch):
    """Commands use the bank, and encode nothing."""
    source = TileSource(None, None, bank.digest)
    monkeypatch.setattr(learn, "open_source", lambda *_, **__: source)
    monkeypatch.setattr(learn, "open_bank", lambda *_, **__: bank)


def drawn(bank, seed=1, **changes):
    return build_cohort(bank, CohortName("drawn", seed), SMALL.model_copy(update=changes))


def start(tmp_path, json=None, settings=SMALL, **changes):
    choices = {"heads": ["mean"], "loops": ["own"], "cohorts": 2, "tool_seeds": [], "seeds": 1}
    return run(
        tmp_path,
        LearnRun(**{**choices, **changes}),
        settings,
        BankOptions(tmp_path, "x", STAINS, 100, "cpu"),
        threads=1,
        json=json,
    )


def quick_file(tmp_path, name="quick", **train):
    path = tmp_path / f"{name}.yaml"
    content = QUICK.model_dump(mode="json")
    content["train"].update(train)
    path.write_text(json.dumps(content))
    return str(path)


def sets_of(cohort):
    return cohort.train, cohort.valid, *cohort.tests


def test_sets_share_no_tile_and_test_sets_no_stain(bank):
    cohort = drawn(bank, train_slides=20)
    tiles = [set(np.concatenate([slide.tiles for slide in part])) for part in sets_of(cohort)]
    assert sum(map(len, tiles)) == len(set.union(*tiles))
    assert set.union(*tiles) <= set(np.flatnonzero(bank.usable))
    train, valid, first, second = ({slide.stain for slide in part} for part in sets_of(cohort))
    assert not (train | valid) & first
    assert not (train | valid | first) & second
    assert len(train) > 5


@pytest.mark.parametrize(("seed", "trained"), [(1, 1), (2, 0)])
def test_a_stain_shift_tests_on_all_tiles_of_the_other_stain(bank, seed, trained):
    groups = np.where(bank.usable, np.arange(120) % 3 == 0, -1)
    cohort = drawn(replace(bank, groups=groups), seed=seed, train_slides=40, stain_shift=True)
    tiles = [set(np.concatenate([slide.tiles for slide in part])) for part in sets_of(cohort)]
    assert sum(map(len, tiles)) == len(set.union(*tiles))
    *same, other = tiles
    assert set.union(*same) <= set(np.flatnonzero(groups == trained))
    assert other <= set(np.flatnonzero(groups == 1 - trained))
    # 45 % for training, and the 20 % that a second test set has without a shift.
    assert len(tiles[0]) == pytest.approx(0.65 * (groups == trained).sum(), abs=4)


def test_stains_that_tell_the_classes_apart_are_refused(bank):
    groups = np.where(bank.labels == 1, 0, np.arange(120) % 2)
    with one_line(DatasetError, "no tile of the class 'tumour' has the other stain"):
        drawn(replace(bank, groups=groups), seed=2, stain_shift=True)


def test_slides_of_the_tool_have_all_stains():
    with one_line(ConfigError, "--stain-shift"):
        SMALL.model_copy(update={"stain_shift": True}).tool_cohort(0)


def test_tiles_are_told_apart_by_their_stain_not_by_their_darkness(tmp_path):
    tiles = read_labelled_tiles(labelled_tiles(tmp_path / "tiles", 6))
    rng = np.random.default_rng(0)
    purple, pink = np.array([0.5, 0.9, 0.3]), np.array([0.3, 0.9, 0.8])
    is_pink = np.arange(len(tiles.paths)) % 3 == 0
    for path, pink_one in zip(tiles.paths, is_pink, strict=True):
        density = rng.uniform(0.2, 1.5) * (pink if pink_one else purple)
        noise = rng.normal(0, 0.02, (8, 8, 3))
        pixels = (256 * np.exp(-(density + noise))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    usable = np.arange(len(tiles.paths)) != 4
    expected = np.where(usable, is_pink, -1)
    np.testing.assert_array_equal(stain_groups(tiles, usable), expected)


def test_slides_hold_the_banks_features_and_a_spot_of_tumour(bank):
    cohort = drawn(bank)
    assert [len(part) for part in sets_of(cohort)] == [6, 4, 6, 8]
    for part in sets_of(cohort):
        assert [int(slide.bag.label) for slide in part] == [0, 1] * (len(part) // 2)
        for slide in part:
            features = slide.bag.features.numpy()
            np.testing.assert_array_equal(features, bank.features()[slide.stain, slide.tiles])
            np.testing.assert_array_equal(slide.tile_labels, bank.labels[slide.tiles])
            share = slide.tile_labels.mean()
            assert share == pytest.approx(0.2 * int(slide.bag.label), abs=0.01)
            assert slide.bag.coords.shape == (len(slide.tiles), 2)
            assert (slide.bag.coords % 224 == 0).all()
            assert len(slide.bag.coords.unique(dim=0)) == len(slide.tiles)


def test_a_cohort_is_the_same_again_and_sizes_change_no_other_set(bank):
    one, again, other = drawn(bank), drawn(bank), drawn(bank, seed=2)
    longer = drawn(bank, train_slides=12)
    for part, same, different in zip(*map(sets_of, (one, again, other)), strict=True):
        for slide, equal in zip(part, same, strict=True):
            assert torch.equal(slide.bag.features, equal.bag.features)
        assert any(
            list(slide.tiles) != list(new.tiles) for slide, new in zip(part, different, strict=True)
        )
    for part, longer_part in zip(sets_of(one), sets_of(longer), strict=True):
        assert [slide.tiles.tolist() for slide in part] == [
            slide.tiles.tolist() for slide in longer_part[: len(part)]
        ]


def test_a_tool_cohort_trains_on_the_slides_of_demo_composites(bank):
    cohort = build_cohort(bank, CohortName("tool", 0), SMALL)
    plan = plan_composites(bank.labels, bank.usable, slides=12, witness=0.2, seed=0)
    assert [slide.tiles.tolist() for slide in (*cohort.train, *cohort.valid)] == [
        slide.tiles.tolist() for slide in plan[:8]
    ]
    for slide in cohort.train:
        assert slide.stain is None
        np.testing.assert_array_equal(slide.bag.features[:, 2].numpy(), slide.tiles)
    test_pool = {int(tile) for slide in plan[8:] for tile in slide.tiles}
    tiles = [set(np.concatenate([slide.tiles for slide in part])) for part in sets_of(cohort)]
    assert sum(map(len, tiles)) == len(set.union(*tiles))
    # Tests are drawn from the tool's test pool, of which its few slides show a part.
    assert test_pool <= set(range(120)) - tiles[0] - tiles[1]


def test_too_few_stains_or_tiles(bank):
    with one_line(DatasetError, "3 stains are too few .* set --stains to 4 or more"):
        drawn(replace(bank, stains=3))
    few = replace(bank, usable=np.arange(120) % 60 < 3)
    with one_line(DatasetError, "3 tiles of the class 'normal' .* too few for 4"):
        drawn(few)


def test_the_ceiling_finds_planted_tumour(bank):
    cohort = drawn(bank)
    for predictions, slides in zip(probe_and_predict(*cohort), cohort.tests, strict=True):
        metrics = measure(predictions, slides)
        assert metrics.slide_auroc > 0.9
        assert metrics.tile_auroc > 0.99


def predictions_of(bank, recipe, seed=1):
    cohort = drawn(bank)
    tests = [bags_of(part) for part in cohort.tests]
    return cohort, train_and_predict(
        recipe, bags_of(cohort.train), bags_of(cohort.valid), tests, seed=seed
    )


def test_a_training_is_the_same_again_and_another_with_another_seed(bank):
    cohort, one = predictions_of(bank, QUICK)
    _, again = predictions_of(bank, QUICK)
    _, other = predictions_of(bank, QUICK, seed=2)
    assert [len(part) for part in one] == [6, 8]
    for prediction, slide in zip(one[0], cohort.tests[0], strict=True):
        assert 0 < prediction.probability < 1
        assert 0 < prediction.calibrated < 1
        assert prediction.attention.shape == slide.tiles.shape
        assert prediction.attention.sum() == pytest.approx(1, abs=1e-5)
    assert [p.probability for p in one[1]] == [p.probability for p in again[1]]
    assert [p.probability for p in one[1]] != [p.probability for p in other[1]]


@pytest.mark.parametrize("head", ["ibmil", "graph_select"])
def test_heads_in_two_stages_and_with_graphs_train(bank, head):
    recipe = load_recipe(head)
    short = recipe.train.model_copy(update={"epochs": 1})
    options = {"hidden": 8, "attention": 4}
    quick = recipe.model_copy(update={"train": short, "options": recipe.options | options})
    _, tests = predictions_of(bank, quick)
    assert all(np.isfinite(prediction.probability) for part in tests for prediction in part)


def test_metrics_by_hand(bank):
    cohort = drawn(bank)
    slides = cohort.tests[0][:4]
    predictions = [
        SlidePrediction(probability, 0.5, slide.tile_labels * float(sign))
        for probability, slide, sign in zip(
            [0.2, 0.9, 0.6, 0.4], slides, [1, 1, 1, -1], strict=True
        )
    ]
    metrics = measure(predictions, slides)
    assert metrics.slide_auroc == 0.75
    assert metrics.tile_auroc == 0.5  # 1 in one positive slide, 0 in the other
    assert metrics.log_loss == pytest.approx(-np.mean(np.log([0.8, 0.9, 0.4, 0.4])))
    assert metrics.calibrated_log_loss == pytest.approx(log(2))
    certain = [prediction._replace(probability=0.0) for prediction in predictions]
    assert np.isfinite(measure(certain, slides).log_loss)


def result(cohort, row, seed, slide, tile=0.5, loss=1.0):
    tests = [
        TestMetrics(slide_auroc=area, tile_auroc=tile, log_loss=loss, calibrated_log_loss=loss / 2)
        for area in slide
    ]
    return LearnResult(cohort=cohort, row=row, recipe=None, seed=seed, tests=tests, seconds=2.0)


RESULTS = [
    result("1", "a", 1, (0.8, 0.7)),
    result("1", "a", 2, (1.0, 0.7)),
    result("2", "a", 1, (0.7, 0.6)),
    result("2", "a", 2, (0.7, 0.6), loss=2.0),
    result("1", "b", 1, (0.7, 0.7)),
    result("2", "b", 1, (0.6, 0.8)),
]


def test_figures_are_means_over_seeds_and_then_over_cohorts():
    np.testing.assert_allclose(by_cohort("a", RESULTS)["1"], [0.9, 0.7, 0.5, 0.5, 1.0, 0.5])
    row, chance = learn_table("", ["a"], RESULTS, SMALL).rows
    # Cohorts 0.9 and 0.7: standard deviation 0.2 / sqrt(2), over sqrt(2).
    assert row["slide_1"] == "0.800 ± 0.100"
    assert row["slide_2"] == "0.650 ± 0.050"
    assert row["log_loss"] == "1.250 ± 0.250"
    assert row["calibrated"] == "0.625 ± 0.125"
    assert row["s_a_fit"] == 2.0
    # Cohort 2: 0.7 and 0.6.
    assert row["lowest"] == "0.650"
    assert list(row) == list(chance)
    # 3 against 3 slides: sqrt(7 / 108), of two cohorts over sqrt(2).
    assert chance["slide_1"] == "0.500 ± 0.180"
    assert chance["log_loss"] == "0.693"
    assert str(estimate([0.5])) == "0.500"


def test_differences_are_paired_by_cohort():
    (row,) = difference_table({"a": "b"}, RESULTS).rows
    # 0.9 - 0.7 and 0.7 - 0.6.
    assert row["slide_1"] == "+0.150 ± 0.050"
    # 0.7 - 0.7 and 0.6 - 0.8.
    assert row["slide_2"] == "-0.100 ± 0.100"
    # Means of both sets: +0.1 and -0.05.
    assert row["better"] == "1 of 2"


def test_the_published_loop_changes_the_training_alone():
    rows = rows_of(LearnRun(["acmil"], ["own", "published"], 1, [], 1))
    assert list(rows) == [CEILING, "acmil", "acmil@published"]
    own, published = rows["acmil"], rows["acmil@published"]
    assert (published.options, published.losses) == (own.options, own.losses)
    train = published.train
    assert (train.epochs, train.batch_bags, train.lr, train.select) == (50, 1, 1e-4, "loss")
    assert (train.min_lr, train.weight_decay, train.patience) == (0, 1e-5, None)


def test_references():
    both = LearnRun(["abmil", "max"], ["own", "published"], 1, [], 1)
    rows = list(rows_of(both))
    assert references_of(both, rows) == {}
    assert references_of(both._replace(against="published"), rows) == {
        "abmil": "abmil@published",
        "max": "max@published",
    }
    assert references_of(both._replace(against="max"), rows) == dict.fromkeys(
        ["abmil", "abmil@published", "max@published"], "max"
    )
    with one_line(ConfigError, "--against: no row named 'maxx'; did you mean 'max'"):
        references_of(both._replace(against="maxx"), rows)
    with one_line(ConfigError, "--against published: needs --loop own and --loop published"):
        references_of(both._replace(against="published", loops=["own"]), rows)
    with one_line(ConfigError, "--loop: no loop named 'publish'"):
        rows_of(both._replace(loops=["publish"]))
    with one_line(ConfigError, "two rows max"):
        rows_of(both._replace(heads=["max", "max"]))


def test_results_are_kept_and_resumed(ready, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    head = quick_file(tmp_path)
    start(tmp_path, path, heads=[head], cohorts=1)
    trained = []

    def counted(task: FitTask):
        trained.append((str(task.cohort), task.row, task.seed))
        if task.seed == 2:
            raise KeyboardInterrupt
        return run_task(task)

    monkeypatch.setattr(learn, "run_task", counted)
    more = {"heads": [head], "cohorts": 1, "tool_seeds": [0], "seeds": 2}
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, path, **more)
    assert trained == [("1", "quick", 2)]
    monkeypatch.setattr(learn, "run_task", lambda task: trained.append(task) or run_task(task))
    trained.clear()
    (table,) = start(tmp_path, path, **more)
    assert [(str(task.cohort), task.row, task.seed) for task in trained] == [
        ("1", "quick", 2),
        ("tool 0", CEILING, 1),
        ("tool 0", "quick", 1),
        ("tool 0", "quick", 2),
    ]
    assert [row["recipe"] for row in table.rows] == [CEILING, "quick", "chance"]
    trained.clear()
    assert start(tmp_path, path, **more)[0].rows == table.rows
    assert trained == []
    # Another recipe of that name is trained again.
    start(tmp_path, path, **{**more, "heads": [quick_file(tmp_path, epochs=1)]})
    assert len(trained) == 4
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 6
    assert {row["recipe"]["train"]["epochs"] for row in rows if row["recipe"]} == {1}


def test_results_of_something_else_are_not_touched(ready, tmp_path):
    path = tmp_path / "results.json"
    start(tmp_path, path, cohorts=1, heads=[quick_file(tmp_path)])
    before = path.read_text()
    other = SMALL.model_copy(update={"witness": 0.1})
    with one_line(FormatError, "other data, other settings or another version"):
        start(tmp_path, path, settings=other)
    assert path.read_text() == before
    for text in ("{", "[]", '{"format": "mil.bench"}'):
        path.write_text(text)
        with one_line((FormatError, ConfigError)) as caught:
            start(tmp_path, path)
        assert str(path) in str(caught.value)
        assert path.read_text() == text
    with one_line(ConfigError, "no cohort to train on"):
        start(tmp_path, cohorts=0)


@pytest.mark.slow
def test_two_processes_find_the_same(bank, tmp_path):
    tasks = [FitTask(bank, CohortName("drawn", seed), SMALL, "quick", QUICK, 1) for seed in (1, 2)]
    one = [run_task(task).tests for task in tasks]
    two = [result.tests for result in learn._run_all(tasks, 2)]
    assert one == two


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Ten small tiles of each class, and an encoder of 32 px with random weights."""
    monkeypatch.setattr(learn_encode, "CELL_PX", 32)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/encoders.yaml").write_text(
        "tiny: {timm: test_resnet, dim: 96, mpp: 0.5, licence: ours, weights: random}\n"
    )
    return labelled_tiles(tmp_path / "tiles", of_each=10)


def opened(tiles, tmp_path, **changes):
    source = open_source(tiles, encoder="tiny", max_tiles=1000, device="cpu")
    options = {"stains": 4, "tool_cohorts": [], "threads": 1}
    return open_bank(source, tmp_path / "cache", **{**options, **changes})


def test_tiles_are_encoded_once_in_stain_and_orientation(tiny, tmp_path, monkeypatch):
    seen = []
    real = learn_encode._compressed

    def noted(image):
        seen.append(image)
        return real(image)

    monkeypatch.setattr(learn_encode, "_compressed", noted)
    bank = opened(tiny, tmp_path)
    assert bank.features().shape == (4, 21, 96)
    assert len(seen) == 4 * 21
    assert not bank.usable[-1]
    # The first tile of the second stain, drawn as the module says.
    rng = np.random.default_rng(learn_encode.BANK_SEED)
    gain = rng.normal(1, 0.08, (64, 3))
    bias = rng.normal(0, 0.02, (64, 3))
    turns = rng.integers(4, size=(64, 21))
    flips = rng.random((64, 21)) < 0.5
    image = read_tile(read_labelled_tiles(tiny).paths[0], 32)
    expected = oriented(stained(image, Stain(gain[1], bias[1])), turns[1, 0], flip=flips[1, 0])
    np.testing.assert_array_equal(seen[21], expected)
    # More stains add to what is there; an interrupted bank is continued.
    (bank.folder / stain_file(2)).unlink()
    seen.clear()
    more = opened(tiny, tmp_path, stains=5, threads=2)
    assert len(seen) == 2 * 21
    assert more.folder == bank.folder
    np.testing.assert_array_equal(more.features()[:4], bank.features())
    seen.clear()
    assert opened(tiny, tmp_path, stains=5).digest == bank.digest
    assert seen == []


def test_normalised_stains_have_a_bank_of_their_own(tiny, tmp_path, monkeypatch):
    stain = SlideStain(colours=((0.6, 0.7, 0.3), (0.3, 0.9, 0.3)), maxima=(1.0, 2.0))
    samples = []
    monkeypatch.setattr(learn_encode, "check_stain_norm", lambda config: None)
    monkeypatch.setattr(learn_encode, "fit_stain", lambda pixels: samples.append(pixels) or stain)
    plain = opened(tiny, tmp_path)
    assert not samples
    options = {"encoder": "tiny", "max_tiles": 1000, "device": "cpu"}
    source = open_source(tiny, **options, stain_norm="macenko")
    bank = open_bank(source, tmp_path / "cache", stains=4, tool_cohorts=[], threads=1)
    assert bank.folder != plain.folder
    # Of the 20 tiles that are not blank, one after another.
    assert [len(pixels) for pixels in samples] == [20 * 32 * 32] * 4
    rng = np.random.default_rng(learn_encode.BANK_SEED)
    first = Stain(rng.normal(1, 0.08, (64, 3))[0], rng.normal(0, 0.02, (64, 3))[0])
    turns, flips = rng.integers(4, size=(64, 21)), rng.random((64, 21)) < 0.5
    image = stained(read_tile(read_labelled_tiles(tiny).paths[0], 32), first)
    tile = learn_encode._compressed(oriented(image, turns[0, 0], flip=flips[0, 0]))
    both = torch.from_numpy(np.stack([normalise(tile, stain.to_reference()), tile]))
    expected, other = source.encoder(both).numpy()
    np.testing.assert_allclose(bank.features()[0, 0], expected, rtol=0.03, atol=2e-3)
    assert np.abs(bank.features()[0, 0] - other).max() > 0.01


def test_other_tiles_have_a_bank_of_their_own(tiny, tmp_path):
    tiles = read_labelled_tiles(tiny)
    few = at_most(tiles, 8)
    assert few.labels.sum() == 4
    assert few.paths == sorted(few.paths, key=tiles.paths.index)
    assert at_most(tiles, 21) is tiles
    identity = {"encoder": "tiny"}
    digests = {
        source_digest(tiles, identity),
        source_digest(few, identity),
        source_digest(tiles, {"encoder": "other"}),
        source_digest(replace(tiles, labels=1 - tiles.labels), identity),
    }
    assert len(digests) == 4


def test_from_the_command_line(tiny, tmp_path):
    heads = ["--head", quick_file(tmp_path), "--head", quick_file(tmp_path, "slow", epochs=3)]
    arguments = ["bench", "learn", str(tiny), "--encoder", "tiny", "--stains", "4"]
    arguments += ["--cohorts", "1", "--tool-seed", "0", "--seeds", "1", *heads]
    arguments += ["--train-slides", "2", "--val-slides", "2", "--test-slides", "2"]
    arguments += ["--second-test-slides", "2", "--against", "quick"]
    arguments += ["--json", str(tmp_path / "o" / "learn.json")]
    failed = CliRunner().invoke(app, arguments)
    assert isinstance(failed.exception, ConfigError), failed.output
    assert "set --train-slides to 6 or more, not 2" in str(failed.exception)
    result = CliRunner().invoke(app, [*arguments, "--train-slides", "6"])
    assert result.exit_code == 0, result.output
    assert "2 cohorts, 6 training slides, 8 % tumour" in result.output
    assert "slow" in result.output
    assert "differences" in result.output
    folder = tmp_path / "o" / "learn-bank"
    assert len(list(folder.glob("bank-*/*.h5"))) == 5
    assert json.loads((tmp_path / "o/learn.json").read_text())["format"] == "mil.bench.learn"
