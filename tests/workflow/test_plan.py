"""What a run plans, before and after another."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.workflow.conftest import ROOT, SNAKEMAKE

GATHERED = {"evaluate": 1, "compare": 1, "card": 1, "report": 1}
MODELS = {"train": 1, "score": 3, "heatmap": 3, **GATHERED}
ALL = {"tile": 3, "features": 3, "bags": 1, "split": 1, **MODELS}


@pytest.mark.slow
def test_a_fresh_study_plans_everything(study):
    assert study.planned("head=abmil") == ALL


@pytest.mark.slow
def test_a_job_trains_a_recipe_with_all_seeds_and_folds(study):
    study.write_table({name: ("normal", "tumour")[i % 2] for i, name in enumerate("abcdef")})
    assert study.planned("head=[abmil,acmil]", "seeds=2", "folds=3")["train"] == 2


@pytest.mark.slow
def test_a_finished_study_and_one_slide_more(finished):
    assert finished.planned("head=abmil") == {}

    finished.write_table({"a": "normal", "b": "tumour", "c": "tumour", "d": "normal"})
    one_more = finished.planned("head=abmil")
    # The new slide changes the folds, they change the heads, and those score all slides anew.
    changed = {"bags": 1, "split": 1, "train": 1, "score": 4, "heatmap": 4}
    new = {"tile": 1, "features": 1, **changed}
    assert one_more == new | GATHERED


@pytest.mark.slow
def test_a_finished_study_with_another_head(finished):
    other_head, output = finished.planned_and_shown("head=acmil")
    assert other_head == MODELS
    commands = re.findall(r"mil score .*", output)
    assert len(commands) == 3  # one for each part
    assert all("/acmil/" in command and "/abmil/" not in command for command in commands)


@pytest.mark.slow
def test_a_baseline_beside_the_heads_computes_nothing_else_again(finished):
    """One job for fit, scores and metrics, and what gathers: no heatmap, no model card."""
    config = ("head=abmil", "baseline=linear_probe")
    plan, output = finished.planned_and_shown(*config)
    assert plan == {"baseline": 1, "compare": 1, "report": 1}
    command = re.search(r"mil baseline .*", re.sub(r"\s+", " ", output))[0]
    place = RESULTS.format("train") + "/linear_probe/seed{seed}_fold{fold}of1"
    assert f"--seed 1 --fold 0 --heads '{place}' --scores" in command
    assert "--baseline linear_probe" in output
    assert finished.snakemake("--config", "dataset=toy", *config).returncode == 0
    assert finished.planned(*config) == {}
    assert finished.planned(*config, "seeds=2")["baseline"] == 1
    # As one of the heads it is trained, scored and drawn as they are.
    both = finished.planned("head=[abmil,linear_probe]", "baseline=linear_probe")
    assert "baseline" not in both
    assert (both["train"], both["heatmap"]) == (1, 3)


@pytest.mark.slow
def test_a_finished_study_with_other_settings(finished):
    more_seeds = finished.planned("head=abmil", "seeds=2")
    assert (more_seeds["train"], more_seeds["card"]) == (1, 1)
    assert not {"tile", "features", "split"} & set(more_seeds)

    only_tests_drawn = finished.planned("head=abmil", "heatmap={slides: test}")
    assert not {"tile", "features", "split", "train", "score"} & set(only_tests_drawn)

    other_tissue = finished.planned("head=abmil", "tile={min_tissue: 0.5}")
    assert (other_tissue["tile"], other_tissue["features"]) == (3, 3)

    finished.write_table({"a": "normal", "b": "tumour", "c": "tumour", "d": "normal"})
    other_folds = finished.planned("head=abmil", "folds=2")
    assert (other_folds["tile"], other_folds["features"], other_folds["train"]) == (1, 1, 1)


@pytest.mark.slow
def test_finer_maps_are_made_where_they_are_asked_for(finished):
    stride = "heatmap={stride: 0.25}"
    assert finished.planned(stride, "head=abmil") == {"refine": 3}
    assert finished.snakemake("--config", "dataset=toy", stride, "head=abmil").returncode == 0
    assert finished.planned(stride, "head=abmil") == {}
    # A slide that comes back gets its map; of one that is gone nothing is missing.
    results = finished.folder / "results/toy"
    next(results.glob("refine/*/*/*/a.png")).unlink()
    next(results.glob("heatmap/*/*/*/b.tiles.jpg")).unlink()
    assert finished.planned(stride, "head=abmil") == {"refine": 1, "heatmap": 1, "report": 1}


@pytest.mark.slow
def test_a_published_slide_encoder_takes_part_with_its_own_encoder_alone(study):
    entry = study.folder / "configs/slide_encoders/chief.yaml"
    entry.parent.mkdir()
    entry.write_text(
        "encoder: resnet18\ntile_um: 112\ndim: 8\nparameters: 8\nweights: random\nlicence: none\n"
    )
    two = ("head=abmil", "encoder=[resnet50,resnet18]", "slide_encoder=[mean,chief]")
    plan, output = study.planned_and_shown(*two)
    assert (plan["embed"], plan["fewshot"]) == (9, 2)
    commands = re.findall(r"mil fewshot .*? --allow-empty", re.sub(r"\s+", " ", output))
    vectors = [re.findall(r"--vectors \S+/(\w+/\w+)", command) for command in commands]
    assert sorted(vectors) == [["resnet18/mean", "resnet18/chief"], ["resnet50/mean"]]
    minutes = re.findall(r"rule embed:\n(?:    .*\n)*?    resources: .*runtime=(\d+)", output)
    assert sorted(minutes) == ["120"] * 6 + ["480"] * 3
    plan = study.planned(*two[:2], "slide_encoder=chief")
    assert (plan["embed"], plan["fewshot"]) == (3, 1)


@pytest.mark.slow
def test_a_file_that_was_lost_is_made_again_and_nothing_upstream(finished):
    (finished.folder / "results/toy/heatmap/224px_0.5mpp/efficientnet_lite0/abmil/b.png").unlink()
    assert finished.planned("head=abmil") == {"heatmap": 1, "report": 1}


RESULTS = "results/toy/{}/224px_0.5mpp/efficientnet_lite0"


@pytest.mark.slow
def test_a_slide_is_scored_alone_where_the_heads_are_as_they_were(finished):
    """Nothing but its own score, its heatmap and what gathers: a score depends on one bag."""
    scores = finished.folder / RESULTS.format("score") / "abmil"
    before = {path.name: path.stat().st_mtime_ns for path in scores.glob("*.h5")}
    (scores / "b.h5").unlink()
    assert finished.planned("head=abmil") == {}  # nothing needs it
    plan = finished.planned("head=abmil", "heatmap={scale: relative}")
    assert (plan["score"], plan["heatmap"]) == (1, 3)
    done = finished.snakemake("--config", "dataset=toy", "head=abmil", "heatmap={scale: relative}")
    assert done.returncode == 0, done.stdout + done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in scores.glob("*.h5")}
    assert {name for name in before if after[name] != before[name]} == {"b.h5"}


@pytest.mark.slow
def test_a_score_that_was_damaged_is_made_drawn_and_evaluated_anew(finished):
    scores = finished.folder / RESULTS.format("score") / "abmil"
    (scores / "b.h5").write_text("other scores")
    now = time.time() + 5
    os.utime(scores / "b.h5", (now, now))
    assert finished.planned("head=abmil") == {"score": 1, "heatmap": 1, **GATHERED}


LISTS = ["head=abmil", "slides_per_job={tile: 2, features: 4, score: 4, heatmap: 2}"]


@pytest.mark.slow
def test_a_part_takes_a_list_of_slides(study):
    """Two jobs of two slides."""
    study.write_table({"a": "normal", "b": "tumour", "c": "tumour", "d": "normal"})
    parts = {"tile": 2, "features": 1, "score": 1, "heatmap": 2}
    assert study.planned(*LISTS) == {**ALL, **parts}


@pytest.mark.slow
def test_a_slide_more_goes_through_its_own_part_alone(study):
    study.write_table({"a": "normal", "b": "tumour", "c": "tumour", "d": "normal"})
    done = study.snakemake("--config", "dataset=toy", *LISTS)
    assert done.returncode == 0, done.stdout + done.stderr
    tiles = study.folder / "results/toy/tile/224px_0.5mpp"
    assert {path.stem for path in tiles.glob("*.h5")} == set("abcd")
    assert study.planned(*LISTS) == {}
    study.write_table({name: "normal" if name < "b" else "tumour" for name in "abcde"})
    more = study.planned(*LISTS)
    assert (more["tile"], more["features"]) == (4, 2)


@pytest.mark.slow
def test_a_study_made_before_there_were_scores_is_scored(finished):
    """Its heads and bags stay, and what is made of both is made from scores."""
    for folder in ("score", "evaluate", "heatmap"):
        shutil.rmtree(finished.folder / RESULTS.format(folder))
    assert finished.planned("head=abmil") == {"score": 3, "heatmap": 3, **GATHERED}


@pytest.mark.slow
def test_new_heads_score_all_slides_and_more_heads_too(finished):
    more_seeds = finished.planned("head=abmil", "seeds=2")
    assert (more_seeds["train"], more_seeds["score"], more_seeds["heatmap"]) == (1, 3, 3)


@pytest.mark.slow
def test_heads_that_are_there_stay_when_a_seed_comes(finished):
    """`mil train` decides whether they are still good: Snakemake deletes none of them."""
    head = finished.folder / RESULTS.format("train") / "abmil/seed1_fold0of1/head.safetensors"
    head.write_text("trained for hours")
    done = finished.snakemake("--config", "dataset=toy", "head=abmil", "seeds=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert head.read_text() == "trained for hours"
    assert head.parents[1].joinpath("seed2_fold0of1/head.safetensors").exists()
    assert finished.planned("head=abmil", "seeds=2") == {}
    assert finished.planned("head=abmil", "seeds=1").get("train") is None


@pytest.mark.slow
def test_patients_are_scored_as_one_bag_for_their_metrics(study):
    """With early fusion; a heatmap is still of one slide."""
    early = ["head=abmil", "fusion=early"]
    assert study.planned(*early) == {**ALL, "score_patients": 1}
    assert study.snakemake("--config", "dataset=toy", *early).returncode == 0
    assert study.planned(*early) == {}
    done = study.snakemake("-n", "-p", "-F", "--config", "dataset=toy", *early)
    commands = re.sub(r"\s+", " ", done.stdout + done.stderr)
    patients = RESULTS.format("score") + "/abmil/patients"
    assert f"folds1.csv --scores {patients} --evidence all --threads 1" in commands
    assert f"mil evaluate --dataset toy --scores {patients} --bags" in commands
    scores = RESULTS.format("score") + "/abmil"
    assert f"mil heatmap --dataset toy --scores {scores} --bags" in commands


@pytest.mark.slow
def test_editing_a_recipe_trains_its_heads_anew(finished):
    heads = finished.folder / "configs/heads"
    heads.mkdir()
    (heads / "mine.yaml").write_text("name: abmil\nlosses: {cross_entropy: 1}\n")
    assert finished.planned("head=mine")["train"] == 1


FAULTS = [
    (["dataset=toy", "sedes=2"], "no key named 'sedes'; did you mean 'seeds'?"),
    (["dataset=toy", "tile={sise_px: 3, mpp: -1}"], "tile.sise_px"),
    (["dataset=toy", "tile={sise_px: 3, mpp: -1}"], "tile.mpp"),
    (["dataset=toi"], "no dataset named 'toi'; did you mean 'toy'?"),
    (["dataset=toy", "head=abmli"], "no head recipe named 'abmli'; did you mean 'abmil'?"),
    (["dataset=toy", "encoder=resnt18"], "did you mean 'resnet18'?"),
    (["dataset=../toy"], "dataset: String should match"),
]


def named(rows, num_fast):
    """So many go through Snakemake in every run; unit tests have the others' messages too."""
    marks = [()] * num_fast + [pytest.mark.slow] * (len(rows) - num_fast)
    return [
        pytest.param(*row, id=row[1][:30], marks=mark)
        for row, mark in zip(rows, marks, strict=True)
    ]


@pytest.mark.parametrize(("config", "message"), named(FAULTS, num_fast=1))
def test_a_wrong_setting_is_one_line_before_anything_runs(study, config, message):
    done = study.snakemake("-n", "--config", *config)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


TABLES = [
    ("slide,path\na,a.tif\n", "no column 'label'"),
    (
        "slide,path,label\na,a.tif,normal\na,b.tif,tumour\n",
        "slide 'a' stands on line 2 and on line 3",
    ),
    ("slide,path,label\n../a,a.tif,normal\n", "cannot be a file name"),
    (
        "slide,path,label\na,a.tif,benign\n",
        "label 'benign'; the dataset's classes are: normal, tumour",
    ),
    ("slide,path,label,split\na,a.tif,normal,train\nz,z.tif,tumour,val\n", "z.tif"),
    (
        "slide,path,label\na,a.tif,normal\nb,b.tif,tumour\n",
        "cannot divide the patients into 2 parts: only 1 with label 'normal'; add slides, or name",
    ),
]


@pytest.mark.parametrize(("table", "message"), named(TABLES, num_fast=0))
def test_a_wrong_table_is_one_line_before_anything_runs(study, table, message):
    (study.folder / "configs/datasets/toy.csv").write_text(table)
    done = study.snakemake("-n", "--config", "dataset=toy")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_missing_slides_can_be_left_out(study):
    (study.folder / "data/toy/b.tif").unlink()
    assert study.snakemake("-n", "--config", "dataset=toy").returncode != 0
    assert study.planned("allow_missing=true", "head=abmil") == ALL


DEMO = {"tile": 2, "features": 4, "score": 3, "heatmap": 3}


@pytest.mark.slow
def test_the_dry_run_of_the_demo_needs_no_torch(tmp_path):
    """A `torch` that cannot be imported stands first on the path."""
    for name in ("torch", "timm"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('imported')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [*SNAKEMAKE, "-n"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for rule, jobs in {**DEMO, "baseline": 1}.items():
        assert re.search(rf"^{rule} +{jobs}$", done.stdout + done.stderr, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", "import mil, mil.cli"],
        env=environment,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0


def test_every_path_of_a_result_is_written_once():
    files = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
    paths = {file.name: re.findall(r'"(results/[^"]+)"', file.read_text()) for file in files}
    assert {name for name, patterns in paths.items() if patterns} == {"paths.smk"}
    assert len(set(paths["paths.smk"])) == len(paths["paths.smk"]) > 20


# As `.ci/run` does.
@pytest.mark.slow
def test_the_workflow_has_no_lint(tmp_path):
    done = subprocess.run(
        [*SNAKEMAKE, "--lint"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Congratulations" in done.stdout + done.stderr


@pytest.mark.slow
def test_ids_with_spaces_brackets_and_umlauts_go_through(study):
    study.write_table({"S 12 (HE) $HOME;x": "normal", "Größe-3.1": "tumour", "c": "tumour"})
    done = study.snakemake("--config", "dataset=toy", "head=abmil")
    assert done.returncode == 0, done.stdout + done.stderr
    drawn = study.folder / "results/toy/heatmap/224px_0.5mpp/efficientnet_lite0/abmil"
    assert {path.stem for path in drawn.glob("*.png")} == {"S 12 (HE) $HOME;x", "Größe-3.1", "c"}
    assert study.planned("head=abmil") == {}


@pytest.mark.slow
def test_another_positive_class_or_patient_column_is_noticed(finished):
    yaml = finished.folder / "configs/datasets/toy.yaml"
    yaml.write_text("classes: [normal, tumour]\npositive: normal\n")
    assert finished.planned("head=abmil") == MODELS
    yaml.write_text("classes: [normal, tumour]\ncolumns: {patient: path}\n")
    assert finished.planned("head=abmil")["split"] == 1


@pytest.mark.slow
def test_a_mask_that_comes_changes_or_goes_tiles_its_slide_anew(finished):
    mask = finished.folder / "data/toy/tissue/b.geojson"
    mask.parent.mkdir()
    mask.write_text("{}")
    plan = finished.planned("head=abmil")
    assert (plan["tile"], plan["features"]) == (1, 1)
    done = finished.snakemake("-n", "-p", "--config", "dataset=toy", "head=abmil")
    assert "data/toy/tissue/b.geojson" in done.stdout + done.stderr
    assert finished.snakemake("--config", "dataset=toy", "head=abmil").returncode == 0
    assert finished.planned("head=abmil") == {}
    mask.write_text("[]")  # else only the time differs, and that is not enough
    now = time.time() + 5
    os.utime(mask, (now, now))
    assert finished.planned("head=abmil")["tile"] == 1
    mask.rename(finished.folder / "data/toy/tissue/b.png")
    assert finished.planned("head=abmil")["tile"] == 1
    (finished.folder / "data/toy/tissue/b.png").unlink()
    assert finished.planned("head=abmil")["tile"] == 1


@pytest.mark.slow
def test_masks_of_the_table(study):
    table = (
        "slide,path,label,split,region\n"
        "a,a.tif,normal,train,my regions/a 1.xml\nb,b.tif,tumour,val,\n"
    )
    (study.folder / "configs/datasets/toy.csv").write_text(table)
    done = study.snakemake("-n", "--config", "dataset=toy")
    assert done.returncode != 0
    assert (
        "slide a: region 'my regions/a 1.xml': no file data/toy/my regions/a 1.xml"
        in done.stdout + done.stderr
    )
    assert "Traceback" not in done.stdout + done.stderr
    (study.folder / "data/toy/my regions").mkdir()
    (study.folder / "data/toy/my regions/a 1.xml").touch()
    done = study.snakemake("-n", "-p", "--config", "dataset=toy")
    assert "data/toy/my regions/a 1.xml" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_file_or_a_column_says_the_folds(study):
    """A changed file of splits divides again, and so does another column."""
    (study.folder / "configs/datasets/toy.csv").write_text(
        "slide,path,label,centre\na,a.tif,normal,x\nb,b.tif,tumour,y's {1}\nc,c.tif,tumour,x\n"
    )
    by = ["head=abmil", "split={by: centre}"]
    done = study.snakemake("--config", "dataset=toy", *by)
    assert done.returncode == 0, done.stdout + done.stderr
    assert study.planned(*by) == {}
    assert study.planned(*by, "folds=2") == {}
    of_two = "results/toy/split/224px_0.5mpp/efficientnet_lite0/folds2.csv"
    assert (study.folder / of_two).exists()
    own = study.folder / "my own splits.csv"
    own.write_text("slide,fold_0,fold_1\na,train,test\nb,train,train\nc,test,val\n")
    from_file = ["head=abmil", f"split={{file: '{own.name}'}}"]
    assert study.planned(*from_file)["train"] == 1
    done = study.snakemake("--config", "dataset=toy", *from_file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert study.planned(*from_file) == {}
    own.write_text("slide,fold_0,fold_1\na,train,test\nb,train,train\nc,val,val\n")
    assert study.planned(*from_file)["split"] == 1
