# Files that the slide table gives a URL for -> the slides' folder.
rule fetch:
    output:
        FETCHED,
    log:
        f"logs/{CONFIG.dataset}/fetch/{{file}}.log",
    wildcard_constraints:
        file="|".join(re.escape(file) for file in FETCHABLE) or "(?!)",
    resources:
        mem_mb=grow(2000),
        runtime=grow(2 * HOUR),
    params:
        url=get_url,
        checksum=get_checksum,
        version=STAGE_VERSION["fetch"],
    shell:
        "mil fetch --url {params.url:q} --checksum={params.checksum:q} --out {output:q}"
        " > {log:q} 2>&1"
