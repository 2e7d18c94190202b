"""`mil bench …` at the command line; a benchmark is imported when it is called."""

import typer

from mil.bench.gpu.commands import bench_gpu
from mil.bench.head_commands import bench_classical, bench_train
from mil.bench.learn_commands import bench_learn
from mil.bench.mix_commands import bench_mix
from mil.bench.operation_commands import bench_graph, bench_kernels
from mil.bench.slide_commands import bench_features, bench_read, bench_tile
from mil.bench.start_commands import bench_pipeline, bench_start

bench_app = typer.Typer(
    help="Measure speed, memory and learning on this machine.", no_args_is_help=True
)
bench_app.command("start")(bench_start)
bench_app.command("pipeline")(bench_pipeline)
bench_app.command("gpu")(bench_gpu)
bench_app.command("mix")(bench_mix)
bench_app.command("read")(bench_read)
bench_app.command("features")(bench_features)
bench_app.command("tile")(bench_tile)
bench_app.command("train")(bench_train)
bench_app.command("classical")(bench_classical)
bench_app.command("learn")(bench_learn)
bench_app.command("graph")(bench_graph)
bench_app.command("kernels")(bench_kernels)
