# Slides of a part -> their tissue and the positions of their tiles.
rule tile:
    input:
        slides=get_slides,
        masks=get_masks,
    output:
        ensure(TILED_PART, non_empty=True),
    log:
        "logs/{dataset}/tile/{tiling}/{part}.log",
    resources:
        mem_mb=grow(2000),
        runtime=grow(2 * HOUR),
        slides=count_members("tile"),
    params:
        slides_dir=PLAN.slides_dir,
        out=get_part_dir,
        size=size_flags,
        rows=record_rows,
        settings=flags.tile_flags(CONFIG.tile),
        required=require_flag("tile"),
        version=STAGE_VERSION["tile"],
    shell:
        "mil tile --dataset {wildcards.dataset} --slides-dir {params.slides_dir:q} {params.size} {params.settings}"
        " {params.required} --out-dir {params.out:q} --part {wildcards.part} --table {output:q} > {log:q} 2>&1"
