"""Draw a slide: stamp the nuclei, add ground and texture block by block, let light through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mil.demo.anatomy import build_anatomy
from mil.demo.artefacts import defocus, fold_thickness, pen_ink
from mil.demo.cells import Cells, place_cells
from mil.demo.ground import GROUND_UM, Ground, fibre_frame, lay_ground
from mil.demo.noise import Field, Sampler, noise_on
from mil.demo.plan import DemoSlide
from mil.demo.sprites import ANGLES, HAEMATOXYLIN_FULL, Sprite, sprite_bank
from mil.demo.stain import PEN, Stain, slide_stain
from mil.demo.texture import (
    FIBRE_PERIOD_UM,
    GRAIN_PX,
    NOISE_PX,
    fibre_texture,
    grain_texture,
    sensor_noise,
)
from mil.demo.tissue import STEP_UM, lay_out, stream

Image = NDArray[np.uint8]
_BLOCK = 256
# How much fibres raise and lower the eosin.
_FIBRE_DEPTH = 1.05
# Byte to a share.
_PER_BYTE = np.float32(1 / 255)


def render(slide: DemoSlide) -> Image:
    """The level-0 image of a slide, [height, width, 3]."""
    layout = lay_out(slide)
    anatomy = build_anatomy(slide, layout)
    frame = fibre_frame(slide, layout, anatomy)
    across_fibres, _ = frame
    cells = place_cells(slide, layout, anatomy, across_fibres)
    ground = lay_ground(slide, layout, anatomy, cells, frame)
    artefacts = {"ink": pen_ink(slide, layout), "fold": fold_thickness(slide, layout)}
    present = {name: field for name, field in artefacts.items() if field is not None}
    stamped = stamp_cells(slide, cells)
    painter = _Painter(slide, ground, present)
    image = np.empty((slide.height_px, slide.width_px, 3), np.uint8)
    for row in range(-(-slide.height_px // _BLOCK)):
        for column in range(-(-slide.width_px // _BLOCK)):
            rows = slice(row * _BLOCK, (row + 1) * _BLOCK)
            columns = slice(column * _BLOCK, (column + 1) * _BLOCK)
            image[rows, columns] = painter.block(row, column, stamped[rows, columns])
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
        has_angle = len(sprites[0]) == ANGLES
        pixel = np.rint(group.position_um / slide.mpp).astype(int)
        # One random number for each nucleus decides on its variant and its mirroring.
        numbers = rng.integers(0, 1 << 30, len(pixel))
        nuclei = zip(
            pixel.tolist(),
            group.size.tolist(),
            group.angle.tolist(),
            numbers.tolist(),
            strict=True,
        )
        for (row, column), size, angle, number in nuclei:
            variants = sprites[size][angle if has_angle else 0]
            sprite = _mirrored(variants[number % len(variants)], number >> 16, has_angle)
            _stamp(canvas, sprite, row, column)
    return canvas


def _mirrored(sprite: Sprite, bits: int, has_angle: bool) -> Sprite:
    """A sprite turned by half a turn and mirrored, by two random bits."""
    # Half a turn keeps an angle; a nucleus without one may also be mirrored.
    if bits & 1:
        sprite = sprite[::-1, ::-1]
    if bits & 2 and not has_angle:
        sprite = sprite[::-1]
    return sprite


def _stamp(canvas: Image, sprite: Sprite, row: int, column: int) -> None:
    """Draw a sprite centred on a pixel; what hangs over the canvas is cut."""
    side = len(sprite)
    top = row - side // 2
    left = column - side // 2
    target = canvas[max(top, 0) : top + side, max(left, 0) : left + side]
    if target.size:
        skipped_rows = max(-top, 0)
        skipped_columns = max(-left, 0)
        height, width = target.shape[:2]
        part = sprite[skipped_rows:, skipped_columns:][:height, :width]
        np.maximum(target, part, out=target)


def _repeating(texture: Field, row: int, column: int, period: int, shape: tuple[int, ...]) -> Field:
    """The part of a repeating texture that lies on a block.

    Args:
        texture: the texture, with a margin of a block at its far edges.
        row: row of the block.
        column: column of the block.
        period: distance of two repetitions, pixels.
        shape: rows and columns of the block.
    """
    top = row * _BLOCK % period
    left = column * _BLOCK % period
    return texture[top : top + shape[0], left : left + shape[1]]


class _Painter:
    """Turns ground, texture and stamped nuclei into colour, one block at a time."""

    def __init__(self, slide: DemoSlide, ground: Ground, artefacts: dict[str, Field]) -> None:
        size = slide.height_px, slide.width_px
        self.slide = slide
        self.ground = ground
        self.artefacts = artefacts
        self.stain: Stain = slide_stain(slide)
        ground_nodes = ground.solid_um.shape
        self.at_ground = Sampler(ground_nodes, size, scale=slide.mpp / GROUND_UM, block=_BLOCK)
        rows, columns = (int(side * slide.mpp / STEP_UM) + 3 for side in size)
        coarse_nodes = rows, columns
        self.at_coarse = Sampler(coarse_nodes, size, scale=slide.mpp / STEP_UM, block=_BLOCK)
        rng = stream(slide, "glass")
        # Light is not equally bright everywhere.
        noise = noise_on(rng, coarse_nodes, STEP_UM)
        self.glow = 1 + np.float32(0.006) * noise(360)
        self.fibres = fibre_texture(2048 if slide.mpp < 0.4 else 1024)
        self.grain = grain_texture(slide.mpp, _BLOCK)
        self.noise = sensor_noise(_BLOCK)

    def block(self, row: int, column: int, stamped: Image) -> Image:
        """The colours of one block, by Beer and Lambert's law."""
        shape = stamped.shape[:2]
        glow = self.at_coarse(self.glow, row, column)
        noise = _repeating(self.noise, row, column, NOISE_PX, shape)
        stains = self._stains(row, column, stamped)
        ink = self._artefact("ink", row, column)
        colour = np.empty((*shape, 3), np.uint8)
        for channel in range(3):
            light = glow * self.stain.light[channel]
            density = self._density(stains, ink, channel)
            if density is not None:
                light *= np.exp(-density)
            light += noise[..., channel]
            colour[..., channel] = np.clip(light + 0.5, 0, 255)
        return colour

    def _density(
        self, stains: tuple[Field, Field, Field] | None, ink: Field | None, channel: int
    ) -> Field | None:
        """Optical density of a channel; None on bare glass."""
        density: Field | None = None
        if stains is not None:
            haem, eosin, red_cell = stains
            density = (
                haem * self.stain.haem[channel]
                + eosin * self.stain.eosin[channel]
                + red_cell * self.stain.red_cell[channel]
            )
        if ink is not None:
            ink_density = ink * np.float32(PEN[self.slide.pen][channel])
            density = ink_density if density is None else density + ink_density
        return density

    def _artefact(self, name: str, row: int, column: int) -> Field | None:
        """An artefact's field on a block; None where the block has none."""
        field = self.artefacts.get(name)
        if field is None:
            return None
        window = self.at_coarse.window(row, column)
        if np.ptp(field[window]) < 1e-3:
            return None
        return self.at_coarse(field, row, column)

    def _stains(self, row: int, column: int, stamped: Image) -> tuple[Field, Field, Field] | None:
        """Amounts of haematoxylin, eosin and red-cell pigment; None where all is glass."""
        window = self.at_ground.window(row, column)
        if self.ground.solid_um[window].max() <= -2:
            return None
        grain = _repeating(self.grain, row, column, GRAIN_PX, stamped.shape[:2])
        # The edge of tissue is soft and grainy.
        solid = self.at_ground(self.ground.solid_um, row, column)
        solid = solid * 0.9 + 0.5 + 0.25 * grain
        solid = np.clip(solid, 0, 1)
        fibre_share = self.at_ground(self.ground.fibre, row, column)
        texture = self._fibre_texture(row, column) * fibre_share
        cover = stamped[..., 0] * _PER_BYTE
        red_cell = stamped[..., 2] * _PER_BYTE
        eosin = self.at_ground(self.ground.eosin, row, column)
        fibrous = np.maximum(1 + _FIBRE_DEPTH * texture, 0.10)
        eosin *= fibrous * (1 + 0.16 * grain)
        # A nucleus displaces most of the eosin, and all of the ground's haematoxylin.
        eosin = eosin * (1 - 0.62 * cover)
        eosin = np.maximum(eosin, 0) * solid
        haem = self.at_ground(self.ground.haem, row, column)
        haem = haem * (1 + 0.30 * grain)
        nuclear = stamped[..., 1] * np.float32(HAEMATOXYLIN_FULL / 255)
        haem = np.maximum(haem * (1 - cover), 0) + nuclear
        # Red cells may lie on glass, in the hollow of a vessel.
        haem *= np.maximum(solid, red_cell > 0)
        fold = self._artefact("fold", row, column)
        if fold is not None:
            haem = haem * fold
            eosin = eosin * fold
        return haem, eosin, red_cell

    def _fibre_texture(self, row: int, column: int) -> Field:
        texels = len(self.fibres)
        per_um = np.float32(texels / FIBRE_PERIOD_UM)
        across = self.at_ground(self.ground.across_um, row, column) * per_um
        along = self.at_ground(self.ground.along_um, row, column) * per_um
        # `&` is the remainder, since the number of texels is a power of two.
        across_index = across.astype(np.int32) & (texels - 1)
        along_index = along.astype(np.int32) & (texels - 1)
        return self.fibres.ravel()[across_index * texels + along_index]
