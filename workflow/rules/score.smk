# Heads of one recipe + bag -> scores of the slide: the only place where a head meets a bag.
rule score:
    input:
        heads=trained,
        bag=bag,
    output:
        ensure(
            "results/{dataset}/score/{tiling}/{encoder}/{head}/{slide}.h5",
            non_empty=True,
        ),
    log:
        "logs/{dataset}/score/{tiling}/{encoder}/{head}/{slide}.log",
    threads: 1
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        heads=head_dirs,
        version=STAGE_VERSION["score"],
    shell:
        "mil score {params.heads} --bag {input.bag:q} --out {output:q} --threads {threads}"
        " 2>&1 | tee {log:q}"


if CONFIG.fusion == "early":

    # All slides of a patient as one bag, for `evaluate`; a heatmap is of one slide. The folds say which slides.
    rule score_patients:
        input:
            heads=trained,
            bags=bags,
            folds=f"results/{{dataset}}/split/{{tiling}}/{{encoder}}/folds{CONFIG.folds}.csv",
        output:
            directory("results/{dataset}/score/{tiling}/{encoder}/{head}/patients"),
        log:
            "logs/{dataset}/score/{tiling}/{encoder}/{head}/patients.log",
        threads: 1
        resources:
            mem_mb=8000,
            runtime="2h",
        params:
            heads=head_dirs,
            bags=bags_dir,
            version=STAGE_VERSION["score"],
        shell:
            "mil score {params.heads} --bags {params.bags:q} --folds {input.folds:q} --scores {output:q}"
            " --threads {threads} 2>&1 | tee {log:q}"
