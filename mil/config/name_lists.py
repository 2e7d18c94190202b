"""Lists of names in a run's configuration, as users write them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from mil.config.base import Name, as_text
from mil.config.joined import ENCODERS


def _as_list(value: Any) -> Any:
    """Let a user write `head=abmil`, `head=[abmil,acmil]` or `head=abmil,acmil`."""
    if isinstance(value, str):
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return value if isinstance(value, list) else as_text(value)


def _no_name_twice(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice; name each once")
    return names


Names = Annotated[
    list[Name],
    BeforeValidator(_as_list),
    Field(min_length=1, max_length=1000),
    AfterValidator(_no_name_twice),
]
EncoderName = Annotated[str, Field(pattern=ENCODERS), BeforeValidator(as_text)]
EncoderNames = Annotated[
    list[EncoderName],
    BeforeValidator(_as_list),
    Field(min_length=1, max_length=1000),
    AfterValidator(_no_name_twice),
]
OptionalNames = Annotated[
    list[Name],
    BeforeValidator(_as_list),
    Field(max_length=1000),
    AfterValidator(_no_name_twice),
]
