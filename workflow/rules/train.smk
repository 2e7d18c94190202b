# Bags + folds + recipe -> a head for each seed and fold. An interrupted training leaves a checkpoint that the next run
# resumes from; it is not an output, for Snakemake would delete it.
rule train:
    input:
        bags=get_bags,
        folds=FOLDS,
        recipe=get_recipe,
    output:
        WEIGHTS,
        LAST_WEIGHTS,
        RECIPE,
        HISTORY,
    log:
        "logs/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}.log",
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="4h",
    params:
        bags=get_bags_dir,
        out=get_out_dir,
        classes=record_classes,
        version=STAGE_VERSION["train"],
    shell:
        "mil train --dataset {wildcards.dataset} --bags {params.bags:q} --folds {input.folds:q}"
        " --head {input.recipe:q} --fold {wildcards.fold} --seed {wildcards.seed} --threads {threads}"
        " --cache-mb $(( {resources.mem_mb} * 5 / 8 )) --out {params.out:q} 2>&1 | tee {log:q}"
