"""Addresses of the page: what each answers, and nothing else."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from mil.errors import ConfigError, MilError
from mil.io.scores import MAP_KINDS
from mil.view.layers import LayerChoice
from mil.view.maps import Choice
from mil.view.page import page_html, static_file
from mil.view.shown import Shown

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
JPEG = "image/jpeg"
PNG = "image/png"
# An image tile without anything on it: one transparent pixel.
EMPTY_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001010300000025db56ca00000003504c5445"
    "000000a77a3dda0000000174524e530040e6d8660000000a4944415408d76360000000020001e221bc"
    "330000000049454e44ae426082"
)
# Images change only with the results, and never while a page shows them.
KEEP_IMAGES = "private, max-age=600"
KEEP_NOTHING = "no-store"
# A number in an address; longer ones are nobody's.
NUMBER = r"(\d{1,9})"
LONGEST_WORD = 40


class Reply(NamedTuple):
    """An answer.

    Attributes:
        status: HTTP status.
        kind: Media type.
        body: Content.
        cache: Value of `Cache-Control`.
    """

    status: int
    kind: str
    body: bytes
    cache: str = KEEP_NOTHING


NOT_FOUND = Reply(404, "text/plain; charset=utf-8", b"not found\n")
Query = Mapping[str, Sequence[str]]
Answer = Callable[[Shown, Sequence[int], Query], Reply]


def reply_to(shown: Shown, target: str) -> Reply:
    """Answer to the address of a request, without the token.

    Numbers in the address are places in tables that were made when the viewer started; no
    part of it becomes a path.

    Args:
        shown: The study.
        target: Path and query, such as `/slide/3/map?head=1`.
    """
    parts = urlsplit(target)
    if parts.path in ("", "/"):
        return Reply(200, HTML, page_html().encode())
    if parts.path.startswith("/static/"):
        name = parts.path.removeprefix("/static/")
        file = static_file(name)
        return NOT_FOUND if file is None else Reply(200, *file, KEEP_IMAGES)
    for pattern, answer in ROUTES.items():
        match = re.fullmatch(pattern, parts.path)
        if match:
            try:
                query = parse_qs(parts.query, max_num_fields=20)
                return answer(shown, [int(group) for group in match.groups()], query)
            except ValueError as error:
                if not isinstance(error, MilError):
                    return _json({"error": "this address has a value that is not a number"}, 400)
                return _json({"error": str(error)}, 404)
            except MilError as error:
                return _json({"error": str(error)}, 404)
    return NOT_FOUND


def _json(content: object, status: int = 200) -> Reply:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Reply(status, JSON, text.encode("utf-8", "replace"))


def _image(kind: str, body: bytes | None) -> Reply:
    if body is None:
        return Reply(200, PNG, EMPTY_PNG, KEEP_IMAGES)
    return Reply(200, kind, body, KEEP_IMAGES)


def _word(query: Query, name: str, default: str) -> str:
    return query.get(name, [default])[0][:LONGEST_WORD]


def _number(query: Query, name: str) -> int | None:
    text = _word(query, name, "")
    return int(text) if text else None


def layer_of(query: Query) -> LayerChoice:
    """The score layer that a query names.

    Raises:
        ConfigError: There is no such kind of map.
        ValueError: A number is not one.
    """
    kind = _word(query, "kind", "attention")
    known = next((one for one in MAP_KINDS if one == kind), None)
    if known is None:
        raise ConfigError(f"no kind of map is called {kind!r}; choose of {', '.join(MAP_KINDS)}")
    choice = Choice(
        known,
        _number(query, "member"),
        _number(query, "column"),
        _number(query, "branch"),
    )
    scale = _word(query, "scale", "percentile")
    return LayerChoice(_number(query, "head") or 0, choice, scale, _word(query, "colours", ""))


def _study(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    return _json(shown.describe())


def _slide(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    return _json(shown.slide_json(numbers[0]))


def _head(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    return _json(shown.head_json(*numbers))


def _thumbnail(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    return _image(JPEG, shown.thumbnail(numbers[0]))


def _overview(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    return _image(JPEG, shown.overview(numbers[0]))


def _pixels(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    return _image(JPEG, shown.pixels(*numbers))


def _tile(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    return _image(JPEG, shown.tile(numbers[0], _number(query, "head") or 0, numbers[1]))


def _layer(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    zoom, column, row = numbers[1:]
    return _image(PNG, shown.layers.tile(numbers[0], layer_of(query), (zoom, column, row)))


def _map(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    return _json(shown.layers.describe(numbers[0], layer_of(query)))


def _at(shown: Shown, numbers: Sequence[int], query: Query) -> Reply:
    x, y = (float(_word(query, name, "")) for name in "xy")
    content: dict[str, Any] | None = shown.layers.at(numbers[0], layer_of(query), x, y)
    return _json(content)


ROUTES: dict[str, Answer] = {
    "/study": _study,
    f"/slide/{NUMBER}": _slide,
    f"/slide/{NUMBER}/head/{NUMBER}": _head,
    f"/slide/{NUMBER}/thumbnail": _thumbnail,
    f"/slide/{NUMBER}/overview": _overview,
    f"/slide/{NUMBER}/pixels/{NUMBER}/{NUMBER}/{NUMBER}": _pixels,
    f"/slide/{NUMBER}/tile/{NUMBER}": _tile,
    f"/slide/{NUMBER}/layer/{NUMBER}/{NUMBER}/{NUMBER}": _layer,
    f"/slide/{NUMBER}/map": _map,
    f"/slide/{NUMBER}/at": _at,
}
