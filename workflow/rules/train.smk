# Bags + folds + recipe -> the heads of all seeds and folds, for which bags are read once. `update`: heads that are there
# stay, and those that still fit what they would be trained from are kept. An interrupted job leaves checkpoints that the
# next run resumes from, those of its finished heads too; they are not outputs, for Snakemake would delete them.
rule train:
    input:
        bags=BAGS_TABLE,
        folds=FOLDS_OF_RUN,
        recipe=get_recipe,
        initial=get_initial_weights,
    output:
        update(expand_seeds_and_folds(WEIGHTS, allow_missing=True)),
        update(expand_seeds_and_folds(LAST_WEIGHTS, allow_missing=True)),
        update(expand_seeds_and_folds(RECIPE, allow_missing=True)),
        update(expand_seeds_and_folds(HISTORY, allow_missing=True)),
    log:
        "logs/{dataset}/train/{tiling}/{encoder}/{head}.log",
    threads: 1
    resources:
        gpu=count_gpus,
        mem_mb=grow(8000),
        runtime=grow(12 * HOUR),
    params:
        bags=get_bags_dir,
        runs=run_flags,
        classes=record_classes,
        version=STAGE_VERSION["train"],
    shell:
        "mil train --dataset {wildcards.dataset} --bags {params.bags:q} --folds {input.folds:q}"
        " --head {input.recipe:q} {params.runs} --threads {threads}"
        " --cache-mb $(( {resources.mem_mb} * 5 / 8 )) > {log:q} 2>&1"
