"""Names of encoders: those of the entries, and those that other tools use for the same model."""

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Protocol

from mil.errors import ConfigError

# STAMP writes the first digits of a hash of its code behind the name.
_CODE_HASH = re.compile(r"-[0-9a-f]{8}$")
_HUB_PREFIX = re.compile(r"^hf[-_]hub:", re.IGNORECASE)
# Below it, two names are not one name and a typing error.
SIMILAR = 0.88


class Entry(Protocol):
    """What is asked of an entry of configs/encoders.yaml."""

    @property
    def aliases(self) -> list[str]:
        """Names of the model in other tools."""

    @property
    def repository(self) -> str:
        """Repository on the hub whose model the weights are; empty if there is none."""


def by_alias(name: str, encoders: Mapping[str, Entry]) -> str | None:
    """Name of the entry that a name of this or another tool stands for.

    Names are compared without capitals and punctuation: `H-optimus-0` is `h_optimus_0`.

    Args:
        name: Name of an encoder, such as TRIDENT's `uni_v1`, STAMP's `mahmood-uni`, or a
            repository on the hub.
        encoders: Entries by name.

    Returns:
        None if no entry, or more than one, has that name.
    """
    if name in encoders:
        return name
    wanted = {_plain(name), _plain(_CODE_HASH.sub("", name))}
    for names_of in (_own_names, _repositories):
        matches = [entry for entry in encoders if wanted & names_of(entry, encoders[entry])]
        if matches:
            return matches[0] if len(matches) == 1 else None
    return None


def known_encoder(name: str, encoders: Mapping[str, Entry]) -> str:
    """Name of the entry that a name stands for; see `by_alias`.

    Raises:
        ConfigError: No entry has that name.
    """
    entry = by_alias(name, encoders)
    if entry is None:
        raise ConfigError(unknown_encoder(name, encoders))
    return entry


def unknown_encoder(name: str, encoders: Mapping[str, Entry]) -> str:
    """Message for a name that no entry has.

    A similar name is suggested only where it can be a typing error: `uni_v3` and
    `lunit_vits8` are other models than `uni2_h` and `lunit_vits16`.
    """
    typed = [known for known in sorted(encoders) if _is_slip(name, known)]
    hint = f"did you mean {typed[0]!r}? " if len(typed) == 1 else ""
    return (
        f"no encoder named {name!r}; {hint}there are: {', '.join(sorted(encoders))}; another model "
        "needs an entry of its own in configs/encoders.yaml"
    )


def _own_names(name: str, entry: Entry) -> set[str]:
    return {_plain(name), *map(_plain, entry.aliases)}


def _repositories(_: str, entry: Entry) -> set[str]:
    return {_plain(entry.repository)} if entry.repository else set()


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", _HUB_PREFIX.sub("", name).casefold())


def _is_slip(name: str, known: str) -> bool:
    """Whether a letter is missing, doubled, or has changed places with its neighbour."""
    # Numbers, and a letter in place of another, tell models apart: vits16, vitb16.
    if re.findall(r"\d+", name) != re.findall(r"\d+", known):
        return False
    name, known = name.casefold(), known.casefold()
    if sorted(name) == sorted(known):
        return True
    matcher = SequenceMatcher(None, name, known, autojunk=False)
    has_substitution = any(tag == "replace" for tag, *_ in matcher.get_opcodes())
    return matcher.ratio() >= SIMILAR and not has_substitution
