"""The configuration at the door."""

import pytest
import torch
import yaml

from mil.bags import join
from mil.config import (
    Config,
    DatasetConfig,
    EncoderConfig,
    checked,
    config_path,
    dataset_argument,
    dataset_path,
    load_config,
    load_encoders,
    load_recipe,
    read_yaml,
    recipe_errors,
    tiling_name,
)
from mil.config.encoders import HubFile
from mil.config.run import check_trainings
from mil.errors import ConfigError
from mil.heads import build_head
from tests.messages import one_line


def test_the_file_in_the_repository_says_the_defaults():
    """Deleting a line of config.yaml changes nothing, but for `head`: the demo compares three."""
    written = load_config(read_yaml(config_path("config.yaml")))
    assert written.head == ["abmil", "acmil", "aem"]
    assert written.model_copy(update={"head": ["abmil"]}) == Config()


def test_every_fault_is_named_at_once():
    with one_line(ConfigError) as error:
        load_config({"sedes": 2, "tile": {"mpp": -1, "sise_px": 3}, "folds": "many"})
    message = str(error.value)
    assert "no key named 'sedes'; did you mean 'seeds'?" in message
    assert "no key named 'tile.sise_px'; did you mean 'size_px'?" in message
    assert "tile.mpp: Input should be greater than 0, not -1" in message
    assert "folds: " in message


def test_a_misspelt_key_of_a_section_has_its_nearest_name():
    # The section's name is no part of the comparison.
    with one_line(ConfigError, match=r"no key named 'tile\.mppp'; did you mean 'mpp'\?"):
        load_config({"tile": {"mppp": 0.5}})


def test_a_key_without_its_section_is_told_where_it_belongs():
    with one_line(ConfigError, match=r"mpp is a key of the section tile: tile: \{mpp: VALUE\}$"):
        load_config({"mpp": 0.5})
    with one_line(ConfigError, match="no key named 'seed'; did you mean 'seeds'") as error:
        load_config({"seed": 3})
    assert str(error.value).endswith("seed is a key of the section split: split: {seed: VALUE}")


@pytest.mark.parametrize(
    "value", ["abmil,acmil", "[abmil,acmil]", ["abmil", "acmil"], "abmil, acmil"]
)
def test_one_or_many_heads(value):
    assert load_config({"head": value}).head == ["abmil", "acmil"]


@pytest.mark.parametrize("value", ["none", False, "", None])
def test_a_study_can_do_without_its_baseline(value):
    config = Config(baseline=value, head=["abmil"])
    assert (config.baseline, config.compared) == (None, ["abmil"])


def test_the_baseline_is_compared_once():
    assert Config(head=["abmil"]).compared == ["abmil", "linear_probe"]
    assert Config(head=["linear_probe", "abmil"]).compared == ["linear_probe", "abmil"]
    with one_line(ConfigError, match="config: baseline: mean has head mean, which is trained"):
        load_config({"baseline": "mean"})


def test_settings_cannot_be_changed_inside():
    with pytest.raises(ValueError, match="frozen"):
        Config().seeds = 3


@pytest.mark.parametrize(
    "recipe", sorted(path.stem for path in config_path("heads").glob("*.yaml"))
)
def test_every_recipe_is_sound(recipe):
    settings = load_recipe(recipe)
    assert "cross_entropy" in settings.losses
    head = build_head(settings.name, settings.options, dim=8, classes=3)
    corners = torch.tensor([(0, 0), (8, 0), (0, 8), (8, 8)])
    assert head.eval()(join([torch.zeros(4, 8)], [corners])).logits.shape == (1, 3)


def test_published_presets_say_what_was_published():
    november = load_recipe("acmil_2023_11")
    october = load_recipe("acmil_2024_10")
    assert (november.train.epochs, november.train.lr, november.options["mask_share"]) == (
        100,
        1e-4,
        0.5,
    )
    assert (october.train.epochs, october.train.lr, october.options["mask_share"]) == (
        50,
        1e-4,
        0.6,
    )
    for preset in (november, october):
        assert (preset.options["branches"], preset.options["mask_top"]) == (5, 10)
        assert (preset.train.batch_bags, preset.train.weight_decay, preset.train.select) == (
            1,
            1e-5,
            "f1_auc",
        )
        assert {name: weight.start for name, weight in preset.losses.items()} == {
            "cross_entropy": 1,
            "branch_cross_entropy": 1,
            "branch_diversity": 1,
        }


def test_encoders_are_sound_and_name_their_tiling():
    entry = load_encoders()["efficientnet_lite0"]
    assert tiling_name(entry.tile_px, entry.mpp) == "224px_0.5mpp"
    assert tiling_name(256, 0.4942) == "256px_0.4942mpp"


@pytest.mark.parametrize(
    ("weights", "hub"),
    [
        ("hf-hub:A/B-1.c", ("A/B-1.c", None, None)),
        ("hf-hub:A/B@v2", ("A/B", "v2", None)),
        ("hf_hub:A/B/w.bin", ("A/B", None, "w.bin")),
        ("hf-hub:A/B@c0ffee/sub/w.safetensors", ("A/B", "c0ffee", "sub/w.safetensors")),
        ("timm", None),
        ("/data/hf-hub:A/w.pth", None),
    ],
)
def test_weights_on_the_hub(weights, hub):
    entry = EncoderConfig(timm="x", dim=1, licence="x", weights=weights)
    assert entry.hub == (None if hub is None else HubFile(*hub))
    assert (
        entry.settings()
        == entry.model_copy(update={"licence": "y", "citation": "us", "gated": True}).settings()
    )
    assert entry.settings() != entry.model_copy(update={"pooling": "mean"}).settings()


@pytest.mark.parametrize(
    "weights", ["hf-hub:A", "hf-hub:A/B@", "hf-hub:A/B/", "hf-hub:A/B@v/../w", "hf-hub:"]
)
def test_what_cannot_be_on_the_hub_is_one_line(weights):
    with one_line(
        ConfigError, match="x: weights: a file on the hub is hf-hub:OWNER/NAME@REVISION/FILE"
    ):
        checked(EncoderConfig, {"timm": "x", "dim": 1, "licence": "x", "weights": weights}, "x")


@pytest.mark.parametrize(
    "weights",
    [
        "package:",
        "package:timm",
        "package:.timm/x.pth",
        "package:/x.pth",
        "package:timm/../x",
        "package:timm//etc/x",
    ],
)
def test_what_cannot_be_in_a_package_is_one_line(weights):
    with pytest.raises(
        ConfigError, match="x: weights: a file inside an installed package is package:PACKAGE/FILE"
    ):
        checked(EncoderConfig, {"timm": "x", "dim": 1, "licence": "x", "weights": weights}, "x")


@pytest.mark.parametrize("name", ["7", "null", "'../x'", "'a b'"])
def test_an_encoder_has_a_name_that_a_folder_can_have(tmp_path, name):
    (tmp_path / "e.yaml").write_text(f"{name}: {{timm: x, dim: 1, licence: x}}\n")
    with pytest.raises(ConfigError, match=r"e\.yaml: .* cannot name an encoder: use letters"):
        load_encoders(tmp_path / "e.yaml")


def test_a_broken_yaml_is_one_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [1,\nb: }")
    with one_line(ConfigError, match=r"x\.yaml: not YAML"):
        read_yaml(path)


def test_a_list_where_a_section_should_be_is_one_line():
    with pytest.raises(ConfigError, match="config: tile: "):
        checked(Config, yaml.safe_load("tile: [1, 2]"), "config")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            "name: abmli\nlosses: {cross_entropy: 1}\n",
            "no head named 'abmli'; did you mean 'abmil'?",
        ),
        (
            "name: abmil\nlosses: {cross_entropie: 1}\n",
            "no loss term named 'cross_entropie'; did you mean 'cross_entropy'?",
        ),
        (
            "name: abmil\nlosses: {attention_entropy: {strat: 0.1}}\n",
            "losses.attention_entropy.strat",
        ),
        ("name: abmil\nlosses: {}\n", "losses: "),
        ("name: abmil\n", "mine.yaml: losses: Field required"),
        ("", "mine.yaml: Input should be a valid dictionary, not None"),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path, recipe, message):
    (tmp_path / "mine.yaml").write_text(recipe)
    with one_line(ConfigError) as caught:
        load_recipe(str(tmp_path / "mine.yaml"))
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named_as_such():
    with pytest.raises(ConfigError, match=r"^nowhere/mine\.yaml: no such file$"):
        load_recipe("nowhere/mine.yaml")


def test_recipes_of_ones_own_and_those_that_came_along_are_named(tmp_path, monkeypatch):
    (tmp_path / "configs/heads").mkdir(parents=True)
    (tmp_path / "configs/heads/mine.yaml").write_text("name: abmil\nlosses: {cross_entropy: 1}\n")
    monkeypatch.chdir(tmp_path)
    assert (load_recipe("mine").name, load_recipe("acmil").name) == ("abmil", "acmil")
    with one_line(ConfigError, match=r"there are: abmil, .*, mine, .*transmil"):
        load_recipe("abc")


@pytest.mark.parametrize(
    ("head", "options", "faults"),
    [
        ("mha", {"hidden": 30}, "hidden must be a multiple of heads (8), not 30"),
        (
            "graph_select",
            {"graph": ["spatial", "near"]},
            "graph: Input should be 'auto', 'spatial_first' or 'none', not ['spatial', 'near']; "
            "graph.1: Input should be 'spatial', 'knn', 'lsh' or 'minibatch', not 'near'",
        ),
    ],
)
def test_a_fault_of_options_is_named_without_the_checkers_own_words(head, options, faults):
    with pytest.raises(ConfigError) as caught:
        build_head(head, options, dim=8, classes=2)
    assert str(caught.value) == f"head {head}: options: {faults}"


def test_faults_of_a_heads_options_name_the_recipes_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: acmil\noptions: {branches: many}\nlosses: {cross_entropy: 1}\n")
    settings = load_recipe(str(path))
    with (
        pytest.raises(ConfigError, match=rf"^{path}: head acmil: options: branches: "),
        recipe_errors(str(path)),
    ):
        build_head(settings.name, settings.options, dim=8, classes=2)
    with pytest.raises(ConfigError, match=r"^other: wrong$"), recipe_errors(str(path)):
        raise ConfigError("other: wrong")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "survival_discrete", "ends": [2, 1]}, "ends: the times must increase"),
        ({"task": "survival_discrete", "ends": [0]}, r"ends\.0: .*greater than 0"),
        ({"task": "survival"}, "task: Input should be 'classification'"),
        ({"task": "regression", "positive": "a"}, "positive: 'a' is not among classes"),
        ({"classes": ["n" * 10_000, "t"], "positive": "a"}, "^.{100,320}$"),
    ],
)
def test_a_dataset_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        checked(DatasetConfig, settings, "d.yaml")


def test_numbers_have_no_positive_class():
    assert DatasetConfig(task="survival_cox").positive_class == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"seeds": 1_000_000},
        {"folds": 10**20},
        {"seeds": 101, "folds": 10},
        {"seeds": 501, "head": ["abmil_plain", "acmil_2024_10"]},
        {"seeds": 501, "encoder": ["uni", "virchow2"]},
    ],
)
def test_a_number_of_trainings_that_is_surely_a_slip_is_refused(settings):
    settings = {"head": ["abmil_plain"], **settings}
    with one_line(ConfigError, match=r"\d+ trainings .* has at most max_trainings=1000: lower one"):
        load_config(settings)
    assert load_config({**settings, "max_trainings": 10**21}).max_trainings == 10**21


def test_restarts_and_inner_folds_count_as_trainings(tmp_path):
    path = tmp_path / "mine.yaml"
    train = "train: {restarts: 20, inner_folds: 5}"
    path.write_text(f"name: abmil\nlosses: {{cross_entropy: 1}}\n{train}\n")
    config = Config(head=["mine"], seeds=11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mil.config.run.load_recipe", lambda _: load_recipe(str(path)))
        with one_line(ConfigError, match=r"1100 trainings .*inner folds: 100, seeds: 11"):
            check_trainings(config)


@pytest.mark.parametrize("key", ["head", "encoder"])
def test_a_name_twice_is_refused(key):
    with one_line(ConfigError, match=f"{key}: uni is there twice; name each once"):
        load_config({key: "uni,phikon,uni"})


def test_a_dataset_is_named_by_its_name_where_that_leads_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "configs/datasets/mine.yaml"
    other = tmp_path / "other sets/mine.yaml"
    for file in (own, other):
        file.parent.mkdir(parents=True)
        file.write_text("classes: [a, b]\n")
    assert dataset_argument(own) == "mine"
    assert dataset_argument(other) == f"'{other}'"
    assert dataset_path("mine").samefile(own)
