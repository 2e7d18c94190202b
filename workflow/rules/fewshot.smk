# Vectors of all slides by all slide encoders + folds -> AUROC by number of training slides, one table for each encoder.
rule fewshot:
    input:
        vectors=get_vectors_of_encoder,
        folds=FOLDS_OF_RUN,
    output:
        table=FEWSHOT,
        figure=FEWSHOT_FIGURE,
    log:
        "logs/{dataset}/fewshot/{tiling}/{encoder}.log",
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(2 * HOUR),
    params:
        vectors=vectors_flags,
        out=get_out_dir,
        classes=record_classes,
        version=STAGE_VERSION["fewshot"],
    shell:
        "mil fewshot --dataset {wildcards.dataset} {params.vectors} --folds {input.folds:q} --out {params.out:q}"
        " --allow-empty > {log:q} 2>&1"
