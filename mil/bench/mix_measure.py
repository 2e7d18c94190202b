"""Time, memory and distance to full attention of one mixer, in the process that calls."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import process_time
from typing import Any, Literal, NamedTuple

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from mil.bench.kernels_step import milliseconds, with_memory
from mil.bench.measure import limit_memory
from mil.bench.mix_bags import SHAPE, made_bag
from mil.heads._mix_layer import Mix, build_mixer
from mil.heads._mixers.base import Places, Rows
from mil.kernels.bag_attn import bag_attn
from mil.kernels.dispatch import reference_alone
from mil.memory import keep_freed_memory

WARMED_TILES = 64
# Tiles whose rows are compared with those of full attention.
COMPARED = 512
LEAST_SECONDS = 0.3
# A call that takes longer is not repeated.
LONG_S = 5.0
SIDE = {"cpu": 2048, "cuda": 8192}
COPIED_NUMBERS = {"cpu": 64 << 20, "cuda": 256 << 20}
Backend = Literal["fast", "reference"]


class Job(NamedTuple):
    """One mixer at some lengths."""

    mixer: str
    lengths: Sequence[int]
    backend: Backend
    device: str
    threads: int


class MixFigures(NamedTuple):
    """Figures of one mixer at one length; without times it was not measured."""

    # Forward, and forward with backward: processor time on a CPU, which others use too.
    ms: tuple[float, float] | tuple[()] = ()
    # Peak beyond queries, keys and values, with backward.
    memory_mb: float = 0.0
    # Relative Frobenius error of the mixed rows.
    distance: float = 0.0
    # Mean exponential of the entropy of a row of full attention.
    support: float = 0.0
    failed: str = ""


class MachineRates(NamedTuple):
    """Rates of the device, by the same clock as the times of the mixers."""

    copy: float  # bytes a second, read and written
    product: float  # operations a second of a product of square matrices, float32


def measure_mixer(job: Job) -> dict[int, MixFigures]:
    """Figures of a mixer by number of tiles; a bag that finds no room is an answer too."""
    device = _prepared(job.device, job.threads)
    figures = {}
    for tiles in job.lengths:
        try:
            figures[tiles] = _figures(job, tiles, device)
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            figures[tiles] = MixFigures(failed="does not fit into memory")
    return figures


def peak_of(job: Job) -> float:
    """Peak of a mixer of the first length beyond queries, keys and values, with backward, MB."""
    torch.set_num_threads(job.threads)
    run = _run(job, job.lengths[0], torch.device(job.device))
    return with_memory(run.both, run.device)[0]


class _Run(NamedTuple):
    rows: Rows
    places: Places
    device: torch.device
    forward: Callable[[], Tensor]
    both: Callable[[], Any]


def _run(job: Job, tiles: int, device: torch.device) -> _Run:
    rows, places = made_bag(tiles, device)
    torch.manual_seed(0)
    options: Any = TypeAdapter(Mix).validate_python({"attention": job.mixer})
    mixer = build_mixer(options, SHAPE).to(device).eval()
    learned = [row.requires_grad_() for row in rows[:3]]
    upstream = torch.ones_like(rows.queries)

    def forward() -> Tensor:
        with torch.no_grad(), _form(job.backend):
            mixed: Tensor = mixer(rows, places)
            return mixed

    def both() -> Any:
        with _form(job.backend):
            mixed = mixer(rows, places)
        parameters = [*learned, *mixer.parameters()]
        return torch.autograd.grad(mixed, parameters, upstream, allow_unused=True)

    # Libraries are loaded by their first call.
    _warm_up(mixer, device)
    return _Run(rows, places, device, forward, both)


def _figures(job: Job, tiles: int, device: torch.device) -> MixFigures:
    run = _run(job, tiles, device)
    # What is measured once counts as the first time: a call may take minutes.
    began = process_time()
    memory_mb, _ = with_memory(run.both, device)
    both_s = process_time() - began
    began = process_time()
    mixed = run.forward()
    forward_s = process_time() - began
    distance, support = compared(mixed, run.rows, run.places)
    times = (_ms(run.forward, device, forward_s), _ms(run.both, device, both_s))
    return MixFigures(times, memory_mb, distance, support)


def _warm_up(mixer: nn.Module, device: torch.device) -> None:
    rows, places = made_bag(WARMED_TILES, device)
    for row in rows[:3]:
        row.requires_grad_()
    mixer(rows, places).sum().backward()
    mixer.zero_grad()


def _form(backend: Backend) -> AbstractContextManager[None]:
    return reference_alone() if backend == "reference" else nullcontext()


def compared(mixed: Tensor, rows: Rows, places: Places) -> tuple[float, float]:
    """Distance of mixed rows from full attention, and the support of its map.

    Some tiles are compared, with every tile as a key.
    """
    tiles = len(mixed)
    some = torch.arange(0, tiles, max(1, tiles // COMPARED), device=mixed.device)
    queries = rows.queries.detach()[some]
    ends = places.offsets.new_tensor([0, len(some)])
    keys, values = rows.keys.detach(), rows.values.detach()
    exact, _ = bag_attn(queries, keys, values, ends, places.offsets)
    distance = (mixed[some] - exact).norm() / exact.norm()
    supports = []
    for of_head, of_keys in zip(queries.unbind(1), keys.unbind(1), strict=True):
        log_p = (of_head @ of_keys.T * queries.shape[2] ** -0.5).log_softmax(1)
        supports.append(-(log_p.exp() * log_p).sum(1))
    return float(distance), float(torch.stack(supports).exp().mean())


def machine_rates(device_name: str, threads: int) -> MachineRates:
    """Rates of a copy and of a product of square matrices."""
    device = _prepared(device_name, threads)
    source = torch.ones(COPIED_NUMBERS[device.type], device=device)
    target = torch.empty_like(source)
    copy_ms = _ms(lambda: target.copy_(source), device)
    copied = 2 * source.nbytes
    del source, target
    side = SIDE[device.type]
    left = torch.randn(side, side, device=device)
    product_ms = _ms(lambda: left @ left, device)
    return MachineRates(1e3 * copied / copy_ms, 2e3 * side**3 / product_ms)


def _prepared(device_name: str, threads: int) -> torch.device:
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    if device.type == "cpu":
        limit_memory()
        keep_freed_memory()
    return device


def _ms(call: Callable[[], Any], device: torch.device, first_s: float = 0.0) -> float:
    """Least processor time of several calls on a CPU; time of the device on a GPU.

    Args:
        call: What is timed.
        device: Where it runs.
        first_s: Processor time of an earlier call; one that took long is not repeated.
    """
    if device.type == "cuda":
        return milliseconds(call, device, LEAST_SECONDS)
    times = [first_s] if first_s else []
    while not times or (times[0] < LONG_S and (sum(times) < LEAST_SECONDS or len(times) < 3)):
        began = process_time()
        call()
        times.append(process_time() - began)
    return 1e3 * min(times)
