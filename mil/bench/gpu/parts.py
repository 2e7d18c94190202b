"""Order of the parts: what is most important first."""

from mil.bench.gpu.checks import checks
from mil.bench.gpu.encoders import encoders
from mil.bench.gpu.kernels import bars, operations
from mil.bench.gpu.memory import memory
from mil.bench.gpu.rates import rates
from mil.bench.gpu.rows import Part
from mil.bench.gpu.stacks import stacks
from mil.bench.gpu.steps import steps
from mil.bench.gpu.tuning import tuning

PARTS: tuple[Part, ...] = (
    checks,
    rates,
    bars,
    operations,
    tuning,
    steps,
    encoders,
    stacks,
    memory,
)
