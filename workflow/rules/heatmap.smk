# Scores + overviews of a part's slides -> for each its pictures, a QuPath layer, an OME-TIFF, a table and, where the slide is there, a tile sheet.
rule heatmap:
    input:
        scores=get_scores_to_draw,
        folds=FOLDS_OF_RUN,
        annotations=get_annotations_to_draw,
        canvases=get_canvases,
    output:
        ensure(DRAWN_PART, non_empty=True),
    log:
        "logs/{dataset}/heatmap/{tiling}/{encoder}/{head}/{part}.log",
    resources:
        mem_mb=grow(3000),
        runtime=grow(2 * HOUR),
        slides=count_members("heatmap"),
    params:
        scores=get_drawn_scores_dir,
        bags=get_bags_dir,
        tiles=tiles_flag,
        slides_dir=PLAN.slides_dir,
        out=get_part_dir,
        slides=CONFIG.heatmap.slides,
        members=record_members,
        settings=heatmap_flags,
        script=get_script,
        sheet=CONFIG.heatmap.sheet,
        classes=record_classes,
        annotation_classes=DATASET.annotation_classes,
        version=STAGE_VERSION["heatmap"],
    shell:
        "mil heatmap --dataset {wildcards.dataset} --scores {params.scores:q} --bags {params.bags:q} {params.tiles}"
        " --slides-dir {params.slides_dir:q} --folds {input.folds:q} --slides {params.slides} {params.settings}"
        " --sheet {params.sheet}"
        " --script {params.script:q} --out-dir {params.out:q} --part {wildcards.part} --table {output:q} > {log:q} 2>&1"
