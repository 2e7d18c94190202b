# Slide -> its tissue and the positions of its tiles.
rule tile:
    input:
        unpack(get_masks),
        slide=get_slide,
    output:
        tiles=ensure(TILES, non_empty=True),
        tissue=TISSUE,
        overview=OVERVIEW,
        qc_image=QC_IMAGE,
    log:
        "logs/{dataset}/tile/{tiling}/{slide}.log",
    resources:
        mem_mb=2000,
        runtime="30m",
    params:
        slide=get_slide_path,
        size=size_flags,
        mpp=mpp_flag,
        scene=scene_flag,
        masks=mask_flags,
        settings=flags.tile_flags(CONFIG.tile),
        version=STAGE_VERSION["tile"],
    shell:
        "mil tile --slide {params.slide:q} --name {wildcards.slide:q} {params.size} {params.mpp}"
        " {params.scene} {params.masks} {params.settings} --out {output.tiles:q} 2>&1 | tee {log:q}"
