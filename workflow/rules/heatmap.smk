# Scores + overview of a slide -> a picture and a QuPath layer.
rule heatmap:
    input:
        unpack(canvas),
        score="results/{dataset}/score/{tiling}/{encoder}/{head}/{slide}.h5",
        bag=bag,
        folds=f"results/{{dataset}}/split/{{tiling}}/{{encoder}}/folds{CONFIG.folds}.csv",
        annotation=annotation_input,
    output:
        picture="results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{slide}.png",
        qupath="results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{slide}.geojson",
        table="results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{slide}.csv",
    log:
        "logs/{dataset}/heatmap/{tiling}/{encoder}/{head}/{slide}.log",
    resources:
        mem_mb=3000,
        runtime="30m",
    params:
        canvas=canvas_flag,
        annotation=annotation_flag,
        scale=CONFIG.heatmap.scale,
        classes=dataset_classes,
        version=STAGE_VERSION["heatmap"],
    shell:
        "mil heatmap --score {input.score:q} --bag {input.bag:q} {params.canvas} --folds {input.folds:q}"
        " {params.annotation} --scale {params.scale} --out {output.picture:q} 2>&1 | tee {log:q}"
