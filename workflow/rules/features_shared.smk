# Slide + tiles + several encoders -> a bag for each. One rule for each set of encoders that share a tiling and lack a bag
# of the same slide, which is then read once for all of them.
# Input, params and shell are those of `features`, else a later run for one of the encoders would recompute its bags.
for encoders, slides in PLAN.shared_readings.items():

    workflow.ruleorder(f"features_{'_'.join(encoders)}", "features")

    rule:
        name:
            f"features_{'_'.join(encoders)}"
        input:
            slide=get_slide,
            tiles=TILES,
        output:
            [
                ensure(BAG.replace("{encoder}", encoder), non_empty=True)
                for encoder in encoders
            ],
        log:
            f"logs/{{dataset}}/features/{{tiling}}/{'_'.join(encoders)}/{{slide}}.log",
        wildcard_constraints:
            slide="|".join(re.escape(name) for name in slides),
        threads: 1
        resources:
            gpu=1,
            mem_mb=6000 + 4000 * len(encoders),
            runtime="4h",
        params:
            slide=get_slide_path,
            targets=target_flags,
            settings=feature_flags,
            version=STAGE_VERSION["features"],
        shell:
            "mil features --slide {params.slide:q} --tiles {input.tiles:q} {params.targets} {params.settings}"
            " --threads {threads} 2>&1 | tee {log:q}"
