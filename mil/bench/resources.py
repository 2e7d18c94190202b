"""`python -m mil.bench.resources`: what every kernel takes of every chip, and what is wrong with it. Needs no GPU."""

import argparse
import json
import os
import pkgutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import mil.kernels
from mil.kernels.variants import SHARED_BYTES, Report, Variant, compiled

TENSOR_COLUMNS = 512
COLUMNS = (
    "kernel",
    "variant",
    "arch",
    "registers",
    "shared_bytes",
    "spill_bytes",
    "tensor_columns",
    "fault",
)
LINE = "{:30} {:35} {:>4} {:>9} {:>12} {:>11} {:>14}  {}"


def kernel_modules() -> list[ModuleType]:
    """Modules with jitted functions of their own."""
    found = [
        import_module(info.name)
        for info in pkgutil.walk_packages(mil.kernels.__path__, "mil.kernels.")
    ]
    return [module for module in found if jitted(module)]


def jitted(module: ModuleType) -> dict[str, Any]:
    """A module's own functions for the GPU."""
    from triton.runtime.jit import JITFunction

    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, JITFunction) and value.fn.__module__ == module.__name__
    }


def variants_of(module: ModuleType) -> list[Variant]:
    """What a module says can be launched; nothing, where it does not say."""
    return list(module.variants()) if hasattr(module, "variants") else []


def unnamed(modules: Sequence[ModuleType]) -> list[str]:
    """Jitted functions that no variant launches and that none of those that are launched calls."""
    reached: set[Any] = set()
    waiting = [variant.kernel for module in modules for variant in variants_of(module)]
    while waiting:
        kernel = waiting.pop()
        if kernel not in reached:
            reached.add(kernel)
            waiting += _called(kernel)
    return [
        f"{module.__name__}.{name}"
        for module in modules
        for name, kernel in jitted(module).items()
        if kernel not in reached
    ]


def _called(kernel: Any) -> list[Any]:
    """Jitted functions that a kernel's code names."""
    named = (kernel.fn.__globals__.get(name) for name in kernel.fn.__code__.co_names)
    return [value for value in named if isinstance(value, type(kernel))]


def short(kernel: Any) -> str:
    """Name of a kernel: what stands before it and after it all have."""
    place = kernel.fn.__module__.removeprefix("mil.kernels.").removesuffix(".kernel")
    return f"{place}.{kernel.__name__.strip('_').removesuffix('_kernel')}"


def fault(report: Report, arch: int) -> str:
    """What keeps a kernel from running well, or at all; nothing, if it is as it should be."""
    if report.shared_bytes > SHARED_BYTES[arch]:
        return f"more than the {SHARED_BYTES[arch]} bytes of shared memory"
    if report.tensor_columns > TENSOR_COLUMNS:
        return f"more than the {TENSOR_COLUMNS} columns of tensor memory"
    return "spills" if report.spill_bytes else ""


def measure(module: str, place: int, arch: int) -> dict[str, Any]:
    """A row of the table; what does not compile says why."""
    variant = variants_of(import_module(module))[place]
    row = {"kernel": short(variant.kernel), "variant": variant.name, "arch": arch}
    try:
        report = compiled(variant, arch)
    except Exception as error:  # noqa: BLE001  the compiler's passes raise anything; the other variants count still
        said = str(error).strip().splitlines() or [""]
        return {**dict.fromkeys(COLUMNS, ""), **row, "fault": f"{type(error).__name__}: {said[-1]}"}
    return {**row, **report._asdict(), "fault": fault(report, arch)}


def rows(archs: Sequence[int], processes: int) -> Iterator[dict[str, Any]]:
    """Compile all there is."""
    asked = [
        (module.__name__, place, arch)
        for module in kernel_modules()
        for place in range(len(variants_of(module)))
        for arch in archs
    ]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(measure, *zip(*asked, strict=True), chunksize=len(archs))


def main() -> None:
    """Print what each variant takes of each chip, then what is wrong; the exit status is 1 if anything is."""
    told = argparse.ArgumentParser(prog="python -m mil.bench.resources", description=__doc__)
    told.add_argument(
        "--arch", type=int, action="append", choices=SHARED_BYTES, help="repeat; default: all"
    )
    told.add_argument("--processes", type=int, default=2)
    told.add_argument("--json", action="store_true", help="an object a line")
    asked = told.parse_args()
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        raise SystemExit("TRITON_INTERPRET is set, and nothing would be compiled: unset it")
    wrong = [f"{name}: no variant launches it" for name in unnamed(kernel_modules())]
    if not asked.json:
        print(LINE.format(*COLUMNS))
    for row in rows(asked.arch or list(SHARED_BYTES), asked.processes):
        print(
            json.dumps(row) if asked.json else LINE.format(*(row[name] for name in COLUMNS)),
            flush=True,
        )
        if row["fault"]:
            wrong.append(f"{row['kernel']} {row['variant']} on sm_{row['arch']}: {row['fault']}")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
