# Slide -> where to look on it.
rule tile:
    input:
        unpack(masks),
        slide=slide_input,
    output:
        tiles=ensure("results/{dataset}/tile/{tiling}/{slide}.h5", non_empty=True),
        tissue="results/{dataset}/tile/{tiling}/{slide}.geojson",
        overview="results/{dataset}/tile/{tiling}/{slide}.jpg",
        grid="results/{dataset}/tile/{tiling}/grid/{slide}.jpg",
    log:
        "logs/{dataset}/tile/{tiling}/{slide}.log",
    resources:
        mem_mb=2000,
        runtime="30m",
    params:
        slide=slide_file,
        size=tile_size,
        mpp=slide_mpp,
        masks=mask_flags,
        settings=f"--min-tissue {CONFIG.tile.min_tissue} --min-area-mm2 {CONFIG.tile.min_area_mm2}"
        f" --max-upsample {CONFIG.tile.max_upsample}"
        f"{' --objective-power' if CONFIG.tile.objective_power else ''}",
        version=STAGE_VERSION["tile"],
    shell:
        "mil tile --slide {params.slide:q} --name {wildcards.slide:q} {params.size} {params.mpp}"
        " {params.masks} {params.settings} --out {output.tiles:q} 2>&1 | tee {log:q}"
