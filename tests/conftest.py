"""What all tests share. The first lines come before anything imports Triton."""

import functools
import gc
import os

import pytest
import torch
import typer.testing
from hypothesis import settings

from tests import type_checks

type_checks.install()  # before anything of mil is imported

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Modules and tests live to the end: a search for garbage among them finds none.
gc.disable()


def pytest_runtestloop() -> None:
    """Search for garbage again, but only among what tests make."""
    gc.freeze()
    gc.enable()


# The command line is put together from hundreds of options: once, not anew for each call.
typer.testing._get_command = functools.cache(typer.testing._get_command)

torch.set_num_threads(1)  # what is tested is small: more threads only wait for one another

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where kernels run: the GPU, or the CPU under Triton's interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session", autouse=True)
def _no_forks_for_files_of_our_own() -> None:
    """HDF5 files that a test changes are not probed: a fork takes longer than most tests."""
    from mil.io import probe

    probe.run_guarded = lambda *_, **__: None


@pytest.fixture
def poisoned(monkeypatch) -> None:
    """Memory that nobody has written is NaN (integers: their largest), so that reading it shows."""

    def poison(make):
        def made(*args, **kwargs):
            tensor = make(*args, **kwargs)
            bad = float("nan") if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max
            with torch.no_grad():
                return tensor.fill_(bad)

        return made

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))
