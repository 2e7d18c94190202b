# Slides of a part, one at a time: fetched, tiled, embedded by all encoders, and removed. At most `fetch.slots` of them are on
# the disk at a time, over all jobs.
rule stream:
    input:
        slides=get_slides_to_read,
        masks=get_masks_to_read,
    output:
        [
            ensure(
                EMBEDDED_PART.replace("{tiling}", tiling).replace(
                    "{encoder}", encoder
                ),
                non_empty=True,
            )
            for encoder, tiling in PLAN.extracted
        ],
    log:
        "logs/{dataset}/stream/{part}.log",
    threads: 1
    resources:
        gpu=count_gpus,
        mem_mb=grow(6000 + 4000 * len(PLAN.extracted)),
        runtime=grow(24 * HOUR),
        slides=count_members("features"),
    params:
        slides_dir=PLAN.slides_dir,
        fetching=fetch_flags,
        targets=stream_flags,
        tiling=flags.tile_flags(CONFIG.tile),
        settings=feature_flags,
        required=require_flag("features"),
        rows=record_rows_to_read,
        version=[STAGE_VERSION["tile"], STAGE_VERSION["features"]],
    shell:
        "mil stream --dataset {wildcards.dataset} --slides-dir {params.slides_dir:q} {params.fetching} {params.targets}"
        " {params.tiling} {params.settings} {params.required} --part {wildcards.part} --threads {threads} > {log:q} 2>&1"
