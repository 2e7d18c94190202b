# Bags of a part by several encoders, or at several magnifications -> their bags with all features side by side.
rule join:
    input:
        get_bags_to_join,
    output:
        ensure(EMBEDDED_PART, non_empty=True),
    log:
        "logs/{dataset}/join/{tiling}/{encoder}/{part}.log",
    wildcard_constraints:
        encoder=JOINED_ENCODERS,
    resources:
        mem_mb=grow(4000),
        runtime=grow(1 * HOUR),
        slides=count_members("features"),
    params:
        folders=list_joined_dirs,
        out=get_part_dir,
        version=STAGE_VERSION["join"],
    shell:
        "mil bags join {params.folders} --dataset {wildcards.dataset} --out {params.out:q}"
        " --part {wildcards.part} --table {output:q} > {log:q} 2>&1"
