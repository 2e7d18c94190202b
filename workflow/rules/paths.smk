# Every path of the results, written out once; in braces, the wildcards. Below, the files that a rule reads where one
# pattern is not enough.
from pathlib import Path

from mil.config import load_recipe, recipe_path
from mil.config.slide_encoders import needs_heads

FETCHABLE = PLAN.fetchable
TO_READ = {} if PLAN.precomputed_dir else PLAN.slides_to_read
FETCHED = f"{PLAN.slides_dir}/{{file}}"

# Slides, tiled and embedded, one file a slide in these folders. A job takes a part of the slides, and its table says that
# all of them are there: Snakemake knows tables, `mil` knows slides.
TILES_DIR = "results/{dataset}/tile/{tiling}"
TILED_PART = "results/{dataset}/tile/{tiling}/parts/{part}.csv"
BAGS_DIR = "results/{dataset}/features/{tiling}/{encoder}"
EMBEDDED_PART = "results/{dataset}/features/{tiling}/{encoder}/parts/{part}.csv"

BAGS_TABLE = "results/{dataset}/bags/{tiling}/{encoder}.csv"

# A head, of one fold and one seed.
FOLDS = "results/{dataset}/split/{tiling}/{encoder}/folds{folds}.csv"
FOLDS_OF_RUN = FOLDS.replace("{folds}", str(CONFIG.folds))
WEIGHTS = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/head.safetensors"
LAST_WEIGHTS = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/last.safetensors"
RECIPE = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/recipe.json"
HISTORY = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/history.json"
MODEL_CARD = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/MODEL_CARD.md"

# The heads of one recipe: their scores, evaluated and drawn.
SCORES_DIR = "results/{dataset}/score/{tiling}/{encoder}/{head}"
SCORED_PART = "results/{dataset}/score/{tiling}/{encoder}/{head}/parts/{part}.csv"
VECTORS_PART = (
    "results/{dataset}/embed/{tiling}/{encoder}/{slide_encoder}/parts/{part}.csv"
)
VECTORS_DIR = "results/{dataset}/embed/{tiling}/{encoder}/{slide_encoder}"
FEWSHOT = "results/{dataset}/fewshot/{tiling}/{encoder}/fewshot.csv"
FEWSHOT_FIGURE = "results/{dataset}/fewshot/{tiling}/{encoder}/fewshot.svg"
SCORES_OF_PATIENTS = "results/{dataset}/score/{tiling}/{encoder}/{head}/patients"
SCORES_OF_ALL = SCORES_OF_PATIENTS if CONFIG.fusion == "early" else SCORES_DIR
TRAINED_DIR = "results/{dataset}/train/{tiling}/{encoder}/{head}"
EVALUATE_DIR = "results/{dataset}/evaluate/{tiling}/{encoder}/{head}"
PREDICTIONS = "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/predictions.csv"
PATIENTS = (
    "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/predictions_patients.csv"
)
METRICS = "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/metrics.json"
HEATMAP_DIR = "results/{dataset}/heatmap/{tiling}/{encoder}/{head}"
QUPATH_SCRIPT = "results/{dataset}/heatmap/attach_heatmaps.groovy"
DRAWN_PART = "results/{dataset}/heatmap/{tiling}/{encoder}/{head}/parts/{part}.csv"
REFINED_PART = "results/{dataset}/refine/{tiling}/{encoder}/{head}/parts/{part}.csv"

# The study as a whole.
COMPARISON = "results/{dataset}/compare/comparison.json"
COMPARISON_CSV = "results/{dataset}/compare/comparison.csv"
COMPARISON_MARKDOWN = "results/{dataset}/compare/comparison.md"
COMPARISON_LATEX = "results/{dataset}/compare/comparison.tex"
REPORT = "results/{dataset}/report.html"
RUN_CONFIG = "results/{dataset}/config.json"


def expand_seeds_and_folds(pattern, **wildcards):
    """A path for each seed and fold of the run."""
    return expand(
        pattern,
        **wildcards,
        seed=range(1, CONFIG.seeds + 1),
        fold=range(CONFIG.folds),
        folds=CONFIG.folds,
    )


def expand_parts(pattern, stage, slides=None, **wildcards):
    """A table for each part of a stage; of those alone that hold `slides`, if they are given."""
    return expand(pattern, part=PLAN.parts(stage).names(slides), **wildcards)


def without_part(wildcards):
    """Wildcards but `part`: those that the stages of one path share."""
    return {name: value for name, value in wildcards.items() if name != "part"}


def list_members(stage, part):
    """Slides of a part."""
    return PLAN.members[stage][part]


def count_members(stage):
    """Function for the number of a part's slides: a resource, so that a dry run shows it."""
    return lambda wildcards: len(list_members(stage, wildcards.part))


def list_files(slides):
    """Files of slides to read."""
    return [str(TO_READ[name]) for name in slides if name in TO_READ]


def get_slides(wildcards):
    """Files of a part's slides; not of missing slides, which the run continues without."""
    return list_files(list_members("tile", wildcards.part))


def get_slides_to_read(wildcards):
    """Files of the slides of a part of `features`; not of missing ones."""
    return list_files(list_members("features", wildcards.part))


def get_masks(wildcards):
    """The user's masks of a part's slides, of tissue and of regions."""
    return list_masks(list_members("tile", wildcards.part))


def get_masks_to_read(wildcards):
    """The user's masks of the slides of a part of `stream`."""
    return list_masks(list_members("features", wildcards.part))


def list_masks(members):
    """The user's masks of slides, of tissue and of regions."""
    masks = [PLAN.masks.get(name, {}) for name in members]
    return [str(file) for files in masks for file in files.values()]


def get_tables_of_tiles(wildcards):
    """Tables of the tiles that a part of `features` reads."""
    members = list_members("features", wildcards.part)
    return expand_parts(TILED_PART, "tile", members, **without_part(wildcards))


def list_bags(slides, wildcards):
    """What tells that bags of slides are there: tables of `features`, or precomputed bags themselves."""
    if PLAN.precomputed_dir:
        return [PLAN.precomputed_bags[name] for name in slides]
    return expand_parts(EMBEDDED_PART, "features", slides, **without_part(wildcards))


def get_bags_to_join(wildcards):
    """Tables of the bags that a part of `join` joins."""
    return [
        EMBEDDED_PART.format(
            dataset=wildcards.dataset, part=wildcards.part, **kind._asdict()
        )
        for kind in PLAN.joined[wildcards.encoder]
    ]


def get_bags(wildcards):
    """Bags of all slides; see `list_bags`."""
    return list_bags(PLAN.parts("features").slides, wildcards)


def get_bags_to_score(wildcards):
    """Bags of a part of `score`."""
    return list_bags(list_members("score", wildcards.part), wildcards)


def get_scores(wildcards):
    """Scores of all bags by the heads of a recipe: of slides, or with early fusion of patients."""
    if CONFIG.fusion == "early":
        return [SCORES_OF_PATIENTS.format(**wildcards)]
    return expand_parts(SCORED_PART, "score", **wildcards)


def get_all_scores(wildcards):
    """Scores by all heads of the run."""
    if CONFIG.fusion == "early":
        return PLAN.for_each_head(SCORES_OF_PATIENTS)
    patterns = PLAN.for_each_head(SCORED_PART)
    return [path for pattern in patterns for path in expand_parts(pattern, "score")]


def get_scores_to_draw(wildcards):
    """Tables of the scores that a part of `heatmap` draws."""
    members = list_members("heatmap", wildcards.part)
    return expand_parts(SCORED_PART, "score", members, **without_part(wildcards))


def get_annotations_to_draw(wildcards):
    """Annotations of a part's slides; a file that the table names must exist or be fetched."""
    members = list_members("heatmap", wildcards.part)
    return [PLAN.annotations[name] for name in members if name in PLAN.annotations]


def get_annotations(wildcards):
    """The annotations of all slides that have one."""
    return list(PLAN.annotations.values())


def get_canvases(wildcards):
    """Files that heatmaps of a part are drawn on, where no table tells of them: slides beside precomputed bags."""
    members = list_members("heatmap", wildcards.part)
    beside = PLAN.files if PLAN.precomputed_dir else {}
    return [str(beside[name]) for name in members if name in beside]


def get_split_files(wildcards):
    """The files of predefined splits, if the run uses some."""
    return PLAN.split_files


def get_recipe(wildcards):
    """File of a recipe, so that editing it trains its heads again."""
    return str(recipe_path(wildcards.head))


def get_initial_weights(wildcards):
    """Weights that a recipe's heads start from, `train.init`; none without it."""
    folder = load_recipe(wildcards.head).train.init
    return [str(Path(folder) / "head.safetensors")] if folder else []


def get_weights(wildcards):
    """The weights of a recipe's heads, of all seeds and folds."""
    return expand_seeds_and_folds(WEIGHTS, **wildcards)


def get_weights_of_slide_encoder(wildcards):
    """The weights of all heads of a slide encoder that is a recipe; none of others."""
    if not needs_heads(wildcards.slide_encoder):
        return []
    paths = without_part(wildcards)
    return expand_seeds_and_folds(WEIGHTS, head=paths.pop("slide_encoder"), **paths)


def get_entry_of_slide_encoder(wildcards):
    """File of a published slide encoder's entry, so that editing it embeds again; none of others."""
    return published_entry(wildcards.slide_encoder) or []


def get_vectors(wildcards):
    """Tables of the vectors of the run; none unless they are asked for."""
    patterns = PLAN.for_each_slide_encoder(VECTORS_PART)
    return [path for pattern in patterns for path in expand_parts(pattern, "score")]


def get_vectors_of_encoder(wildcards):
    """Tables of the vectors by all slide encoders that take the features of one encoder."""
    return [
        path
        for name in PLAN.slide_encoders_of(wildcards.encoder)
        for path in expand_parts(
            VECTORS_PART, "score", slide_encoder=name, **dict(wildcards.items())
        )
    ]


def get_fewshot(wildcards):
    """Tables of few-shot curves, one for each encoder with slide encoders; none without classes."""
    if DATASET.task != "classification":
        return []
    return list(dict.fromkeys(PLAN.for_each_slide_encoder(FEWSHOT)))


def get_model_cards(wildcards):
    """The model cards of all heads of the run."""
    return expand_seeds_and_folds(PLAN.for_each_head(MODEL_CARD))


def get_incomplete(wildcards):
    """Tables of parts that lack some of their outputs, whether later results need them or not."""
    return (
        [str(table) for table in REFRESHED.incomplete]
        if workflow.is_main_process
        else []
    )


def get_heatmaps(wildcards):
    """Tables of the heatmaps of the run: of each slide that gets one, by each head."""
    patterns = PLAN.for_each_head(DRAWN_PART)
    return [path for pattern in patterns for path in expand_parts(pattern, "heatmap")]


def get_refined(wildcards):
    """Tables of the finer maps of the run; none unless they are asked for."""
    if CONFIG.heatmap.cells_per_tile == 1:
        return []
    patterns = PLAN.for_each_head(REFINED_PART)
    return [path for pattern in patterns for path in expand_parts(pattern, "heatmap")]
