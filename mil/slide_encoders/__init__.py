"""Published slide encoders: the tiles of a slide become one vector.

One file each, with a class `SlideEncoder`, a module that is built without arguments in
its published shape. Its `forward` takes one slide:

    features: Features of the tiles, float32, [tiles, dim].
    corners: Top left corners of the tiles, level-0 pixels, int64, [tiles, 2]. With
        `side_px` only where its entry says `positions: true`.
    side_px: Side of a tile on the slide, level-0 pixels, a fraction.

and returns the vector, float32, [dim]. Its parameters have the names of the published
checkpoint; where they cannot, the file has a list `NAMES` of patterns of names and their
replacements. Tensors of the checkpoint that the vector does not need are dropped; with a list
`UNUSED` of patterns of their names, after the replacements, others are refused.

The entry of NAME.py is `configs/slide_encoders/NAME.yaml`.
"""
