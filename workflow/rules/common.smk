# What the rules share: the checked plan of the run, its paths, and its settings as flags.
include: "plan.smk"
include: "paths.smk"
include: "flags.smk"
include: "messages.smk"
