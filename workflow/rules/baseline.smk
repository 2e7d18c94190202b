# Bags + folds -> heads of the baseline, their scores, predictions and metrics, by one job of seconds. No evidence of tiles, no
# heatmap and no model card: the baseline is there to be compared with. Heads and scores lie where those of others do, and
# stay where they are current.
ruleorder: baseline > evaluate


rule baseline:
    input:
        bags=BAGS_TABLE,
        folds=FOLDS_OF_RUN,
        recipe=str(recipe_path(CONFIG.baseline)),
    output:
        predictions=PREDICTIONS.replace("{head}", CONFIG.baseline),
        patients=PATIENTS.replace("{head}", CONFIG.baseline),
        metrics=METRICS.replace("{head}", CONFIG.baseline),
    log:
        f"logs/{{dataset}}/baseline/{{tiling}}/{{encoder}}/{CONFIG.baseline}.log",
    threads: 1
    resources:
        mem_mb=grow(8000),
        runtime=grow(12 * HOUR),
    params:
        bags=get_bags_dir,
        runs=baseline_flags,
        out=get_out_dir,
        classes=record_classes,
        subgroups=record_subgroups,
        version=[STAGE_VERSION[stage] for stage in ("train", "score", "evaluate")],
    shell:
        "mil baseline --dataset {wildcards.dataset} --bags {params.bags:q} --folds {input.folds:q}"
        " --recipe {input.recipe:q} {params.runs} --out {params.out:q} --threads {threads}"
        " --cache-mb $(( {resources.mem_mb} * 5 / 8 )) > {log:q} 2>&1"
