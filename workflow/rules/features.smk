# Slide + tiles + encoder -> the slide's bag, which every head shares.
rule features:
    input:
        slide=slide_input,
        tiles="results/{dataset}/tile/{tiling}/{slide}.h5",
    output:
        bag=ensure(
            "results/{dataset}/features/{tiling}/{encoder}/{slide}.h5", non_empty=True
        ),
    log:
        "logs/{dataset}/features/{tiling}/{encoder}/{slide}.log",
    threads: 1
    resources:
        gpu=1,
        mem_mb=6000,
        runtime="2h",
    params:
        slide=slide_file,
        entry=encoder_entry,
        batch=(
            f"--batch-size {CONFIG.features.batch_size}"
            if CONFIG.features.batch_size
            else ""
        ),
        settings=f"--precision {CONFIG.features.precision} --dtype {CONFIG.features.dtype}"
        f" --max-corrupt {CONFIG.features.max_corrupt}",
        version=STAGE_VERSION["features"],
    shell:
        "mil features --slide {params.slide:q} --tiles {input.tiles:q}"
        " --encoder {wildcards.encoder} {params.batch} {params.settings} --threads {threads}"
        " --out {output.bag:q} 2>&1 | tee {log:q}"
