# Slide table + states of the slides -> folds, by patient.
rule split:
    input:
        table=str(PLAN.table),
        bags=BAGS_TABLE,
        splits=get_split_files,
    output:
        FOLDS,
    log:
        "logs/{dataset}/split/{tiling}/{encoder}/folds{folds}.log",
    resources:
        mem_mb=grow(1000),
        runtime=grow(10 * MINUTE),
    params:
        tiles=tiles_flag,
        bags=get_bags_dir,
        settings=split_flags,
        missing="--allow-missing" if CONFIG.allow_missing else "",
        columns=record_columns,
        version=STAGE_VERSION["split"],
    shell:
        "mil split --dataset {wildcards.dataset} {params.tiles} --bags {params.bags:q}"
        " --folds {wildcards.folds} {params.settings} {params.missing} --out {output:q} > {log:q} 2>&1"
