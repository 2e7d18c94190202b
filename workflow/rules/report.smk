# Everything -> one page.
rule report:
    input:
        metrics=PLAN.of_each_head(
            "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/metrics.json"
        ),
        comparison="results/{dataset}/compare/comparison.json",
        heatmaps=heatmaps,
    output:
        "results/{dataset}/report.html",
    log:
        "logs/{dataset}/report.log",
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        states=states,
        evaluated=PLAN.of_each_head(
            "--evaluated results/{dataset}/evaluate/{tiling}/{encoder}/{head}"
        ),
        heatmaps=PLAN.of_each_head(
            "--heatmaps results/{dataset}/heatmap/{tiling}/{encoder}/{head}"
        ),
        dataset=dataset_entry,
        drawn=CONFIG.heatmap.slides,
        version=STAGE_VERSION["report"],
    shell:
        "mil report --dataset {wildcards.dataset} {params.states}"
        " {params.evaluated} {params.heatmaps} --comparison {input.comparison:q} --drawn {params.drawn} --out {output:q} 2>&1 | tee {log:q}"
