# Slides of a part + tiles + several encoders -> their bags by each. One rule for each set of encoders that share a tiling
# and lack the bags of the same part, whose slides are then read once for all of them.
# Input, params and shell are those of `features`, else a later run for one of the encoders would go through its bags again.
for encoders, parts_by_tiling in PLAN.shared_parts.items():

    for number, (tiling, parts) in enumerate(parts_by_tiling.items()):
        # Joined encoders may be at several tilings, and rules have names of their own.
        rule_name = "_".join(
            ["features", *encoders, *([str(number)] if number else [])]
        )

        workflow.ruleorder(rule_name, "features")

        rule:
            name:
                rule_name
            input:
                slides=get_slides_to_read,
                tiles=get_tables_of_tiles,
            output:
                [
                    ensure(EMBEDDED_PART.replace("{encoder}", encoder), non_empty=True)
                    for encoder in encoders
                ],
            log:
                f"logs/{{dataset}}/features/{{tiling}}/{'_'.join(encoders)}/{{part}}.log",
            wildcard_constraints:
                tiling=re.escape(tiling),
                part="|".join(parts),
            threads: 1
            resources:
                gpu=count_gpus,
                mem_mb=grow(6000 + 4000 * len(encoders)),
                runtime=grow(16 * HOUR),
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
