# Bags of a part, and heads of a slide encoder that is a recipe -> one vector of each slide.
rule embed:
    input:
        heads=get_weights_of_slide_encoder,
        entry=get_entry_of_slide_encoder,
        bags=get_bags_to_score,
    output:
        ensure(VECTORS_PART, non_empty=True),
    log:
        "logs/{dataset}/embed/{tiling}/{encoder}/{slide_encoder}/{part}.log",
    threads: 1
    resources:
        gpu=count_gpus_to_embed,
        mem_mb=memory_to_embed,
        runtime=runtime_to_embed,
        slides=count_members("score"),
    params:
        heads=embed_flags,
        bags=get_bags_dir,
        vectors=get_part_dir,
        version=STAGE_VERSION["embed"],
    shell:
        "mil embed --slide-encoder {wildcards.slide_encoder} {params.heads} --dataset {wildcards.dataset}"
        " --bags {params.bags:q} --vectors {params.vectors:q} --part {wildcards.part} --table {output:q}"
        " --threads {threads} > {log:q} 2>&1"
