# Scores of all slides by the heads of one recipe -> predictions and metrics.
rule evaluate:
    input:
        scores=scores,
        bags=bags,
        folds=f"results/{{dataset}}/split/{{tiling}}/{{encoder}}/folds{CONFIG.folds}.csv",
        annotations=annotations,
    output:
        predictions="results/{dataset}/evaluate/{tiling}/{encoder}/{head}/predictions.csv",
        patients="results/{dataset}/evaluate/{tiling}/{encoder}/{head}/predictions_patients.csv",
        metrics="results/{dataset}/evaluate/{tiling}/{encoder}/{head}/metrics.json",
    log:
        "logs/{dataset}/evaluate/{tiling}/{encoder}/{head}.log",
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        scores=scores_dir,
        bags=bags_dir,
        out=out_dir,
        slides_dir=SLIDES_DIR,
        classes=dataset_classes,
        frame=DATASET.geojson_frame,
        subgroups=subgroups,
        version=STAGE_VERSION["evaluate"],
    shell:
        "mil evaluate --dataset {wildcards.dataset} --scores {params.scores:q} --bags {params.bags:q}"
        " --folds {input.folds:q} --slides-dir {params.slides_dir:q} --out {params.out:q} 2>&1 | tee {log:q}"


# Heads + how good they were -> what goes with a head that is given away.
rule card:
    input:
        heads=trained,
        predictions="results/{dataset}/evaluate/{tiling}/{encoder}/{head}/predictions.csv",
        metrics="results/{dataset}/evaluate/{tiling}/{encoder}/{head}/metrics.json",
    output:
        expand(
            "results/{{dataset}}/train/{{tiling}}/{{encoder}}/{{head}}/seed{seed}_fold{fold}of{folds}/MODEL_CARD.md",
            seed=range(1, CONFIG.seeds + 1),
            fold=range(CONFIG.folds),
            folds=CONFIG.folds,
        ),
    log:
        "logs/{dataset}/card/{tiling}/{encoder}/{head}.log",
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        heads=head_folders,
        evaluated=evaluated_dir,
        dataset=dataset_entry,
        tissue=tissue_settings,
        version=STAGE_VERSION["card"],
    shell:
        "mil heads card {params.heads} --evaluated {params.evaluated:q} --dataset {wildcards.dataset}"
        " {params.tissue} 2>&1 | tee {log:q}"
