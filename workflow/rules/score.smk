# Heads of one recipe + bags of a part -> scores of its slides: the only place where a head meets a bag.
rule score:
    input:
        heads=get_weights,
        bags=get_bags_to_score,
    output:
        ensure(SCORED_PART, non_empty=True),
    log:
        "logs/{dataset}/score/{tiling}/{encoder}/{head}/{part}.log",
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(2 * HOUR),
        slides=count_members("score"),
    params:
        heads=head_flags,
        bags=get_bags_dir,
        scores=get_part_dir,
        evidence=CONFIG.score.evidence,
        version=STAGE_VERSION["score"],
    shell:
        "mil score {params.heads} --dataset {wildcards.dataset} --bags {params.bags:q} --scores {params.scores:q}"
        " --part {wildcards.part} --table {output:q} --evidence {params.evidence} --threads {threads} > {log:q} 2>&1"


if CONFIG.fusion == "early":

    # All slides of a patient as one bag, for `evaluate`; a heatmap is of one slide. The folds say which slides.
    rule score_patients:
        input:
            heads=get_weights,
            bags=BAGS_TABLE,
            folds=FOLDS_OF_RUN,
        output:
            directory(SCORES_OF_PATIENTS),
        log:
            "logs/{dataset}/score/{tiling}/{encoder}/{head}/patients.log",
        threads: 1
        resources:
            mem_mb=grow(8000),
            runtime=grow(2 * HOUR),
        params:
            heads=head_flags,
            bags=get_bags_dir,
            evidence=CONFIG.score.evidence,
            version=STAGE_VERSION["score"],
        shell:
            "mil score {params.heads} --bags {params.bags:q} --folds {input.folds:q} --scores {output:q}"
            " --evidence {params.evidence} --threads {threads} > {log:q} 2>&1"
