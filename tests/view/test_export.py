"""One slide as one file that loads nothing."""

import json
import re

import pytest

from mil.errors import ConfigError
from mil.view.stage import export
from tests.messages import one_line
from tests.view.study_files import LIT, write_study

EVIL = "</script><script>window.hacked=1</script>"


@pytest.mark.slow
def test_the_file_holds_all_and_names_no_address(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    write_study(folder, {"s1": ("tumour", "test")}, title=EVIL)
    out = tmp_path / "s1.html"
    export(folder / "results", out, "s1", dataset=str(folder / "d.yaml"))
    page = out.read_text(encoding="utf-8")
    assert "@@" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", page.split("<script>")[0])
    assert EVIL not in page
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    content = json.loads(text.group(1))
    assert content["title"] == EVIL
    assert [layer["kind"] for layer in content["heads"][0]["layers"]] == [
        "attention",
        "alone",
        "effect",
    ]
    layer = content["heads"][0]["layers"][2]
    assert layer["url"].startswith("data:image/png;base64,")
    assert layer["top"][0]["tile"] == LIT
    assert layer["pictures"][str(LIT)].startswith("data:image/jpeg;base64,")
    assert content["overviewUrl"].startswith("data:image/jpeg;base64,")


def test_another_slide_or_ending_is_one_line(folder, tmp_path):
    with one_line(ConfigError, match="s9.*--slide"):
        export(folder / "results", tmp_path / "s9.html", "s9")
    with one_line(ConfigError, match="ends with .html"):
        export(folder / "results", tmp_path / "s1.png", "s1")
