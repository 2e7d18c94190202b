# Metrics, comparison and heatmaps of the study -> one page.
rule report:
    input:
        metrics=PLAN.for_each_head(METRICS),
        comparison=COMPARISON,
        heatmaps=get_heatmaps,
    output:
        REPORT,
    log:
        "logs/{dataset}/report.log",
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        states=state_flags,
        evaluated=PLAN.for_each_head(f"--evaluated {EVALUATE_DIR}"),
        heatmaps=PLAN.for_each_head(f"--heatmaps {HEATMAP_DIR}"),
        dataset=record_dataset,
        drawn=CONFIG.heatmap.slides,
        version=STAGE_VERSION["report"],
    shell:
        "mil report --dataset {wildcards.dataset} {params.states}"
        " {params.evaluated} {params.heatmaps} --comparison {input.comparison:q} --drawn {params.drawn} --out {output:q} > {log:q} 2>&1"
