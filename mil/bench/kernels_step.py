"""Process of `mil bench kernels` that measures rates of the device, and operations."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mil.bench.kernels_cases import Case
from mil.bench.kernels_operations import DTYPES, OPERATION, Inputs, Results
from mil.bench.kernels_results import Measurement, Rates, Request
from mil.bench.measure import forget_peak, held_mb, limit_memory, peak_mb, times_of
from mil.kernels.dispatch import Backend
from mil.memory import keep_freed_memory

# Largest error allowed, relative to the largest number of a result.
TOLERANCE = {"fp32": 1e-4, "bf16": 4e-2, "fp16": 5e-3}
LENIENCE = 2.0  # allowed multiple of the error that the reference has in the same type
COPIED_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
SIDE = {"cpu": 2048, "cuda": 8192}  # rows and columns of the matrices whose product is timed
# Least calls on a CPU, of which the fastest counts: other processes use it too.
CALLS = 4
MB = 2**20
NO_ROOM = ("out of memory", "allocate memory")  # in torch's errors on a GPU and on a CPU


def main() -> None:
    """Run the jobs of the request in the first argument; print one line of JSON for each."""
    request = Request(**json.loads(sys.argv[1]))
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    if device.type == "cpu":
        limit_memory()
        keep_freed_memory()
    for way, arguments in request.jobs:
        try:
            result = _run(way, arguments, request, device)
        except RuntimeError as error:
            if not any(message in str(error) for message in NO_ROOM):
                raise
            result = Measurement(failed="does not fit into memory")
        # Fields at their defaults are left out, so that a failure reads as either
        # record.
        fields = {
            name: value
            for name, value in result._asdict().items()
            if value != result._field_defaults[name]
        }
        print(json.dumps(fields), flush=True)


def _run(
    way: str, arguments: Sequence[Any], request: Request, device: torch.device
) -> Measurement | Rates:
    if way == "rates":
        return rates(device, arguments, request.seconds)
    return measure(Case(*arguments), way, request.backend, device, request.seconds)


def rates(device: torch.device, dtypes: Sequence[str], seconds: float) -> Rates:
    """Rates of a copy, and of products of square matrices."""
    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_ms = milliseconds(lambda: target.copy_(source), device, seconds)
    copied = 2 * source.nbytes  # read and written
    del source, target
    side = SIDE[device.type]
    products = {}
    for dtype in dtypes:
        left = torch.randn(side, side, device=device).to(DTYPES[dtype])
        right = torch.randn(side, side, device=device).to(DTYPES[dtype])
        ms = milliseconds(partial(torch.mm, left, right), device, seconds)
        products[dtype] = 2e3 * side**3 / ms
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return Rates(1e3 * copied / copy_ms, products, gpu)


def measure(
    case: Case, way: str, backend: Backend, device: torch.device, seconds: float
) -> Measurement:
    """Time and memory of one way to compute an operation, forward and with its gradient.

    Args:
        case: operation and sizes.
        way: `ours`; `eager`, the reference; `compiled`, the reference through
            `torch.compile`; `other`, another library's.
        backend: backend of `ours`.
        device: device to compute on.
        seconds: time to spend on each timing, about.
    """
    call = called(case, way, backend)
    # The check also loads libraries, which is not to be timed.
    message = "" if way == "compiled" else error(case, call, device)
    if message:
        return Measurement(failed=message)
    operation = OPERATION[case.operation]
    inputs = operation.make(case, device)
    learned = [inputs[name].requires_grad_() for name in operation.learned]

    def forward() -> Results | None:
        with torch.no_grad():
            return call(inputs)

    forward_mb, results = with_memory(forward, device)
    if results is None:
        return Measurement()
    upstream = upstreams(results)
    results_mb = sum(tensor.nbytes for tensor in results) / MB
    del results

    def both() -> Results:
        return torch.autograd.grad(call(inputs), learned, upstream)

    both_mb, _ = with_memory(both, device)
    return Measurement(
        ms=[milliseconds(timed, device, seconds) for timed in (forward, both)],
        memory_mb=[forward_mb, both_mb],
        results_mb=results_mb,
        largest_mb=max(tensor.nbytes for tensor in inputs.values()) / MB,
        gradients_mb=sum(tensor.nbytes for tensor in learned) / MB,
    )


def called(case: Case, way: str, backend: Backend) -> Callable[[Inputs], Any]:
    """Function to time."""
    operation = OPERATION[case.operation]
    if way == "other":
        other = operation.other
        return lambda inputs: other and other(inputs)
    if way == "ours":
        return lambda inputs: operation.call(inputs, backend)
    if way == "compiled":
        torch._dynamo.reset()
        return torch.compile(lambda inputs: operation.call(inputs, "reference"), dynamic=False)
    return lambda inputs: operation.call(inputs, "reference")


def error(case: Case, call: Callable[[Inputs], Any], device: torch.device) -> str:
    """Difference of results or gradients from the reference in float64; empty if they agree.

    Computed on small bags. In half precision the reference itself may be off by more
    than the tolerance; then so may the result.
    """
    operation = OPERATION[case.operation]
    tiles = min(case.tiles, operation.checked_tiles)
    inputs = operation.make(case._replace(tiles=tiles), device)
    outputs = _results_and_gradients(call, inputs, operation.learned)
    if outputs is None:
        return ""
    # Another library may not have all results.
    count = sum(name.startswith("result") for name in outputs)

    def reference(tensors: Inputs) -> Results:
        return operation.call(tensors, "reference")[:count]

    usual = _results_and_gradients(reference, inputs, operation.learned)
    exact = _results_and_gradients(reference, _in_float64(inputs), operation.learned)
    assert usual is not None
    assert exact is not None
    for name, tensor in outputs.items():
        off = _relative_error(tensor, exact[name])
        usual_off = _relative_error(usual[name], exact[name])
        # Not `>`: NaN is no result either.
        if not off <= max(TOLERANCE[case.dtype], LENIENCE * usual_off):
            return f"wrong, not timed: {name} is off by {off:.1g} of its largest"
    return ""


def _in_float64(inputs: Inputs) -> Inputs:
    return {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in inputs.items()
    }


def _relative_error(got: Tensor, want: Tensor) -> float:
    largest = want.abs().max().clamp(min=1e-6)
    return float((got.double() - want).abs().max() / largest)


def _results_and_gradients(
    call: Callable[[Inputs], Any], inputs: Inputs, learned: Sequence[str]
) -> Inputs | None:
    """Results and gradients by name; None where the call does not apply."""
    copies = {
        name: tensor.clone().requires_grad_(name in learned) for name, tensor in inputs.items()
    }
    results = call(copies)
    if results is None:
        return None
    leaves = [copies[name] for name in learned]
    gradients = torch.autograd.grad(results, leaves, upstreams(results))
    outputs = {f"result {index}": result.detach() for index, result in enumerate(results)}
    for name, gradient in zip(learned, gradients, strict=True):
        outputs[f"gradient of {name}"] = gradient
    return outputs


def upstreams(results: Results) -> Results:
    """Random gradients for results, the same in every type."""
    generator = torch.Generator(results[0].device).manual_seed(2)
    gradients = []
    for result in results:
        draws = torch.randn(result.shape, generator=generator, device=result.device)
        gradients.append(draws.to(result.dtype))
    return tuple(gradients)


def with_memory(call: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Peak memory of a call beyond that held before it, MB, and its result."""
    if device.type == "cpu":
        forget_peak()
        before = held_mb()
        results = call()
        return max(0.0, peak_mb() - before), results
    call()  # memory that is allocated once is not counted
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    results = call()
    return (torch.cuda.max_memory_allocated(device) - held) / MB, results


def milliseconds(call: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Time of a call: on a GPU the median, with an empty cache; on a CPU the fastest."""
    if device.type == "cpu":
        return 1e3 * min(times_of(call, seconds, least=CALLS))
    from triton.testing import do_bench

    return float(do_bench(call, warmup=100 * seconds, rep=1e3 * seconds, return_mode="median"))
