"""What `mil bench kernels` measures in a process of its own: the device's rates, and operations, one after another."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mil.bench.kernels_cases import Case
from mil.bench.kernels_operations import DTYPES, OPERATION, Inputs, Results
from mil.bench.measure import forget_peak, held_mb, limit_memory, peak_mb, times_of
from mil.device import keep_freed_memory
from mil.kernels.dispatch import Backend

FEW = 300  # tiles of the bags on which an operation is proved before it is timed
TOLERANCE = {"fp32": 1e-4, "bf16": 4e-2, "fp16": 5e-3}  # of the largest number of a result
LENIENCE = 2.0  # times what the reference in the same type is off
COPIED = {"cpu": 256 << 20, "cuda": 1 << 30}  # bytes whose copy is timed
SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is timed
CALLS = 4  # on a CPU, of which the fastest counts: others use it too
MB = 2**20
NO_ROOM = ("out of memory", "allocate memory")  # what torch says on a GPU and on a CPU


def main() -> None:
    """Measure each of the things that the argument asks for; print the result of each as a line of JSON."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    device = torch.device(settings["device"])
    if device.type == "cpu":
        limit_memory()
        keep_freed_memory()
    for way, case in settings["asked"]:
        try:
            found = _of(way, case, settings, device)
        except RuntimeError as error:
            if not any(said in str(error) for said in NO_ROOM):
                raise
            found = {"failed": "does not fit into memory"}
        print(json.dumps(found), flush=True)


def _of(
    way: str, case: list[Any], settings: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    if way == "rates":
        return rates(device, case, settings["seconds"])
    return measure(Case(*case), way, settings["backend"], device, settings["seconds"])


def rates(device: torch.device, dtypes: list[str], seconds: float) -> dict[str, Any]:
    """Bytes a second of a copy, read and written, and operations a second of products of square matrices."""
    source = torch.ones(COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found: dict[str, Any] = {
        "copy": 2e3 * source.nbytes / milliseconds(lambda: target.copy_(source), device, seconds)
    }
    del source, target
    side = SIDE[device.type]
    for dtype in dtypes:
        left, right = (torch.randn(side, side, device=device).to(DTYPES[dtype]) for _ in range(2))
        found[dtype] = 2e3 * side**3 / milliseconds(partial(torch.mm, left, right), device, seconds)
    return found | {"gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else ""}


def measure(
    case: Case, way: str, backend: Backend, device: torch.device, seconds: float
) -> dict[str, Any]:
    """Time and memory of one way to compute an operation, forward and with its gradient.

    Args:
        case: what it is given.
        way: `ours`; `eager`, the reference; `compiled`, the reference through
            `torch.compile`; `other`, a library's.
        backend: of ours.
        device: where.
        seconds: that the timing of each takes, about.
    """
    call = called(case, way, backend)
    wrong = "" if way == "compiled" else error(case, call, device)  # which loads libraries, too
    if wrong:
        return {"failed": wrong}
    operation = OPERATION[case.operation]
    given = operation.make(case, device)
    learned = [given[name].requires_grad_() for name in operation.learned]

    def forward() -> Results | None:
        with torch.no_grad():
            return call(given)

    forward_mb, results = with_memory(forward, device)
    if results is None:
        return {}
    upstream = upstreams(results)
    results_mb = sum(tensor.nbytes for tensor in results) / MB
    del results

    def both() -> Results:
        return torch.autograd.grad(call(given), learned, upstream)

    both_mb, _ = with_memory(both, device)
    return {
        "ms": [milliseconds(one, device, seconds) for one in (forward, both)],
        "memory_MB": [forward_mb, both_mb],
        "results_MB": results_mb,
        "largest_MB": max(tensor.nbytes for tensor in given.values()) / MB,
        "gradients_MB": sum(tensor.nbytes for tensor in learned) / MB,
    }


def called(case: Case, way: str, backend: Backend) -> Callable[[Inputs], Any]:
    """The function that is timed."""
    operation = OPERATION[case.operation]
    if way == "other":
        other = operation.other
        return lambda given: other and other(given)
    if way == "ours":
        return lambda given: operation.call(given, backend)
    if way == "compiled":
        torch._dynamo.reset()
        return torch.compile(lambda given: operation.call(given, "reference"), dynamic=False)
    return lambda given: operation.call(given, "reference")


def error(case: Case, call: Callable[[Inputs], Any], device: torch.device) -> str:
    """How results or gradients of small bags differ from the reference's in float64; nothing, if they agree.

    In half precision the reference itself may be further off than a number says: then
    so may what is proved.
    """
    operation = OPERATION[case.operation]
    given = operation.make(case._replace(tiles=min(case.tiles, FEW)), device)
    twice = {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in given.items()
    }
    got = _results_and_gradients(call, given, operation.learned)
    if got is None:
        return ""
    many = sum(name.startswith("result") for name in got)  # a library may not have them all
    plain, want = (
        _results_and_gradients(
            lambda known: operation.call(known, "reference")[:many], one, operation.learned
        )
        for one in (given, twice)
    )
    for name, tensor in got.items():
        off, usual = (_off(one, want[name]) for one in (tensor, plain[name]))
        if not off <= max(TOLERANCE[case.dtype], LENIENCE * usual):  # neither if it is no number
            return f"wrong, not timed: {name} is off by {off:.1g} of its largest"
    return ""


def _off(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).abs().max() / want.abs().max().clamp(min=1e-6))


def _results_and_gradients(
    call: Callable[[Inputs], Any], given: Inputs, learned: Sequence[str]
) -> Any:
    known = {name: tensor.clone().requires_grad_(name in learned) for name, tensor in given.items()}
    results = call(known)
    if results is None:
        return None
    of = torch.autograd.grad(results, [known[name] for name in learned], upstreams(results))
    named = {f"result {place}": result.detach() for place, result in enumerate(results)}
    return named | {f"gradient of {name}": tensor for name, tensor in zip(learned, of, strict=True)}


def upstreams(results: Results) -> Results:
    """Gradients for results: numbers that tell places apart, the same in every type."""
    draw = torch.Generator(results[0].device).manual_seed(2)
    return tuple(
        torch.randn(one.shape, generator=draw, device=one.device).to(one.dtype) for one in results
    )


def with_memory(call: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Most memory that a call takes beyond what was held before it, MB, and what it returns."""
    if device.type == "cpu":
        forget_peak()
        before = held_mb()
        results = call()
        return max(0.0, peak_mb() - before), results
    call()  # what is taken once and for all is not counted
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    results = call()
    return (torch.cuda.max_memory_allocated(device) - held) / MB, results


def milliseconds(call: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """On a GPU the median, with nothing of it in the cache before; on a CPU the fastest."""
    if device.type == "cpu":
        return 1e3 * min(times_of(call, seconds, least=CALLS))
    from triton.testing import do_bench

    return float(do_bench(call, warmup=100 * seconds, rep=1e3 * seconds, return_mode="median"))
