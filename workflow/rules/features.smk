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
        mem_mb=10000,
        runtime="2h",
    params:
        slide=slide_file,
        targets=features_targets,
        settings=features_settings,
        version=STAGE_VERSION["features"],
    shell:
        "mil features --slide {params.slide:q} --tiles {input.tiles:q} {params.targets} {params.settings}"
        " --threads {threads} 2>&1 | tee {log:q}"


# The same for several encoders that see the same tiles: each slide that has no bag of any of them is read once for all.
# Input, params and shell are those of `features`, else a later run for one of the encoders would make its bags anew.
for encoders, slides in PLAN.together.items():

    workflow.ruleorder(f"features_{'_'.join(encoders)}", "features")

    rule:
        name:
            f"features_{'_'.join(encoders)}"
        input:
            slide=slide_input,
            tiles="results/{dataset}/tile/{tiling}/{slide}.h5",
        output:
            [
                ensure(
                    f"results/{{dataset}}/features/{{tiling}}/{encoder}/{{slide}}.h5",
                    non_empty=True,
                )
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
            slide=slide_file,
            targets=features_targets,
            settings=features_settings,
            version=STAGE_VERSION["features"],
        shell:
            "mil features --slide {params.slide:q} --tiles {input.tiles:q} {params.targets} {params.settings}"
            " --threads {threads} 2>&1 | tee {log:q}"
