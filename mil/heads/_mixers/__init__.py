"""Mixers: one file each; queries, keys and values of tiles in, mixed rows out.

A mixer is its `Options` and its `Mixer(options, shape)`, whose `forward` takes `Rows` and
`Places`. No row of a bag depends on another bag.
"""
