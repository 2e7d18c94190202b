"""Compile-time audit: how a kernel can be launched, and which resources of a GPU it takes.

It needs no GPU: Triton compiles for a named architecture.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from triton.runtime.jit import JITFunction

Constant = int | bool | None  # None: the launch passes no such tensor

# Shared memory that a block may have, bytes (CUDA C++ Programming Guide, technical
# specifications by compute capability); the first key is the A100's, then H100 and
# H200, then B200.
SHARED_BYTES = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
# Triton's launcher compiles anew for addresses and integers that are multiples of this.
DIVISIBILITY = 16
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")


class Variant(NamedTuple):
    """Everything that decides how a kernel is compiled.

    Types are Triton's: `*bf16` for a pointer, `i32`, `i64` or `fp32` for a number;
    `i32:16` for a number that is a multiple of 16, as a feature dimension mostly is.
    Addresses are taken to be multiples of 16, as torch's are.
    """

    name: str
    kernel: "JITFunction"
    signature: dict[str, str]  # type of every argument that is not a constant
    constants: dict[str, Constant]
    num_warps: int
    num_stages: int

    @classmethod
    def of(
        cls,
        name: str,
        kernel: "JITFunction",
        types: Mapping[str, str],
        keywords: Mapping[str, Constant],
    ) -> "Variant":
        """Variant of a launch.

        Args:
            name: name that tells a kernel's variants apart.
            kernel: jitted function.
            types: types by argument name; may name more than the kernel has.
            keywords: constants of the launch by name, `num_warps` and `num_stages`
                among them.
        """
        constants = dict(keywords)
        num_warps = constants.pop("num_warps")
        num_stages = constants.pop("num_stages")
        assert num_warps is not None
        assert num_stages is not None
        signature = {key: types[key] for key in kernel.arg_names if key not in constants}
        return cls(name, kernel, signature, constants, num_warps, num_stages)


class Usage(NamedTuple):
    """Resources of a GPU that a compiled kernel takes."""

    registers: int  # per thread
    shared_bytes: int  # per block
    spill_bytes: int  # per thread: values that did not fit into registers
    tensor_columns: int  # columns of Blackwell's tensor memory, which has 512


def compile_variant(variant: Variant, arch: int) -> Usage:
    """Compile a kernel as the launcher would, and read its usage from the machine code.

    Args:
        variant: variant of a kernel that was imported without ``TRITON_INTERPRET``.
        arch: compute capability, such as 90.

    Raises:
        ValueError: signature and constants are not exactly the kernel's arguments.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.kernel.arg_names
    known = {**variant.signature, **dict.fromkeys(variant.constants, "constexpr")}
    if set(names) != set(known):
        difference = sorted(set(names) ^ set(known))
        raise ValueError(
            f"{variant.name}: arguments {difference} are not both in the kernel and in the variant"
        )
    types = [known[name].partition(":") for name in names]
    divisible = {
        (position,): [["tt.divisibility", DIVISIBILITY]]
        for position, (type_, _, multiple) in enumerate(types)
        if type_.startswith("*") or multiple == str(DIVISIBILITY)
    }
    signature = {name: type_ for name, (type_, _, _) in zip(names, types, strict=True)}
    constants = {(names.index(name),): value for name, value in variant.constants.items()}
    compiled = triton.compile(
        ASTSource(variant.kernel, signature, constants, divisible),
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": variant.num_warps, "num_stages": variant.num_stages},
    )
    registers, spilled = _registers_and_stack(compiled.asm["cubin"], Path(triton.__file__).parent)
    # Absent from the metadata before Blackwell.
    columns = getattr(compiled.metadata, "tmem_size", None) or 0
    return Usage(registers, compiled.metadata.shared, spilled, columns)


def _registers_and_stack(cubin: bytes, triton: Path) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack: in Triton's code a stack is spilled registers.

    Args:
        cubin: machine code.
        triton: folder of the package, which brings `cuobjdump`.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton / "backends" / "nvidia" / "bin" / "cuobjdump"
        command = [str(tool), "--dump-resource-usage", file.name]
        dump = subprocess.run(command, check=True, capture_output=True, text=True)
    ((registers, stack),) = _USAGE.findall(dump.stdout)
    return int(registers), int(stack)
