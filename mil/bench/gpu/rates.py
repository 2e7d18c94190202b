"""Rates of the device: of a copy, and of products of square matrices."""

from collections.abc import Iterator

from mil.bench import kernels_step
from mil.bench.gpu.rows import Bench, GpuRow


def rates(bench: Bench) -> Iterator[GpuRow]:
    """What every floor is reckoned from."""
    types = ("fp32",) if bench.dry else ("bf16", "fp32")
    measured = kernels_step.rates(bench.device, types, bench.seconds)
    bench.copy = measured.copy
    bench.products = dict(measured.products)
    yield GpuRow("rates", "copy, bytes read and written", measured.copy / 1e9, "GB/s")
    for dtype, rate in measured.products.items():
        yield GpuRow("rates", f"matrix product, {dtype}", rate / 1e12, "TFLOP/s")
