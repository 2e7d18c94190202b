"""Values and gradients of every operation against the reference in float64, twice the same bits."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from mil.bench.gpu.rows import Bench, GpuRow
from mil.bench.kernels_cases import OPERATIONS, WITHOUT_BRANCHES, Case
from mil.bench.kernels_operations import OPERATION, Inputs, Results
from mil.bench.kernels_step import error, upstreams

TYPES = ("fp32", "bf16", "fp16")


def checks(bench: Bench) -> Iterator[GpuRow]:
    """Each operation in each type, then spoilt ones, which the comparison must detect."""
    for operation in OPERATIONS[: bench.size(len(OPERATIONS), 3)]:
        for dtype in TYPES[: bench.size(len(TYPES), 1)]:
            if operation == "topk_mask" and dtype != "fp32":
                continue
            case = _case(bench, operation, dtype)
            call = _call(operation, bench)
            fault = error(case, call, bench.device)
            yield _row(f"{operation} {dtype} equals the reference", fault)
            yield _row(f"{operation} {dtype} same bits twice", _differs(case, call, bench))
    for operation, name in (("attn_pool", "features"), ("gated_scores", "gate_bias")):
        case = _case(bench, operation, "fp32")
        missed = "" if error(case, _spoilt(operation, name, bench), bench.device) else "not noticed"
        yield _row(f"{operation} with spoilt {name} is noticed", missed)


def _case(bench: Bench, operation: str, dtype: str) -> Case:
    branches = 1 if operation in WITHOUT_BRANCHES else 3
    dim = bench.size(512, 16)
    return Case(operation, bench.size(5000, 12), dim, branches, 3, dtype)


def _call(operation: str, bench: Bench) -> Callable[[Inputs], Any]:
    return lambda inputs: OPERATION[operation].call(inputs, bench.backend)


def _spoilt(operation: str, name: str, bench: Bench) -> Callable[[Inputs], Any]:
    """The operation of inputs one number of which is another."""

    def call(inputs: Inputs) -> Results:
        changed = inputs[name].clone()
        changed.view(-1)[-1] += 1
        return OPERATION[operation].call({**inputs, name: changed}, bench.backend)

    return call


def _differs(case: Case, call: Callable[[Inputs], Any], bench: Bench) -> str:
    """Result or gradient that differs between two equal calls; empty if none does."""
    operation = OPERATION[case.operation]
    outputs = []
    for _ in range(2):
        inputs = operation.make(case, bench.device)
        leaves = [inputs[name].requires_grad_() for name in operation.learned]
        results = call(inputs)
        gradients = torch.autograd.grad(results, leaves, upstreams(results))
        names = [f"result {number}" for number in range(len(results))]
        names += [f"gradient of {name}" for name in operation.learned]
        outputs.append(dict(zip(names, [*results, *gradients], strict=True)))
    first, second = outputs
    return next((name for name in first if not torch.equal(first[name], second[name])), "")


def _row(name: str, fault: str) -> GpuRow:
    return GpuRow("checks", name, verdict="failed" if fault else "ok", note=fault)
