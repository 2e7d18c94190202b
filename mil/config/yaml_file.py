"""YAML files of other people: read within bounds, and with one meaning for each key."""

from collections.abc import Hashable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from mil.errors import ConfigError, brief

# Far above any file of settings: the encoders of this package are 14 kB, 500 values.
MAX_BYTES = 250_000
MAX_NODES = 5_000
MAX_DEPTH = 40
MAX_DIGITS = 100
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Refused(yaml.YAMLError):
    """The file is YAML, but not one that is read; the message is for the user."""


class _BoundedLoader(yaml.SafeLoader):
    """The safe loader: no code is run, aliases are counted, no key is there twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._num_nodes = 0
        # Values that a node stands for, its aliases written out.
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        line = self.peek_event().start_mark.line + 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Refused(f"line {line}: nested more than {MAX_DEPTH} deep")
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias:
            if id(node) not in self._sizes:
                raise _Refused(f"line {line}: an alias within what it stands for")
            self._count(self._sizes[id(node)])
        elif node is not None:
            # The library's time grows with the square of a number's length.
            if node.tag in NUMBERS and len(node.value) > MAX_DIGITS:
                raise _Refused(f"line {line}: a number of {len(node.value)} characters")
            self._count(1)
            self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in _children(node))
        return node

    def _count(self, num_nodes: int) -> None:
        self._num_nodes += num_nodes
        if self._num_nodes > MAX_NODES:
            raise _Refused(f"more than {MAX_NODES} values, aliases written out")

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        # Before the merge keys `<<` are resolved, which may repeat a key.
        written = set()
        # Tags of the file's own may bring nodes of other kinds here.
        for key, _ in node.value if _is_mapping(node) else []:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in written:
                line = key.start_mark.line + 1
                raise _Refused(f"line {line}: the key {key.value!r} is there twice; keep one")
            written.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)


def _is_mapping(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return []


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Raises:
        ConfigError: The file is missing, is not YAML, writes a key twice, or holds more
            than any file of settings.
    """
    text = _read_text(path)
    try:
        return deepcopy(_parse(text))
    except _Refused as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}: not YAML: {_where(error)}{_what(error)}") from None
    # The library's constructors pass on the errors of int, date and others.
    except Exception as error:  # noqa: BLE001
        raise ConfigError(f"{path}: not YAML: {brief(error)}") from None


@lru_cache(maxsize=16)
def _parse(text: str) -> Any:
    """A process reads the same few files again and again, and the parser is slow."""
    return yaml.load(text, _BoundedLoader)


def _read_text(path: Path) -> str:
    if not path.exists():
        raise ConfigError(f"{path}: no such file")
    if not path.is_file():
        raise ConfigError(f"{path}: not a file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{path}: larger than {MAX_BYTES // 1000} kB, which no file of settings is"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}: not UTF-8 text (line {line}); save it as UTF-8 in your editor"
        ) from None


def _where(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}: " if mark else ""


def _what(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join((error.problem or error.context or "").split())[:200]
    tab = "; indent by spaces, not by tabs" if "'\\t'" in problem else ""
    return problem + tab
