"""One compilation of a kernel as it can be launched, and what it takes of a chip: found without one."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from triton.runtime.jit import JITFunction

# Shared memory that a block may have, bytes (CUDA C++ Programming Guide, technical
# specifications by compute capability); the first key is the A100's, then H100 and
# H200, then B200.
SHARED_BYTES = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
WHOLE = 16  # what Triton's launcher finds addresses and integers to be multiples of, or not
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")


class Variant(NamedTuple):
    """What decides how a kernel is compiled: types of its arguments, constants, warps and stages.

    Types are Triton's: `*bf16` for a pointer, `i32`, `i64` or `fp32` for a number;
    `i32:16` for a number that is a multiple of 16, as a feature's length mostly is.
    Addresses are taken to be multiples of 16, as torch's are.
    """

    name: str
    kernel: "JITFunction"
    signature: dict[str, str]  # of every argument that is not a constant
    constants: dict[str, int | bool | None]  # None: no such tensor
    num_warps: int
    num_stages: int

    @classmethod
    def of(
        cls, name: str, kernel: "JITFunction", types: dict[str, str], given: dict[str, Any]
    ) -> "Variant":
        """From what a launch is given by name, warps and stages among it, and the types of the other arguments."""
        options = {key: given[key] for key in ("num_warps", "num_stages")}
        constants = {key: value for key, value in given.items() if key not in options}
        signature = {key: types[key] for key in kernel.arg_names if key not in constants}
        return cls(name, kernel, signature, constants, **options)


class Report(NamedTuple):
    """What a compiled kernel takes."""

    registers: int  # of a thread
    shared_bytes: int  # of a block
    spill_bytes: int  # of a thread: what did not fit into registers
    tensor_columns: int  # of Blackwell's tensor memory, which has 512


def compiled(variant: Variant, arch: int) -> Report:
    """Compile a kernel as the launcher would, and read what it takes from the machine code.

    Args:
        variant: of a kernel that was imported without ``TRITON_INTERPRET``.
        arch: compute capability, such as 90.

    Raises:
        ValueError: the variant does not say what each argument of the kernel is.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.kernel.arg_names
    known = {**variant.signature, **dict.fromkeys(variant.constants, "constexpr")}
    if set(names) != set(known):
        raise ValueError(
            f"{variant.name}: arguments {sorted(set(names) ^ set(known))} are not those of the "
            "kernel"
        )
    types = [known[name].partition(":") for name in names]
    whole = {
        (place,): [["tt.divisibility", WHOLE]]
        for place, (type_, _, multiple) in enumerate(types)
        if type_.startswith("*") or multiple == str(WHOLE)
    }
    signature = {name: type_ for name, (type_, _, _) in zip(names, types, strict=True)}
    constants = {(names.index(name),): value for name, value in variant.constants.items()}
    made = triton.compile(
        ASTSource(variant.kernel, signature, constants, whole),
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": variant.num_warps, "num_stages": variant.num_stages},
    )
    registers, spilled = _usage(made.asm["cubin"], Path(triton.__file__).parent)
    columns = getattr(made.metadata, "tmem_size", None) or 0
    return Report(registers, made.metadata.shared, spilled, columns)


def _usage(code: bytes, triton: Path) -> tuple[int, int]:
    """Registers of a thread and bytes of its stack: what a kernel of Triton's has on a stack, it has spilled."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        tool = triton / "backends" / "nvidia" / "bin" / "cuobjdump"
        told = subprocess.run(
            [tool, "--dump-resource-usage", file.name], check=True, capture_output=True, text=True
        )
    ((registers, stack),) = _USAGE.findall(told.stdout)
    return int(registers), int(stack)
