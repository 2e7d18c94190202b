"""Which faults a chaos test tries: kills over all stages, disks, slides, and every kind of file."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.chaos.faults import (
    Chain,
    Fault,
    corrupt,
    cut,
    cut_off,
    damage_checkpoint,
    fill_disk,
    flip,
    follow_advice,
    kill_all,
    kill_job,
    kill_run,
    make_read_only,
    silently,
    take_slide_away,
)
from tests.chaos.moments import STAGES, Moment, random_moment
from tests.chaos.undisturbed import Undisturbed

DISK_FULL = r"No space left on device.*free some space"
READ_ONLY = r"failed: mil: .*Read-only file system.*choose a path on a disk that can be written to"
GONE = r"failed: mil: .*mini_03\.tif: no such file.*put (it|the slide) back"
# Of a job whose process was killed.
KILLED = r"^\w+.* failed: killed"
DAMAGED = r"failed: mil: .*delete it"
CUT_OFF = r"failed: mil: s3://slides/mini_0\d\.tif: .*(the next run goes on|check the url and)"
# Size of a study's disk before its space is cut down, MB.
DISK_MB = 500
AT = "224px_0.5mpp/efficientnet_lite0"
BAGS = f"results/demo_mini/features/{AT}"
TILES = "results/demo_mini/tile/224px_0.5mpp"
SCORES = f"results/demo_mini/score/{AT}/abmil"
HEATMAPS = f"results/demo_mini/heatmap/{AT}/abmil"
HEAD = f"results/demo_mini/train/{AT}/abmil/seed1_fold0of1"
# What depends on a whole training or on all slides is made again where one file changed.
OF_ALL = (
    r"/(bags|split|train|evaluate|compare)/",
    r"/parts/",
    r"/report\.html$",
    r"/report\.json$",
    r"/report_slides/",
    r"/config\.json$",
)


def all_chains(undisturbed: Undisturbed, seed: int, kills: int) -> list[Chain]:
    """All faults of the long form."""
    random = Random(seed)
    return [
        *kill_chains(undisturbed, random, kills),
        disk_chain(undisturbed, random),
        mixed_chain(random),
        store_chain(random),
        corruption_chain(),
        late_corruption_chain(),
    ]


def quick_chains(undisturbed: Undisturbed, seed: int) -> list[Chain]:
    """Faults of a finished study, whose reruns are short."""
    random = Random(seed)
    moment = random_moment(random, "score", files=8)
    faults = (
        _corruption("weights cut", f"{HEAD}/head.safetensors", cut),
        _corruption("bag flipped", f"{BAGS}/mini_03.h5", flip),
    )
    # It trains the head again that was cut before.
    killed = Fault("kill", f"run and jobs at {moment}", kill_all(moment), exempt=OF_ALL)
    return [Chain("quick", (*faults[:1], killed, *faults[1:]), is_finished=True)]


def kill_chains(undisturbed: Undisturbed, random: Random, number: int) -> list[Chain]:
    """Kills at random moments, in each stage in turn; every fifth is of Snakemake alone."""
    chains = []
    for first in range(0, number, len(STAGES)):
        kills = []
        for turn, stage in enumerate(STAGES[: number - first], first):
            moment = random_moment(random, stage, files=undisturbed.num_files[stage])
            alone = turn % 5 == 4
            victim = "Snakemake alone" if alone else "run and jobs"
            strike = kill_run(moment) if alone else kill_all(moment)
            kills.append(Fault("kill", f"{victim} at {moment}", strike))
        chains.append(Chain(f"kills{len(chains)}", tuple(kills)))
    return chains


def disk_chain(undisturbed: Undisturbed, random: Random) -> Chain:
    """A disk that becomes full three times, each time later."""
    shares = (random.uniform(0.0, 0.1), random.uniform(0.05, 0.3), random.uniform(0.1, 0.4))
    faults = [
        Fault(
            "full disk",
            f"space for {share:.0%} of the rest",
            fill_disk(share, undisturbed.kilobytes),
            (DISK_FULL,),
        )
        for share in shares
    ]
    return Chain("disk", tuple(faults), disk=DISK_MB)


def mixed_chain(random: Random) -> Chain:
    """Slides taken away, jobs killed and results made read-only, in the order of the stages."""

    def killed(stage: str) -> Fault:
        moment = Moment(stage, 0, random.uniform(0.0, 0.1))
        return Fault("killed job", f"job at {moment}", kill_job(moment), (KILLED,))

    def away(stage: str) -> Fault:
        strike = take_slide_away(Moment(stage), "mini_03.tif")
        return Fault("slide away", f"mini_03.tif in {stage}", strike, (GONE,))

    def read_only(moment: Moment) -> Fault:
        strike = make_read_only(moment, "results")
        return Fault("read-only", f"results at {moment}", strike, (READ_ONLY,))

    faults = (
        away("tile"),
        read_only(Moment("features", 2)),
        away("features"),
        killed("train"),
        killed("score"),
        read_only(Moment("heatmap", 1)),
    )
    return Chain("mixed", faults)


def store_chain(random: Random) -> Chain:
    """The store of the slides cut off in the middle of one, twice."""
    faults = [
        Fault("store cut off", f"after {sent} bytes", cut_off(sent), (CUT_OFF,))
        for sent in (random.randrange(1, 200_000), random.randrange(200_000, 400_000))
    ]
    return Chain("store", tuple(faults), is_remote=True)


def _corruption(name: str, file: str, how: Callable[[Path], None], until: str = "") -> Fault:
    # All files of a slide that a stage writes are written together.
    stage, slide = Path(file).parts[2], Path(file).stem
    return Fault(
        "corruption",
        name,
        corrupt(file, how, until),
        (DAMAGED,),
        may_pass=True,
        exempt=(*OF_ALL, rf"/{stage}/.*/{slide}\."),
        mend=follow_advice,
    )


def corruption_chain() -> Chain:
    """Files that one stage writes and another reads, each damaged between the two."""
    faults = (
        _corruption("tiles cut, time kept", f"{TILES}/mini_05.h5", silently(cut), "tile"),
        _corruption("bag flipped, time kept", f"{BAGS}/mini_03.h5", silently(flip), "split"),
        Fault("corruption", "checkpoint flipped", damage_checkpoint(flip)),
        _corruption("weights flipped", f"{HEAD}/head.safetensors", flip, "train"),
        _corruption("scores cut, time kept", f"{SCORES}/mini_06.h5", silently(cut), "score"),
    )
    return Chain("corrupt", faults)


def late_corruption_chain() -> Chain:
    """Files of a finished study."""
    faults = (
        _corruption("heatmap cut", f"{HEATMAPS}/mini_06.png", cut),
        _corruption("scores flipped", f"{SCORES}/mini_06.h5", flip),
        _corruption("record cut", f"{HEAD}/recipe.json", cut),
        _corruption("bag flipped", f"{BAGS}/mini_03.h5", flip),
        _corruption("tiles cut", f"{TILES}/mini_05.h5", cut),
    )
    return Chain("late", faults, is_finished=True)
