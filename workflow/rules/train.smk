# Bags + folds + recipe -> a head for each seed and fold. Cut off, it leaves a checkpoint, which is no output: Snakemake
# would delete it. The next run takes it up.
rule train:
    input:
        bags=bags,
        folds="results/{dataset}/split/{tiling}/{encoder}/folds{folds}.csv",
        recipe=recipe_file,
    output:
        "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/head.safetensors",
        "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/last.safetensors",
        "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/recipe.json",
        "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/history.json",
    log:
        "logs/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}.log",
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="4h",
    params:
        bags=bags_dir,
        out=out_dir,
        classes=dataset_classes,
        version=STAGE_VERSION["train"],
    shell:
        "mil train --dataset {wildcards.dataset} --bags {params.bags:q} --folds {input.folds:q}"
        " --head {input.recipe:q} --fold {wildcards.fold} --seed {wildcards.seed} --threads {threads}"
        " --cache-mb $(( {resources.mem_mb} * 5 / 8 )) --out {params.out:q} 2>&1 | tee {log:q}"
