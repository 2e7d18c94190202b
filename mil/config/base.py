"""Base of all sections of the configuration: the model, its check, its files."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mil.errors import ConfigError, unknown_name

# Names become names of folders: letters, digits, dots, dashes and underscores, never a
# path.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME)]

# The folder that this package lies in, with the `configs/` that came with it.
SHIPPED = Path(__file__).resolve().parents[2]

# Faults that a message lists, and the length of a value that it quotes.
MAX_FAULTS = 10
_SHORT = Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], raw: Any, where: str) -> Model:
    """Check a mapping read from a file; all faults are named, with their dotted paths.

    Args:
        model: Model of the section.
        raw: Mapping to check.
        where: Source of the mapping, such as a file, for the message.

    Raises:
        ConfigError: One line with all faults.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        faults = [_message(fault, model) for fault in errors[:MAX_FAULTS]]
        if len(errors) > MAX_FAULTS:
            faults.append(f"and {len(errors) - MAX_FAULTS} more")
        raise ConfigError(f"{where}: {'; '.join(faults)}") from None


def _message(fault: Any, model: type[BaseModel]) -> str:
    location = fault["loc"]
    if fault["type"] == "extra_forbidden":
        key = ".".join(map(str, location))
        return unknown_name("key", key, _known_keys(model, location[:-1]))
    # Where several types are allowed, pydantic adds the one that was tried to the path:
    # literal['auto','none'], list[int].
    path = ".".join(str(part) for part in location if "[" not in str(part))
    message = fault["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
    # The input of these two kinds of fault is the whole section, too long to be quoted.
    is_whole_section = fault["type"] == "missing" or (fault["type"] == "value_error" and not path)
    if not is_whole_section:
        message += f", not {_SHORT.repr(fault['input'])}"
    # YAML reads no as false, 1e5 as a number and 2024-01-02 as a day.
    if fault["type"] == "string_type" and isinstance(fault["input"], bool | int | float | date):
        message += '; in quotes it is text: KEY: "..." in a file, \'KEY="..."\' in a shell'
    return f"{path}: {message}" if path else message


def _known_keys(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Keys of the section at a path; none inside a mapping, whose keys are free."""
    for part in path:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def config_path(relative: str) -> Path:
    """Path of a file of `configs/`: the working directory's, else that of mil."""
    local = Path("configs") / relative
    return local if local.exists() else SHIPPED / local


def named_file(folder: str, name: str, kind: str) -> Path:
    """Path of a yaml in `configs/FOLDER`, given its name or its path.

    Args:
        folder: Folder below `configs/`.
        name: Name without `.yaml`, or path of a yaml.
        kind: Noun for the error message, such as `dataset`.

    Raises:
        ConfigError: There is no such file; for a name, the message lists the others.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else config_path(f"{folder}/{name}.yaml")
    if not path.exists():
        if path == Path(name):
            raise ConfigError(f"{path}: no such file")
        # A `configs/` of the user's own does not hide the files that came with this
        # package.
        folders = (Path("configs") / folder, SHIPPED / "configs" / folder)
        known = {file.stem for folder in folders for file in folder.glob("*.yaml")}
        raise ConfigError(unknown_name(kind, name, known))
    return path
