"""Draw a slide: stamp the nuclei, add ground and texture block by block, and let light through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mil.demo.anatomy import build_anatomy
from mil.demo.artefacts import defocus, fold_thickness, pen_ink
from mil.demo.cells import Cells, place_cells
from mil.demo.ground import GROUND_UM, Ground, fibre_frame, lay_ground
from mil.demo.noise import Field, Sampler, smooth_noise
from mil.demo.plan import DemoSlide
from mil.demo.sprites import ANGLES, HAEMATOXYLIN_FULL, sprite_bank
from mil.demo.stain import PEN, Stain, slide_stain
from mil.demo.texture import FIBRE_PERIOD_UM, fibre_texture, grain_texture, sensor_noise
from mil.demo.tissue import STEP_UM, lay_out, stream

Image = NDArray[np.uint8]
_BLOCK = 256
_FIBRE_DEPTH = 1.05


def render(slide: DemoSlide) -> Image:
    """The level-0 image of a slide, [height, width, 3]."""
    layout = lay_out(slide)
    anatomy = build_anatomy(slide, layout)
    frame = fibre_frame(slide, layout, anatomy)
    cells = place_cells(slide, layout, anatomy, frame[0])
    ground = lay_ground(slide, layout, anatomy, cells, frame)
    extras = {"ink": pen_ink(slide, layout), "fold": fold_thickness(slide, layout)}
    stamped = stamp_cells(slide, cells)
    painter = _Painter(
        slide, ground, {name: field for name, field in extras.items() if field is not None}
    )
    image = np.empty((slide.height_px, slide.width_px, 3), np.uint8)
    for row in range(-(-slide.height_px // _BLOCK)):
        for column in range(-(-slide.width_px // _BLOCK)):
            window = (
                slice(row * _BLOCK, (row + 1) * _BLOCK),
                slice(column * _BLOCK, (column + 1) * _BLOCK),
            )
            image[window] = painter.block(row, column, stamped[window])
    defocus(image, slide, layout)
    return image


def stamp_cells(slide: DemoSlide, cells: list[Cells]) -> Image:
    """All nuclei on one canvas [height, width, 3]: coverage, haematoxylin, red-cell pigment.

    Where nuclei overlap the stronger wins, as two thin things seen through each other
    would.
    """
    rng = stream(slide, "stamps")
    canvas = np.zeros((slide.height_px, slide.width_px, 3), np.uint8)
    bank = sprite_bank(slide.mpp)
    for group in cells:
        sprites = bank[group.kind]
        turned = len(sprites[0]) == ANGLES
        pixel = np.rint(group.place_um / slide.mpp).astype(int)
        chance = rng.integers(0, 1 << 30, len(pixel))
        for (row, column), size, angle, number in zip(
            pixel.tolist(), group.size.tolist(), group.angle.tolist(), chance.tolist(), strict=True
        ):
            variants = sprites[size][angle if turned else 0]
            sprite = variants[number % len(variants)]
            flip = number >> 16
            # Half a turn keeps an angle; a nucleus without one may also be mirrored.
            sprite = sprite[::-1, ::-1] if flip & 1 else sprite
            sprite = sprite[::-1] if flip & 2 and not turned else sprite
            half = len(sprite) // 2
            top = row - half
            left = column - half
            target = canvas[max(top, 0) : top + len(sprite), max(left, 0) : left + len(sprite)]
            if target.size:
                up = max(-top, 0)
                aside = max(-left, 0)
                part = sprite[up : up + target.shape[0], aside : aside + target.shape[1]]
                np.maximum(target, part, out=target)
    return canvas


class _Painter:
    """Turns ground, texture and stamped nuclei into colour, one block at a time."""

    def __init__(self, slide: DemoSlide, ground: Ground, extras: dict[str, Field]) -> None:
        size = slide.height_px, slide.width_px
        self.slide = slide
        self.ground = ground
        self.extras = extras
        self.stain: Stain = slide_stain(slide)
        self.at_ground = Sampler(
            ground.solid_um.shape, size, scale=slide.mpp / GROUND_UM, block=_BLOCK
        )
        coarse = int(size[0] * slide.mpp / STEP_UM) + 3, int(size[1] * slide.mpp / STEP_UM) + 3
        self.at_extra = Sampler(coarse, size, scale=slide.mpp / STEP_UM, block=_BLOCK)
        rng = stream(slide, "glass")
        self.glow = 1 + np.float32(0.006) * smooth_noise(rng, coarse, 90)
        self.fibres = fibre_texture(2048 if slide.mpp < 0.4 else 1024)
        self.grain = grain_texture(slide.mpp, _BLOCK)
        self.noise = sensor_noise(_BLOCK)

    def block(self, row: int, column: int, stamped: Image) -> Image:
        """The colours of one block."""
        height, width = stamped.shape[:2]
        glow = self.at_extra(self.glow, row, column)
        top = row * _BLOCK % 512
        left = column * _BLOCK % 512
        noise = self.noise[top : top + height, left : left + width]
        thickness = self._tissue(row, column, stamped)
        ink = self._extra("ink", row, column)
        colour = np.empty((height, width, 3), np.uint8)
        for channel in range(3):
            light = glow * self.stain.light[channel]
            density: Field | None = None
            if thickness is not None:
                haem, eosin, red_cell = thickness
                density = (
                    haem * self.stain.haem[channel]
                    + eosin * self.stain.eosin[channel]
                    + red_cell * self.stain.red_cell[channel]
                )
            if ink is not None:
                wet = ink * np.float32(PEN[self.slide.pen][channel])
                density = wet if density is None else density + wet
            if density is not None:
                light *= np.exp(-density)
            light += noise[..., channel]
            colour[..., channel] = np.clip(light + 0.5, 0, 255)
        return colour

    def _extra(self, name: str, row: int, column: int) -> Field | None:
        field = self.extras.get(name)
        if field is None or np.ptp(field[self.at_extra.window(row, column)]) < 1e-3:
            return None
        return self.at_extra(field, row, column)

    def _tissue(self, row: int, column: int, stamped: Image) -> tuple[Field, Field, Field] | None:
        """Amounts of haematoxylin, eosin and red-cell pigment; None where there is only glass."""
        window = self.at_ground.window(row, column)
        if self.ground.solid_um[window].max() <= -2:
            return None
        height, width = stamped.shape[:2]
        top = row * _BLOCK % 1024
        left = column * _BLOCK % 1024
        grain = self.grain[top : top + height, left : left + width]
        solid = self.at_ground(self.ground.solid_um, row, column)
        solid = np.clip(solid * 0.9 + 0.5 + 0.25 * grain, 0, 1)
        texture = self._fibre_texture(row, column) * self.at_ground(self.ground.fibre, row, column)
        eosin = self.at_ground(self.ground.eosin, row, column)
        eosin *= np.maximum(1 + _FIBRE_DEPTH * texture, 0.10) * (1 + 0.16 * grain)
        haem = self.at_ground(self.ground.haem, row, column) * (1 + 0.30 * grain)
        cover = stamped[..., 0] * np.float32(1 / 255)
        eosin = np.maximum(eosin * (1 - 0.62 * cover), 0) * solid
        red_cell = stamped[..., 2] * np.float32(1 / 255)
        haem = np.maximum(haem * (1 - cover), 0) + stamped[..., 1] * np.float32(
            HAEMATOXYLIN_FULL / 255
        )
        haem *= np.maximum(solid, red_cell > 0)
        fold = self._extra("fold", row, column)
        if fold is not None:
            haem = haem * fold
            eosin = eosin * fold
        return haem, eosin, red_cell

    def _fibre_texture(self, row: int, column: int) -> Field:
        texels = len(self.fibres)
        per_um = np.float32(texels / FIBRE_PERIOD_UM)
        across = (self.at_ground(self.ground.across_um, row, column) * per_um).astype(np.int32) & (
            texels - 1
        )
        along = (self.at_ground(self.ground.along_um, row, column) * per_um).astype(np.int32) & (
            texels - 1
        )
        return self.fibres.ravel()[across * texels + along]
