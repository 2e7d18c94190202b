"""Launches of every operation, recorded instead of run.

For a process without Triton's interpreter.
"""

import json
from itertools import product

import torch
from triton.runtime.jit import JITFunction

from mil.bench.kernels_cases import OPERATIONS, Case
from mil.bench.kernels_operations import OPERATION
from mil.bench.kernels_step import upstreams
from mil.bench.resources import kernel_modules, short, variants_of

TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.int64: "i64",
    torch.int32: "i32",
}
# so many are for attn_pool alone
DIMS = (36, 512, 1536, 2560)
BRANCHES = (1, 5)
MANY = 40
# compiled alike
HALF = (torch.bfloat16, torch.float16)
HALVES = ("*bf16", "*fp16")
launched = []


def write_down(kernel, *args, grid, warmup, **options):
    named = dict(zip(kernel.arg_names, args, strict=False))
    launched.append((kernel, named | options))


def covers(variant, given):
    """Whether a launch compiles to a variant: constants, options, and argument types."""
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages}
    if any(given[name] != value for name, value in (variant.constants | options).items()):
        return False
    return all(suits(given[name], type_) for name, type_ in variant.signature.items())


def suits(value, type_):
    if isinstance(value, torch.Tensor):
        return type_ in HALVES if value.dtype in HALF else type_ == f"*{TYPES[value.dtype]}"
    if isinstance(value, float):
        return type_ == "fp32"
    return isinstance(value, int) and (
        type_ in ("i32", "i64") or (type_ == "i32:16" and value % 16 == 0)
    )


def main():
    """Print the kernels that were launched, and the launches that no variant covers."""
    JITFunction.run = write_down
    for name, dtype, dim, branches in product(
        OPERATIONS, ("fp32", "bf16", "fp16"), DIMS, (*BRANCHES, MANY)
    ):
        if branches == MANY and not name.startswith("attn_pool"):
            continue
        operation = OPERATION[name]
        given = operation.make(Case(name, 40, dim, branches, 3, dtype), torch.device("cpu"))
        learned = [given[one].requires_grad_() for one in operation.learned]
        results = operation.call(given, "triton")
        torch.autograd.grad(results, learned, upstreams(results))
    variants = [variant for module in kernel_modules() for variant in variants_of(module)]
    missing = {
        f"{short(kernel)} "
        + ", ".join(
            f"{name}={TYPES.get(getattr(value, 'dtype', None), value)}"
            for name, value in given.items()
        )
        for kernel, given in launched
        if not any(variant.kernel is kernel and covers(variant, given) for variant in variants)
    }
    print(
        json.dumps(
            [sorted({short(kernel) for kernel, _ in launched}), len(launched), sorted(missing)]
        )
    )


if __name__ == "__main__":
    main()
