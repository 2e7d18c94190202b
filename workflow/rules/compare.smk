# All heads and encoders of the run, on the same test slides -> one table of them, and paired tests.
rule compare:
    input:
        PLAN.of_each_head(
            "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/metrics.json"
        ),
        PLAN.of_each_head(
            "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/predictions.csv"
        ),
    output:
        "results/{dataset}/compare/comparison.json",
        "results/{dataset}/compare/comparison.csv",
        "results/{dataset}/compare/comparison.md",
        "results/{dataset}/compare/comparison.tex",
    log:
        "logs/{dataset}/compare.log",
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        evaluated=PLAN.of_each_head(
            "--evaluated results/{dataset}/evaluate/{tiling}/{encoder}/{head}"
        ),
        out=out_dir,
        allow_missing="--allow-missing" if CONFIG.allow_missing else "",
        version=STAGE_VERSION["compare"],
    shell:
        "mil compare {params.evaluated} {params.allow_missing} --out {params.out:q} 2>&1 | tee {log:q}"
