# Bags of all slides -> one table of their digests. What needs all bags asks for this file alone: else Snakemake would look
# through all of them for every job that depends on one of those.
rule bags:
    input:
        get_bags,
    output:
        BAGS_TABLE,
    log:
        "logs/{dataset}/bags/{tiling}/{encoder}.log",
    resources:
        mem_mb=grow(1000),
        runtime=grow(1 * HOUR),
    params:
        bags=get_bags_dir,
    shell:
        "mil bags table --dataset {wildcards.dataset} --bags {params.bags:q} --out {output:q} > {log:q} 2>&1"
