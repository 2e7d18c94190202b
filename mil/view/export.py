"""The page of one slide as one self-contained file: nothing is loaded when it is opened."""

import io
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from mil.errors import ConfigError, FormatError, unknown_name
from mil.io.atomic import write_text
from mil.versions import TOOL_VERSION
from mil.view.layers import LayerChoice
from mil.view.maps import Choice
from mil.view.page import BOKEH, EXPORT_SCRIPTS, STYLES, bokeh_script, own_file
from mil.view.pixels import thumbnail
from mil.view.shown import Shown

# Longest side of a score layer's image, pixels: that of an overview.
LONGEST_PX = 2048
# Tiles up to which the numbers under the cursor are in the file too.
MOST_TILES = 20_000
# The file runs its own scripts and nothing else; it asks no host for anything.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
ENDINGS = (".html", ".htm")


def export_slide(shown: Shown, slide: str, out: Path) -> None:
    """Write one slide: overview, score layers of all heads and kinds, outlines, numbers.

    Args:
        shown: The study.
        slide: Id of the slide.
        out: HTML file to write.

    Raises:
        ConfigError: There is no such slide, or `out` is no HTML file.
        FormatError: Nothing of the slide can be shown.
    """
    if out.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{out}: the page is HTML; give a name that ends with .html")
    names = [entry.slide for entry in shown.entries]
    if slide not in names:
        raise ConfigError(f"{unknown_name('slide', slide, names)}; name it with --slide")
    number = names.index(slide)
    content = _content(shown, number)
    if content["frame"] is None:
        raise FormatError(f"{slide}: {' '.join(content['notes']) or 'nothing can be shown of it'}")
    write_text(out, _page(content))


def _content(shown: Shown, number: int) -> dict[str, Any]:
    described = shown.slide_json(number)
    study = shown.describe()
    row = study["slides"][number]
    overview = shown.overview(number)
    of_heads = [shown.head_json(number, index) for index in range(len(study["heads"]))]
    drawn = [index for index, head in enumerate(of_heads) if head["drawn"]]
    heads = [
        {
            "title": f"{study['heads'][index]['title']} · {study['heads'][index]['tiling']}",
            "column": study["heads"][index]["column"],
            "layers": _layers(shown, number, index),
            "tiles": _tiles(shown, number, index),
        }
        for index in drawn
    ]
    return {
        "title": study["title"],
        "version": TOOL_VERSION,
        "row": row,
        "called": [row["called"][index] for index in drawn],
        "frame": described["frame"],
        "tissue": described["tissue"],
        "annotated": described["annotated"],
        "notes": [
            note
            for notes in (described["notes"], *(head["notes"] for head in of_heads))
            for note in notes
        ],
        "overviewUrl": "" if overview is None else _data_uri("image/jpeg", overview),
        "heads": heads,
    }


def _layers(shown: Shown, number: int, head: int) -> list[dict[str, Any]]:
    """Score layers of a head, one for each kind of map, by percentile."""
    layers = []
    for kind in shown.layers.kinds(number, head):
        layer = LayerChoice(head, Choice(kind))
        image = shown.layers.image(number, layer, LONGEST_PX)
        if image is not None:
            bar = shown.layers.describe(number, layer)
            listed = {tile["tile"] for end in ("top", "bottom") for tile in bar[end]}
            pictures = {tile: _picture(shown, number, head, tile) for tile in listed}
            layers.append(
                {"kind": kind, "url": _data_uri("image/png", image), "pictures": pictures, **bar}
            )
    return layers


def _picture(shown: Shown, number: int, head: int, tile: int) -> str:
    picture = shown.tile(number, head, tile)
    return "" if picture is None else _data_uri("image/jpeg", thumbnail(io.BytesIO(picture)))


def _tiles(shown: Shown, number: int, head: int) -> dict[str, Any] | None:
    """Places and values of a head's tiles; None where they are too many."""
    values = shown.layers.values(number, head)
    return values if values is not None and len(values["x"]) <= MOST_TILES else None


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _page(content: dict[str, Any]) -> str:
    scripts = [bokeh_script(name) for name in BOKEH] + [own_file(name) for name in EXPORT_SCRIPTS]
    # Text of others must not end the script that holds it.
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "POLICY": POLICY,
        "STYLES": "\n".join(own_file(name) for name in STYLES),
        "DATA": data,
        "SCRIPTS": "\n".join(f"<script>\n{_inline(script)}\n</script>" for script in scripts),
    }
    head, *rest = own_file("export.html").split("@@")
    # Every other piece is the name of a part.
    return head + "".join(
        parts[piece] if place % 2 == 0 else piece for place, piece in enumerate(rest)
    )


def _inline(script: str) -> str:
    return script.replace("</script", "<\\/script")
