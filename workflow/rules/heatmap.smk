# Heads of one recipe + bag + overview -> a picture and a QuPath layer of each slide.
rule heatmap:
    input:
        heads=trained,
        bag="results/{dataset}/features/{tiling}/{encoder}/{slide}.h5",
        tiles="results/{dataset}/tile/{tiling}/{slide}.h5",
        tissue="results/{dataset}/tile/{tiling}/{slide}.geojson",
        overview="results/{dataset}/tile/{tiling}/{slide}.jpg",
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
        annotation=annotation_flag,
        scale=CONFIG.heatmap.scale,
        classes=dataset_classes,
        version=STAGE_VERSION["heatmap"],
    shell:
        "mil heatmap {params.heads} --bag {input.bag:q} --tiles {input.tiles:q} --folds {input.folds:q}"
        " {params.annotation} --scale {params.scale} --out {output.picture:q} 2>&1 | tee {log:q}"
