"""Mutations of structure: JSON, YAML, XML and tables are edited as trees, not as bytes."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from xml.etree import ElementTree

import yaml

from tests.fuzz.watch import CANARY_MODULE

# Values of every type, and those that programs trip over.
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    10**400,
    0.1,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
    "",
    " ",
    "0",
    "NaN",
    "null",
    "-",
    "=1+1",
    "../../../etc/passwd",
    "/dev/zero",
    "/",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x",
    f"package:{CANARY_MODULE}/x",
    CANARY_MODULE,
    "hf-hub:a/b",
    "a" * 300,
    "a" * 100_000,
    "é",
    "e\u0301",
    "\ufeffa",
    "a\u200bb",
    "a\nb",
    "a\0b",
    "\ud800",
    "日本語" * 30,
    "{slide}",
    "{}",
    "%s",
    [],
    {},
    [[]],
    [None],
    {"": None},
)
MANY = 20_000
# Python's own writers of YAML recurse; texts nested deeper are made of text.
NESTED = 50


def values(random: Random) -> Any:
    """One of the values, or a nest of them."""
    if random.random() < 0.03:
        return _nested(random)
    return random.choice(VALUES)


def _nested(random: Random) -> Any:
    value: Any = random.choice((0, "x", None))
    as_list = random.random() < 0.5
    for _ in range(NESTED):
        value = [value] if as_list else {"a": value}
    return value


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values below one."""
    if isinstance(value, dict):
        for key in value:
            yield (*path, key)
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        # The first of many alike are enough.
        for number in range(min(len(value), 50)):
            yield (*path, number)
            yield from _places(value[number], (*path, number))


def edit(tree: Any, random: Random, value: Callable[[Random], Any] = values) -> Any:
    """The same tree with one to three edits: another value, key or type, less, or more."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return value(random)
        path = random.choice(places)
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        _edit_child(parent, path[-1], random, value)
    return tree


def _edit_child(parent: Any, key: Any, random: Random, value: Callable[[Random], Any]) -> None:
    old = parent[key]
    choice = random.randrange(8)
    if choice < 3:
        parent[key] = value(random)
    elif choice == 3:
        del parent[key]
    elif choice == 4:
        parent[key] = _other_type(old, random)
    elif choice == 5 and isinstance(parent, dict):
        parent[random.choice(("x", "", "format", "1", "name", "type"))] = parent.pop(key)
    elif choice == 6 and isinstance(parent, list):
        parent += [old] * random.choice((1, 2, 50, 1000))
    elif isinstance(old, int | float) and not isinstance(old, bool):
        parent[key] = _near_number(old, random)
    else:
        parent[key] = value(random)


def _other_type(old: Any, random: Random) -> Any:
    if random.random() < 0.3:
        return [old]
    if random.random() < 0.3:
        return {"value": old}
    if isinstance(old, str):
        return {"a": old} if random.random() < 0.5 else len(old)
    return str(old)


def _near_number(old: float, random: Random) -> Any:
    factors = (-1, 0, 0.5, 2, 10, 1000, 1e6, 1e12, 1e-6, 1e-300)
    number = old * random.choice(factors)
    if isinstance(old, int) and abs(number) < 1e300 and random.random() < 0.8:
        return int(number)
    return number


def mutate_json(data: bytes, random: Random) -> bytes:
    """A JSON text with edits, twice a key, or nested deep."""
    text = json.dumps(edit(json.loads(data), random))
    if random.random() < 0.03:
        opening = random.choice(("[", '{"a":'))
        text = text.replace("null", opening * 100_000, 1) if "null" in text else opening * 100_000
    return text.encode("utf-8", "surrogatepass")


def mutate_yaml(data: bytes, random: Random) -> bytes:
    """A YAML text with edits, with anchors, tags, or several documents."""
    tree = edit(yaml.safe_load(data), random)
    text = yaml.safe_dump(tree, allow_unicode=random.random() < 0.5, sort_keys=False)
    choice = random.random()
    if choice < 0.05:
        text = text.replace(": ", random.choice((": !!python/name:os.system ", ": !x ", ": &a ")))
    elif choice < 0.08:
        text += "---\n" + text
    elif choice < 0.11:
        text = text.replace(": ", f": {'[' * random.choice((10, 3000))}", 1)
    elif choice < 0.14:
        text += "<<: *a\n"
    elif choice < 0.17:
        text = text.replace(": ", random.choice((": 2001-01-01 ", ": 1e999 ", ": 0x1f ", ": 1_0 ")))
    return text.encode("utf-8", "surrogatepass")


def mutate_xml(data: bytes, random: Random) -> bytes:
    """An XML text whose elements, attributes or texts are edited."""
    root = ElementTree.fromstring(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        elements = list(root.iter())
        element = random.choice(elements)
        _edit_element(element, random.choice(elements), random)
    try:
        text = ElementTree.tostring(root)
    except (TypeError, ValueError):
        return data
    choice = random.random()
    if choice < 0.03:
        name = random.choice((b"a", b"Annotation", b"Group", b"Region"))
        depth = random.choice((100, 5000, 100_000))
        text = text.replace(b"</", b"<%b>" % name * depth + b"</%b>" % name * depth + b"</", 1)
    elif choice < 0.06:
        entity = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        text = entity + text.replace(b'="', b'="&e;', 1)
    elif choice < 0.08:
        encoding = random.choice((b"utf-16", b"rot13", b"utf-7", b"latin-1", b"hex"))
        text = b"<?xml version='1.0' encoding='" + encoding + b"'?>" + text
    return text


def _edit_element(element: Any, other: Any, random: Random) -> None:
    choice = random.randrange(7)
    keys = list(element.keys())
    if choice < 3 and keys:
        element.set(random.choice(keys), _cell(random))
    elif choice == 3 and keys:
        del element.attrib[random.choice(keys)]
    elif choice == 4 and len(element):
        element.remove(random.choice(list(element)))
    elif choice == 5 and len(element):
        # A shallow copy: the same child many times.
        child = random.choice(list(element))
        for _ in range(random.choice((1, 2, 500))):
            element.append(child)
    elif choice == 6:
        element.tag = other.tag
    else:
        element.text = _cell(random)


def mutate_table(data: bytes, random: Random) -> bytes:
    """A table whose cells, rows and columns are edited, with other separators and encodings."""
    text = data.decode("utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(random.choice((1, 1, 2, 5))):
        rows = _edit_rows(rows, random)
    written = io.StringIO()
    separator = random.choice(",,,,,,;\t|")
    end = random.choice(("\n", "\n", "\n", "\r\n", "\r"))
    csv.writer(written, delimiter=separator, lineterminator=end).writerows(rows)
    text = written.getvalue()
    choice = random.random()
    if choice < 0.05:
        text = f"sep={separator}\n{text}"
    elif choice < 0.08:
        text = text.replace('"', "").replace(",", '"', 1)
    encoding = random.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16", "latin-1", "cp1252"))
    return text.encode(encoding, "replace" if encoding != "utf-8" else "surrogatepass")


def _edit_rows(rows: list[list[str]], random: Random) -> list[list[str]]:
    if not rows:
        return [[_cell(random)]]
    number = random.randrange(len(rows))
    row = rows[number]
    choice = random.randrange(8)
    if choice < 3 and row:
        row[random.randrange(len(row))] = _cell(random)
    elif choice == 3:
        column = random.randrange(max(len(rows[0]), 1))
        rows = [cells[:column] + cells[column + 1 :] for cells in rows]
    elif choice == 4:
        del rows[number]
    elif choice == 5:
        rows = rows[: number + 1] + rows[number:]
    elif choice == 6:
        new = _cell(random)
        rows = [[*cells, new] for cells in rows]
    elif random.random() < 0.1:
        row += [_cell(random)] * MANY
    else:
        row.append(_cell(random))
    return rows


def _cell(random: Random) -> str:
    value = random.choice(VALUES)
    longest = 100_000 if random.random() < 0.02 else 1000
    return (value if isinstance(value, str) else str(value))[:longest]
