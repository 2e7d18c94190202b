"""`python -m mil.bench.resources`: registers and memory of every kernel on every GPU; needs no GPU.

It compiles each variant, and exits with status 1 if one spills, does not fit or does
not compile.
"""

import argparse
import json
import os
import pkgutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import mil.kernels
from mil.kernels.compile import SHARED_BYTES, Usage, Variant, compile_variant

if TYPE_CHECKING:
    from triton.runtime.jit import JITFunction

TENSOR_COLUMNS = 512  # of Blackwell's tensor memory
LINE = "{:30} {:35} {:>4} {:>9} {:>12} {:>11} {:>14}  {}"


class AuditRow(NamedTuple):
    """A row of the table; numbers are empty for a variant that does not compile."""

    kernel: str
    variant: str
    arch: int  # compute capability, such as 90
    registers: int | str  # per thread
    shared_bytes: int | str  # per block
    spill_bytes: int | str  # per thread
    tensor_columns: int | str
    fault: str  # empty: none


def kernel_modules() -> list[ModuleType]:
    """Modules of `mil.kernels` that define jitted functions."""
    packages = pkgutil.walk_packages(mil.kernels.__path__, "mil.kernels.")
    modules = [import_module(package.name) for package in packages]
    return [module for module in modules if jitted(module)]


def jitted(module: ModuleType) -> dict[str, "JITFunction"]:
    """Jitted functions that a module defines, by name."""
    from triton.runtime.jit import JITFunction

    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, JITFunction) and value.fn.__module__ == module.__name__
    }


def variants_of(module: ModuleType) -> list[Variant]:
    """Variants that a module lists; none for a module of helpers."""
    return list(module.variants()) if hasattr(module, "variants") else []


def unlaunched(modules: Sequence[ModuleType]) -> list[str]:
    """Jitted functions that no variant launches, directly or through another function."""
    reached: set[Any] = set()
    pending = [variant.kernel for module in modules for variant in variants_of(module)]
    while pending:
        kernel = pending.pop()
        if kernel not in reached:
            reached.add(kernel)
            pending += _called(kernel)
    return [
        f"{module.__name__}.{name}"
        for module in modules
        for name, kernel in jitted(module).items()
        if kernel not in reached
    ]


def _called(kernel: Any) -> list[Any]:
    """Jitted functions that a kernel's code names."""
    values = (kernel.fn.__globals__.get(name) for name in kernel.fn.__code__.co_names)
    return [value for value in values if isinstance(value, type(kernel))]


def short(kernel: Any) -> str:
    """Name of a kernel without what all have in common: `attn_pool.forward.merge`."""
    module = kernel.fn.__module__.removeprefix("mil.kernels.").removesuffix(".triton")
    module = module.replace(".triton_", ".")
    return f"{module}.{kernel.__name__.strip('_').removesuffix('_kernel')}"


def fault(usage: Usage, arch: int) -> str:
    """Reason why a kernel does not run, or not well; empty if there is none."""
    if usage.shared_bytes > SHARED_BYTES[arch]:
        return f"more than the {SHARED_BYTES[arch]} bytes of shared memory"
    if usage.tensor_columns > TENSOR_COLUMNS:
        return f"more than the {TENSOR_COLUMNS} columns of tensor memory"
    return "spills" if usage.spill_bytes else ""


def measure(module: str, position: int, arch: int) -> AuditRow:
    """Row of one variant: its usage, or the error of the compiler.

    Args:
        module: dotted name of a module that lists variants.
        position: number of the variant in that list.
        arch: compute capability, such as 90.
    """
    variant = variants_of(import_module(module))[position]
    name = short(variant.kernel)
    try:
        usage = compile_variant(variant, arch)
    except Exception as error:  # noqa: BLE001  the compiler's passes raise anything; the other variants count still
        lines = str(error).strip().splitlines() or [""]
        message = f"{type(error).__name__}: {lines[-1]}"
        return AuditRow(name, variant.name, arch, "", "", "", "", message)
    return AuditRow(name, variant.name, arch, *usage, fault(usage, arch))


def rows(archs: Sequence[int], processes: int) -> Iterator[AuditRow]:
    """Compile every variant for every architecture."""
    jobs = [
        (module.__name__, position, arch)
        for module in kernel_modules()
        for position in range(len(variants_of(module)))
        for arch in archs
    ]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(measure, *zip(*jobs, strict=True), chunksize=len(archs))


def main() -> None:
    """Print the table, then all faults; the exit status is 1 if there is one."""
    parser = argparse.ArgumentParser(prog="python -m mil.bench.resources", description=__doc__)
    parser.add_argument(
        "--arch",
        type=int,
        action="append",
        choices=SHARED_BYTES,
        help="compute capability to compile for; repeat for several; default: all",
    )
    parser.add_argument(
        "--processes", type=int, default=2, help="number of compilations at the same time"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        raise SystemExit("TRITON_INTERPRET is set, and nothing would be compiled: unset it")
    faults = [f"{name}: no variant launches it" for name in unlaunched(kernel_modules())]
    if not arguments.json:
        print(LINE.format(*AuditRow._fields))
    for row in rows(arguments.arch or list(SHARED_BYTES), arguments.processes):
        print(json.dumps(row._asdict()) if arguments.json else LINE.format(*row), flush=True)
        if row.fault:
            faults.append(f"{row.kernel} {row.variant} on sm_{row.arch}: {row.fault}")
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
