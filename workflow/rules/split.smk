# Slide table + states of the slides -> folds, by patient.
rule split:
    input:
        table=str(PLAN.table),
        tiles=tiles,
        bags=bags,
        given=split_files,
    output:
        "results/{dataset}/split/{tiling}/{encoder}/folds{folds}.csv",
    log:
        "logs/{dataset}/split/{tiling}/{encoder}/folds{folds}.log",
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        tiles=tiles_flag,
        bags=bags_dir,
        settings=split_settings,
        missing="--allow-missing" if CONFIG.allow_missing else "",
        columns=dataset_columns,
        version=STAGE_VERSION["split"],
    shell:
        "mil split --dataset {wildcards.dataset} {params.tiles} --bags {params.bags:q}"
        " --folds {wildcards.folds} {params.settings} {params.missing} --out {output:q} 2>&1 | tee {log:q}"
