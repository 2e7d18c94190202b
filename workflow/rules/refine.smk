# Slides + bags + heads + encoder -> finer maps of the region that the heads attend to.
rule refine:
    input:
        heads=get_weights,
        scores=get_scores_to_draw,
        folds=FOLDS_OF_RUN,
    output:
        ensure(REFINED_PART, non_empty=True),
    log:
        "logs/{dataset}/refine/{tiling}/{encoder}/{head}/{part}.log",
    threads: 1
    resources:
        gpu=count_gpus,
        mem_mb=grow(10000),
        runtime=grow(8 * HOUR),
        slides=count_members("heatmap"),
    params:
        heads=refine_flags,
        scores=get_drawn_scores_dir,
        bags=get_bags_dir,
        tiles=tiles_flag,
        slides_dir=PLAN.slides_dir,
        out=get_part_dir,
        slides=CONFIG.heatmap.slides,
        members=record_members,
        stride=CONFIG.heatmap.stride,
        version=STAGE_VERSION["refine"],
    shell:
        "mil refine {params.heads} --dataset {wildcards.dataset} --scores {params.scores:q} --bags {params.bags:q}"
        " {params.tiles} --slides-dir {params.slides_dir:q} --folds {input.folds:q} --slides {params.slides}"
        " --stride {params.stride} --out-dir {params.out:q} --part {wildcards.part} --table {output:q}"
        " --threads {threads} > {log:q} 2>&1"
