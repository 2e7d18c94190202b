# All heads and encoders of the run, on the same test slides -> one table of them, and paired tests.
rule compare:
    input:
        PLAN.for_each_compared(METRICS),
        PLAN.for_each_compared(PREDICTIONS),
    output:
        COMPARISON,
        COMPARISON_CSV,
        COMPARISON_MARKDOWN,
        COMPARISON_LATEX,
    log:
        "logs/{dataset}/compare.log",
    resources:
        mem_mb=grow(2000),
        runtime=grow(10 * MINUTE),
    params:
        evaluated=PLAN.for_each_compared(f"--evaluated {EVALUATE_DIR}"),
        baseline=f"--baseline {CONFIG.baseline}" if CONFIG.baseline else "",
        out=get_out_dir,
        allow_missing="--allow-missing" if CONFIG.allow_missing else "",
        version=STAGE_VERSION["compare"],
    shell:
        "mil compare {params.evaluated} {params.baseline} {params.allow_missing} --out {params.out:q} > {log:q} 2>&1"
