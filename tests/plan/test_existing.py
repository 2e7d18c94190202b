"""Bags that are there: of the encoder as it is now, and which are made together."""

import json

import numpy as np
import pytest

from mil.config import EncoderConfig
from mil.errors import ConfigError
from mil.plan.existing import BagKind, check_encoder, shared_parts
from tests.messages import one_line
from tests.synthetic import bag_file

THEN = EncoderConfig(timm="resnet18", dim=4, weights="old.safetensors", licence="one")


@pytest.fixture
def folder(tmp_path):
    bag_file(
        tmp_path / "bags/a.h5", "a", np.ones((2, 4)), encoder={"encoder_settings": THEN.settings()}
    )
    return tmp_path / "bags"


def test_an_entry_that_only_reads_otherwise_is_the_same(folder):
    check_encoder(folder, "mine", THEN)
    check_encoder(
        folder, "mine", THEN.model_copy(update={"licence": "another", "tile_px": 256, "mpp": 1.0})
    )


def test_a_changed_entry_is_refused_and_nothing_is_lost(folder):
    with one_line(ConfigError) as caught:
        check_encoder(
            folder,
            "mine",
            THEN.model_copy(update={"weights": "new.safetensors", "mean": (0.0, 0.5, 1.0)}),
        )
    message = str(caught.value)
    assert message.startswith(
        f"encoder mine: changed in configs/encoders.yaml since the bags of {folder} were computed: "
    )
    assert "weights (then 'old.safetensors', now 'new.safetensors')" in message
    assert "mean (then None, now [0.0, 0.5, 1.0])" in message
    assert (folder / "a.h5").exists()


def test_a_scratch_file_hides_no_change(folder):
    for letter in "0123456789abcdef":  # one of them is listed before the bag
        (folder / f".partial-{letter * 32}-b.h5").write_text("half of a bag")
    with pytest.raises(ConfigError, match="weights"):
        check_encoder(folder, "mine", THEN.model_copy(update={"weights": "new.safetensors"}))


def test_bags_that_do_not_say_are_left_to_their_readers(tmp_path):
    check_encoder(tmp_path / "none", "mine", THEN)
    (tmp_path / "b.h5").write_text("not a bag")
    check_encoder(tmp_path, "mine", THEN)
    (tmp_path / "b.h5").unlink()
    bag_file(tmp_path / "b.h5", "b", np.ones((2, 4)))
    check_encoder(tmp_path, "mine", THEN)
    for settings in ({"timm": "resnet18"}, ["timm"], 7):
        bag_file(
            tmp_path / "b.h5",
            "b",
            np.ones((2, 4)),
            encoder={"encoder_settings": json.dumps(settings)},
        )
        check_encoder(tmp_path, "mine", THEN)
    check_encoder(tmp_path, "mine", THEN)


def test_parts_by_what_they_lack(tmp_path):
    fine = {BagKind(name, "224px_0.5mpp"): tmp_path / name for name in "abc"}
    wide = {BagKind(name, "224px_1mpp"): tmp_path / f"wide_{name}" for name in "ab"}
    for name, parts in {"a": "12", "b": "1", "c": "14", "wide_a": "1234", "wide_b": "123"}.items():
        (tmp_path / name / "parts").mkdir(parents=True)
        for part in parts:
            (tmp_path / name / f"parts/{part}.csv").touch()
    expected = {("b", "c"): ["2"], ("a", "b", "c"): ["3"], ("a", "b"): ["4"]}
    assert shared_parts({**fine, **wide}, list("1234")) == {
        encoders: {"224px_0.5mpp": parts} for encoders, parts in expected.items()
    }
    # Of one encoder at two tilings no reading is shared.
    first, *_ = fine
    assert shared_parts({first: fine[first], **dict([*wide.items()][:1])}, list("1234")) == {}
    (tmp_path / "wide_a/parts/4.csv").unlink()
    assert shared_parts({**fine, **wide}, list("1234"))["a", "b"] == {
        "224px_0.5mpp": ["4"],
        "224px_1mpp": ["4"],
    }
