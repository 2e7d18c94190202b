# Scores + overview of a slide -> an image, a QuPath layer and a table.
rule heatmap:
    input:
        unpack(get_canvas),
        score=SCORES,
        bag=get_bag,
        folds=FOLDS_OF_RUN,
        annotation=get_annotation,
    output:
        picture=HEATMAP,
        qupath=HEATMAP_QUPATH,
        table=HEATMAP_TABLE,
    log:
        "logs/{dataset}/heatmap/{tiling}/{encoder}/{head}/{slide}.log",
    resources:
        mem_mb=3000,
        runtime="30m",
    params:
        canvas=canvas_flags,
        annotation=annotation_flags,
        scale=CONFIG.heatmap.scale,
        classes=record_classes,
        version=STAGE_VERSION["heatmap"],
    shell:
        "mil heatmap --score {input.score:q} --bag {input.bag:q} {params.canvas} --folds {input.folds:q}"
        " {params.annotation} --scale {params.scale} --out {output.picture:q} 2>&1 | tee {log:q}"
