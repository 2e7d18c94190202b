"""What a run shows without a terminal: a line as a stage begins and ends, and one ending."""

import re

import pytest

FAILING = """#!/bin/bash
if [ "$1" = "train" ] && [[ "$*" == *acmil* ]]; then echo "mil: no room left" >&2; exit 1; fi
exec "$(dirname "$0")/mil-as-usual" "$@"
"""


@pytest.mark.slow
def test_a_run_shows_stages_one_error_and_one_ending(study):
    usual = study.folder / "bin" / "mil"
    usual.rename(study.folder / "bin" / "mil-as-usual")
    usual.write_text(FAILING)
    usual.chmod(0o755)
    run = study.snakemake("--config", "dataset=toy", "head=[abmil,acmil]")
    assert run.returncode == 1
    assert run.stdout == ""
    lines = run.stderr.splitlines()[1:]
    log = "logs/toy/train/224px_0.5mpp/efficientnet_lite0/acmil.log"
    assert lines[-3:-1] == [
        "3 in, 3 out",
        "1 job failed; once the cause is mended, the same command continues",
    ]
    assert re.fullmatch(r"Complete log\(s\): .*\.snakemake/log/.*\.log", lines[-1])
    assert lines.count("tile: begins, 3 slides in 3 jobs") == 1
    assert sum("no room left" in line for line in lines) == 1
    failed = lines.index("train 224px_0.5mpp efficientnet_lite0 acmil failed: mil: no room left")
    assert lines[failed + 1] == f"  log: {log}"
    # With `keep-going`, the other head is scored, evaluated and drawn.
    assert any(line.startswith("heatmap: 3 of 6 slides done in ") for line in lines)
    begun = [line for line in lines if ": begins, " in line]
    assert [line.partition(":")[0] for line in begun][:4] == ["tile", "features", "bags", "split"]
    assert len(lines) < 40
