"""Guarded calls: results cross, and no loop, allocation or crash reaches the caller."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest

from mil.errors import FormatError, ReadingError
from mil.io import guard
from mil.io.guard import run_guarded

FILE = Path("strange.h5")


def _loop() -> None:
    while True:
        pass


def _allocate() -> int:
    return len(bytearray(2 << 30))


def _fail() -> None:
    raise KeyError("no such\nobject")


def test_a_result_crosses() -> None:
    assert run_guarded(lambda a, b: [a, b], 1, "x" * 200_000, path=FILE)[1] == "x" * 200_000


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (_loop, "takes over 0.2 s"),
        (_allocate, "memory .* over the limit"),
        (os.abort, "crash .SIGABRT."),
        (_fail, "no such.{1,2}nobject"),
    ],
)
def test_what_cannot_be_bounded_is_one_line_with_the_file(
    monkeypatch, function, match: str
) -> None:
    # The clock of a busy machine runs on while the loop waits for its turn.
    monkeypatch.setattr(guard, "PATIENCE", 1000.0)
    with pytest.raises(FormatError, match=match) as error:
        run_guarded(function, path=FILE, seconds=0.2 if function is _loop else 60.0)
    assert str(error.value).startswith("strange.h5: ")
    assert "\n" not in str(error.value)


def test_waiting_is_no_damage(monkeypatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.1)
    with pytest.raises(ReadingError, match=r"no answer in 0\.5 s; look at its disk") as error:
        run_guarded(Event().wait, path=FILE, seconds=5.0)
    assert str(error.value).startswith("strange.h5: ")


def test_ctrl_c_during_a_fork_is_not_lost(monkeypatch) -> None:
    """Python ignores exceptions in the calls it makes around a fork."""
    fork = os.fork

    def interrupted_fork() -> int:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return fork()

    monkeypatch.setattr(os, "fork", interrupted_fork)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_guarded(lambda: 1, path=FILE)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, usual)
