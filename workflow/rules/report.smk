# Metrics, comparison and heatmaps of the study -> one page, and a page for each slide beside it.
rule report:
    input:
        metrics=PLAN.for_each_head(METRICS),
        comparison=COMPARISON,
        heatmaps=get_heatmaps,
        scores=get_all_scores,
        folds=PLAN.for_each_encoder(FOLDS_OF_RUN),
        fewshot=get_fewshot,
    output:
        report=REPORT,
        config=RUN_CONFIG,
    log:
        "logs/{dataset}/report.log",
    resources:
        mem_mb=grow(2000),
        runtime=grow(10 * MINUTE),
    params:
        states=state_flags,
        evaluated=PLAN.for_each_head(f"--evaluated {EVALUATE_DIR}"),
        heatmaps=PLAN.for_each_head(f"--heatmaps {HEATMAP_DIR}"),
        scores=PLAN.for_each_head(f"--scores {SCORES_OF_ALL}"),
        trained=PLAN.for_each_head(f"--trained {TRAINED_DIR}"),
        folds=PLAN.for_each_encoder(f"--folds {FOLDS_OF_RUN}"),
        fewshot=fewshot_flags,
        config=get_config,
        dataset=record_dataset,
        drawn=CONFIG.heatmap.slides,
        version=STAGE_VERSION["report"],
    shell:
        "mil report --dataset {wildcards.dataset} {params.states} {params.folds}"
        " {params.evaluated} {params.heatmaps} {params.scores} {params.trained} {params.fewshot} --config {output.config:q}"
        " --settings {params.config:q}"
        " --comparison {input.comparison:q} --drawn {params.drawn} --out {output.report:q} > {log:q} 2>&1"
