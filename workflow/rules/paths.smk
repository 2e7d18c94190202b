# Every path of the results, written out once; in braces, the wildcards. Below, the files that a rule reads where one
# pattern is not enough.
from mil.config import recipe_path

FETCHABLE = PLAN.fetchable
FETCHED = f"{PLAN.slides_dir}/{{file}}"

# A slide, tiled and embedded.
TILES = "results/{dataset}/tile/{tiling}/{slide}.h5"
TISSUE = "results/{dataset}/tile/{tiling}/{slide}.geojson"
OVERVIEW = "results/{dataset}/tile/{tiling}/{slide}.jpg"
QC_IMAGE = "results/{dataset}/tile/{tiling}/grid/{slide}.jpg"
BAG = "results/{dataset}/features/{tiling}/{encoder}/{slide}.h5"

# A head, of one fold and one seed.
FOLDS = "results/{dataset}/split/{tiling}/{encoder}/folds{folds}.csv"
FOLDS_OF_RUN = FOLDS.replace("{folds}", str(CONFIG.folds))
WEIGHTS = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/head.safetensors"
LAST_WEIGHTS = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/last.safetensors"
RECIPE = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/recipe.json"
HISTORY = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/history.json"
MODEL_CARD = "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/MODEL_CARD.md"

# The heads of one recipe: their scores, evaluated and drawn.
SCORES = "results/{dataset}/score/{tiling}/{encoder}/{head}/{slide}.h5"
SCORES_OF_PATIENTS = "results/{dataset}/score/{tiling}/{encoder}/{head}/patients"
EVALUATE_DIR = "results/{dataset}/evaluate/{tiling}/{encoder}/{head}"
PREDICTIONS = "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/predictions.csv"
PATIENTS = (
    "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/predictions_patients.csv"
)
METRICS = "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/metrics.json"
HEATMAP_DIR = "results/{dataset}/heatmap/{tiling}/{encoder}/{head}"
HEATMAP = "results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{slide}.png"
HEATMAP_QUPATH = "results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{slide}.geojson"
HEATMAP_TABLE = "results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{slide}.csv"

# The study as a whole.
COMPARISON = "results/{dataset}/compare/comparison.json"
COMPARISON_CSV = "results/{dataset}/compare/comparison.csv"
COMPARISON_MARKDOWN = "results/{dataset}/compare/comparison.md"
COMPARISON_LATEX = "results/{dataset}/compare/comparison.tex"
REPORT = "results/{dataset}/report.html"


def expand_seeds_and_folds(pattern, **wildcards):
    """A path for each seed and fold of the run."""
    return expand(
        pattern,
        **wildcards,
        seed=range(1, CONFIG.seeds + 1),
        fold=range(CONFIG.folds),
        folds=CONFIG.folds,
    )


def get_slide(wildcards):
    """The slide's file; nothing for a missing slide that the run continues without."""
    missing = wildcards.slide in PLAN.missing
    return [] if missing else str(PLAN.files[wildcards.slide])


def get_slide_path(wildcards):
    """Path of the slide's file, whether it exists or not."""
    return str(PLAN.files[wildcards.slide])


def get_masks(wildcards):
    """The user's masks of the slide, by kind: `tissue`, `region`, or none."""
    return PLAN.masks.get(wildcards.slide, {})


def get_annotation(wildcards):
    """The slide's annotation, if it has one; a file that the table names must exist or be fetched."""
    return PLAN.annotations.get(wildcards.slide, [])


def get_annotations(wildcards):
    """The annotations of all slides that have one."""
    return list(PLAN.annotations.values())


def get_all_tiles(wildcards):
    """The tiles files of all slides; none for precomputed bags."""
    return [] if PLAN.precomputed_dir else expand(TILES, slide=SLIDES, **wildcards)


def get_bag(wildcards):
    """The slide's bag: the precomputed one, or the one that `features` computes."""
    return PLAN.precomputed_bags.get(wildcards.slide, BAG.format(**wildcards))


def get_bags(wildcards):
    """The bags of all slides: precomputed ones, or those that `features` computes."""
    computed = expand(BAG, slide=SLIDES, **wildcards)
    return list(PLAN.precomputed_bags.values()) or computed


def get_scores(wildcards):
    """The scores of all bags by the heads of a recipe: of slides, or with early fusion of patients."""
    if CONFIG.fusion == "early":
        return [SCORES_OF_PATIENTS.format(**wildcards)]
    return expand(SCORES, slide=PLAN.precomputed_bags or SLIDES, **wildcards)


def get_split_files(wildcards):
    """The files of predefined splits, if the run uses some."""
    return PLAN.split_files


def get_recipe(wildcards):
    """The file of a recipe, so that editing it trains its heads again."""
    return str(recipe_path(wildcards.head))


def get_weights(wildcards):
    """The weights of a recipe's heads, of all seeds and folds."""
    return expand_seeds_and_folds(WEIGHTS, **wildcards)


def get_model_cards(wildcards):
    """The model cards of all heads of the run."""
    return expand_seeds_and_folds(PLAN.for_each_head(MODEL_CARD))


def get_canvas(wildcards):
    """Files that a heatmap is drawn on: of the tiled slide; of a precomputed bag, its slide if it exists."""
    if PLAN.precomputed_dir:
        slide = PLAN.files.get(wildcards.slide)
        return {"slide": str(slide)} if slide else {}
    return {
        "tiles": TILES.format(**wildcards),
        "tissue": TISSUE.format(**wildcards),
        "overview": OVERVIEW.format(**wildcards),
    }


def get_heatmaps(wildcards):
    """The heatmaps of the run: of each slide that gets one, by each head."""
    patterns = PLAN.for_each_head(HEATMAP)
    slides = PLAN.heatmap_slides
    return [
        pattern.replace("{slide}", slide) for pattern in patterns for slide in slides
    ]
