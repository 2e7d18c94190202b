# Scores of all slides by the heads of one recipe -> predictions and metrics.
rule evaluate:
    input:
        scores=get_scores,
        bags=BAGS_TABLE,
        folds=FOLDS_OF_RUN,
        annotations=get_annotations,
    output:
        predictions=PREDICTIONS,
        patients=PATIENTS,
        metrics=METRICS,
    log:
        "logs/{dataset}/evaluate/{tiling}/{encoder}/{head}.log",
    resources:
        mem_mb=grow(4000),
        runtime=grow(1 * HOUR),
    params:
        scores=get_scores_dir,
        bags=get_bags_dir,
        out=get_out_dir,
        slides_dir=PLAN.slides_dir,
        classes=record_classes,
        frame=DATASET.geojson_frame,
        annotation_classes=DATASET.annotation_classes,
        subgroups=record_subgroups,
        ablate=CONFIG.evaluate.ablate,
        version=STAGE_VERSION["evaluate"],
    shell:
        "mil evaluate --dataset {wildcards.dataset} --scores {params.scores:q} --bags {params.bags:q}"
        " --folds {input.folds:q} --slides-dir {params.slides_dir:q} --out {params.out:q}"
        " --ablate {params.ablate} > {log:q} 2>&1"


# Heads of one recipe + their metrics -> a model card beside each.
rule card:
    input:
        heads=get_weights,
        predictions=PREDICTIONS,
        metrics=METRICS,
    output:
        expand_seeds_and_folds(MODEL_CARD, allow_missing=True),
    log:
        "logs/{dataset}/card/{tiling}/{encoder}/{head}.log",
    resources:
        mem_mb=grow(2000),
        runtime=grow(10 * MINUTE),
    params:
        heads=list_head_dirs,
        evaluated=get_evaluate_dir,
        dataset=record_dataset,
        tissue=tissue_flags,
        version=STAGE_VERSION["card"],
    shell:
        "mil heads card {params.heads} --evaluated {params.evaluated:q} --dataset {wildcards.dataset}"
        " {params.tissue} > {log:q} 2>&1"
