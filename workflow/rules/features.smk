# Slides of a part + tiles + encoder -> their bags, which every head shares.
rule features:
    input:
        slides=get_slides_to_read,
        tiles=get_tables_of_tiles,
    output:
        ensure(EMBEDDED_PART, non_empty=True),
    log:
        "logs/{dataset}/features/{tiling}/{encoder}/{part}.log",
    wildcard_constraints:
        encoder=PLAIN_ENCODERS,
    threads: 1
    resources:
        gpu=count_gpus,
        mem_mb=grow(10000),
        runtime=grow(8 * HOUR),
        slides=count_members("features"),
    params:
        slides_dir=PLAN.slides_dir,
        tiles=tiles_flag,
        targets=target_flags,
        settings=feature_flags,
        version=STAGE_VERSION["features"],
    shell:
        "mil features --dataset {wildcards.dataset} --slides-dir {params.slides_dir:q} {params.tiles}"
        " {params.targets} {params.settings} --part {wildcards.part} --threads {threads} > {log:q} 2>&1"
