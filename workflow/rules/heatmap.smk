# Heads of one recipe + bag + overview -> a picture and a QuPath layer of each slide.
rule heatmap:
    input:
        unpack(canvas),
        heads=trained,
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
        heads=head_dirs,
        canvas=canvas_flag,
        annotation=annotation_flag,
        scale=CONFIG.heatmap.scale,
        classes=dataset_classes,
        version=STAGE_VERSION["heatmap"],
    shell:
        "mil heatmap {params.heads} --bag {input.bag:q} {params.canvas} --folds {input.folds:q}"
        " {params.annotation} --scale {params.scale} --out {output.picture:q} 2>&1 | tee {log:q}"
