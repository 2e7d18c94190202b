# What the rules ask the plan: the files they read, and their settings as flags.


def tiling(encoder):
    """Folder name of the tiles an encoder gets."""
    return PLAN.tilings[encoder]


def fetch_url(wildcards):
    """Where a file comes from."""
    return FETCHABLE[wildcards.file][0]


def fetch_checksum(wildcards):
    """What a file's checksum must be; empty when the table does not say."""
    return FETCHABLE[wildcards.file][1]


def features_settings(wildcards):
    """What features depend on, as flags."""
    settings = CONFIG.features
    return f"--precision {settings.precision} --dtype {settings.dtype} --max-corrupt {settings.max_corrupt}"


def features_targets(wildcards, output):
    """Encoders and their bags as flags, and what makes no difference to bags: how fast they are made."""
    # Asking for `output` keeps this out of what Snakemake compares, or a bag would depend on those made with it.
    flags = [
        f"--encoder {Path(file).parent.name} --out {shlex.quote(file)}"
        for file in output
    ]
    if CONFIG.features.batch_size:
        flags.append(f"--batch-size {CONFIG.features.batch_size}")
    if CONFIG.features.compile:
        flags.append("--compile")
    return " ".join(flags)


def states(wildcards):
    """Where the states of all slides are, as flags."""
    return PLAN.states


def dataset_columns(wildcards):
    """Which column is what, so that changing it divides the patients anew."""
    return str(DATASET.columns)


def dataset_classes(wildcards):
    """The task, its classes in order and the positive one, so that changing them trains and draws anew."""
    intervals = DATASET.ends or DATASET.intervals
    return f"{DATASET.task} {DATASET.classes} {DATASET.positive_class} {intervals}"


def subgroups(wildcards):
    """A digest of the table's further columns, so that changing one evaluates anew."""
    columns = sorted(
        (name, sorted(row.subgroups.items())) for name, row in SLIDES.items()
    )
    return hashlib.sha256(repr(columns).encode()).hexdigest()[:16]


def dataset_entry(wildcards):
    """The dataset's yaml, which the report quotes."""
    return DATASET.model_dump_json()


def tile_size(wildcards):
    """Side and resolution of a tile, as flags."""
    return size_flags(wildcards.tiling)


def slide_input(wildcards):
    """The slide's file; nothing when it is missing and the run goes on without it."""
    missing = wildcards.slide in PLAN.missing
    return [] if missing else str(PLAN.files[wildcards.slide])


def slide_file(wildcards):
    """The slide's file, there or not."""
    return str(PLAN.files[wildcards.slide])


def slide_mpp(wildcards):
    """Pixel size from the slide table, as a flag; nothing when the slide must say it itself."""
    mpp = SLIDES[wildcards.slide].mpp
    return "" if mpp is None else f"--mpp {mpp!r}"


def masks(wildcards):
    """The slide's own masks, by kind: `tissue`, `region`, or none."""
    return PLAN.masks.get(wildcards.slide, {})


def mask_flags(wildcards):
    """The slide's own masks, as flags."""
    return PLAN.mask_flags(wildcards.slide)


def annotation_input(wildcards):
    """A slide's annotation, if it has one; one that the table names must be there or be fetched."""
    return PLAN.annotations.get(wildcards.slide, [])


def annotations(wildcards):
    """The annotations of all slides that have one."""
    return list(PLAN.annotations.values())


def annotation_flag(wildcards):
    """The slide's annotation, as flags."""
    return PLAN.annotation_flags(wildcards.slide)


def split_files(wildcards):
    """The files of splits that the run takes, if it takes any."""
    return PLAN.split_files


def split_settings(wildcards):
    """How the patients are divided, as flags."""
    return PLAN.split_flags


def recipe_file(wildcards):
    """The file of a recipe, so that editing it trains its heads anew."""
    return str(recipe_path(wildcards.head))


def trained(wildcards):
    """The weights of all seeds and folds of a head."""
    return expand(
        "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/head.safetensors",
        **wildcards,
        seed=range(1, CONFIG.seeds + 1),
        fold=range(CONFIG.folds),
        folds=CONFIG.folds,
    )


def bag(wildcards):
    """The slide's bag: a ready one, or what `features` makes."""
    made = "results/{dataset}/features/{tiling}/{encoder}/{slide}.h5"
    return PLAN.ready_bags.get(wildcards.slide, made.format(**wildcards))


def bags(wildcards):
    """The bags of all slides: ready ones, or what `features` makes."""
    made = "results/{dataset}/features/{tiling}/{encoder}/{slide}.h5"
    return list(PLAN.ready_bags.values()) or expand(made, slide=SLIDES, **wildcards)


def scores(wildcards):
    """The scores of all bags by a head: of slides, or with early fusion the folder of patients."""
    folder = "results/{dataset}/score/{tiling}/{encoder}/{head}".format(**wildcards)
    if CONFIG.fusion == "early":
        return [f"{folder}/patients"]
    slides = PLAN.ready_bags or SLIDES
    return [f"{folder}/{slide}.h5" for slide in slides]


def scores_dir(wildcards, input):
    """The folder that holds the scores of all bags."""
    first = Path(input.scores[0])
    return str(first if CONFIG.fusion == "early" else first.parent)


def tiles(wildcards):
    """The tiles files of all slides; none where the bags are ready."""
    made = "results/{dataset}/tile/{tiling}/{slide}.h5"
    return [] if PLAN.ready else expand(made, slide=SLIDES, **wildcards)


def tiles_flag(wildcards, input):
    """Folder of the tiles files, as a flag; nothing where the bags are ready."""
    return (
        f"--tiles {shlex.quote(str(Path(input.tiles[0]).parent))}"
        if input.tiles
        else ""
    )


def canvas(wildcards):
    """What a heatmap is drawn on: the tiled slide; for a ready bag its slide, if it is there, or nothing."""
    if PLAN.ready:
        file = PLAN.files.get(wildcards.slide)
        return {"slide": str(file)} if file else {}
    made = "results/{dataset}/tile/{tiling}/{slide}".format(**wildcards)
    return {
        "tiles": f"{made}.h5",
        "tissue": f"{made}.geojson",
        "overview": f"{made}.jpg",
    }


def canvas_flag(wildcards, input):
    """What a heatmap is drawn on, as a flag."""
    named = ((kind, input.get(kind)) for kind in ("tiles", "slide"))
    return " ".join(
        f"--{kind} {shlex.quote(str(file))}" for kind, file in named if file
    )


def bags_dir(wildcards, input):
    """Folder of the bags."""
    return str(Path(input.bags[0]).parent)


def evaluated_dir(wildcards, input):
    """Folder of predictions and metrics."""
    return str(Path(input.metrics).parent)


def out_dir(wildcards, output):
    """Folder of what a rule writes."""
    return str(Path(output[0]).parent)


def tissue_settings(wildcards):
    """What counts as tissue, as flags; nothing where the bags are ready."""
    settings = CONFIG.tile
    flags = f"--min-tissue {settings.min_tissue} --min-area-mm2 {settings.min_area_mm2}"
    return "" if PLAN.ready else flags


def head_folders(wildcards, input):
    """The folders of the heads."""
    return " ".join(shlex.quote(str(Path(file).parent)) for file in input.heads)


def cards(wildcards):
    """The model cards of all heads of the run."""
    patterns = PLAN.of_each_head(
        "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{{seed}}_fold{{fold}}of{{folds}}/MODEL_CARD.md"
    )
    return expand(
        patterns,
        seed=range(1, CONFIG.seeds + 1),
        fold=range(CONFIG.folds),
        folds=CONFIG.folds,
    )


def head_dirs(wildcards, input):
    """The folders of the heads, as flags."""
    return " ".join(
        f"--head-dir {shlex.quote(str(Path(file).parent))}" for file in input.heads
    )


def heatmaps(wildcards):
    """The heatmaps of the run: of each slide that gets one, by each head."""
    pictures = PLAN.of_each_head(
        "results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{{slide}}.png"
    )
    return [file.format(slide=name) for file in pictures for name in PLAN.drawn]
