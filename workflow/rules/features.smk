# Slide + tiles + encoder -> the slide's bag, which every head shares.
rule features:
    input:
        slide=get_slide,
        tiles=TILES,
    output:
        bag=ensure(BAG, non_empty=True),
    log:
        "logs/{dataset}/features/{tiling}/{encoder}/{slide}.log",
    threads: 1
    resources:
        gpu=1,
        mem_mb=10000,
        runtime="2h",
    params:
        slide=get_slide_path,
        targets=target_flags,
        settings=feature_flags,
        version=STAGE_VERSION["features"],
    shell:
        "mil features --slide {params.slide:q} --tiles {input.tiles:q} {params.targets} {params.settings}"
        " --threads {threads} 2>&1 | tee {log:q}"
