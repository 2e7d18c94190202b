"""Base of all sections of the configuration: the model, its check, its files."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, TypeVar
from unicodedata import normalize

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mil.errors import ConfigError, brief, unknown_name

# Names become names of folders: letters, digits, dots, dashes and underscores, never a
# path.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
# Characters of such a name; paths hold several.
LONGEST_NAME = 100

# A name that ends so is the path of a yaml.
YAML_ENDINGS = (".yaml", ".yml")
# The folder that this package lies in, with the `configs/` that came with it.
SHIPPED = Path(__file__).resolve().parents[2]

# Faults that a message lists, and the length of a value that it quotes.
MAX_FAULTS = 10
_SHORT = Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def kind_in_yaml(text: str) -> str:
    """Kind of value that YAML, or Snakemake's `--config`, reads a text as; empty: a text."""
    for number in (int, float):
        with suppress(ValueError):
            number(text)
            return "a number"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return ""
    except ValueError:
        # Written like a date that no calendar has.
        return "a date"
    if isinstance(value, bool):
        return "yes or no"
    kinds = {type(None): "nothing", int: "a number", float: "a number", str: ""}
    return kinds.get(type(value), "a date")


def name_fault(name: str) -> str:
    """Why a name cannot be that of a dataset, with one that can; empty: it can.

    It becomes part of paths, where a slash would lead out of their folders, and of
    `--config dataset=NAME`, where `2024` would be a number.
    """
    if not re.fullmatch(NAME, name):
        fault = "use letters, digits, dots, dashes and underscores only"
    elif len(name) > LONGEST_NAME:
        fault = f"it is longer than {LONGEST_NAME} characters"
    elif name.endswith(YAML_ENDINGS):
        fault = "it would be read as the path of a yaml"
    elif kind := kind_in_yaml(name):
        fault = f"YAML reads it as {kind}, not as a text"
    else:
        return ""
    return f"{fault}; such as {_proposed_name(name)!r}"


def _proposed_name(name: str) -> str:
    # Letters without their accents; what has no Latin letter is replaced.
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.-")
    for ending in YAML_ENDINGS:
        plain = plain.removesuffix(ending)
    plain = plain[: LONGEST_NAME - len("study_")]
    return f"study_{plain or 1}" if not plain or kind_in_yaml(plain) else plain


def as_text(value: Any) -> Any:
    """The value; refused if YAML made something else of an unquoted text.

    Raises:
        ValueError: it is a number, a date, yes or no.
    """
    # Booleans are integers too.
    if isinstance(value, int | float | date):
        raise ValueError(
            "rename it, quote it in configs/config.yaml, or write a path as ./NAME, since "
            "`--config` reads numbers, dates, yes and no as such; expected a text"
        )
    return value


Name = Annotated[str, Field(pattern=NAME), BeforeValidator(as_text)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, and numbers that are not finite.

    Values cannot be changed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
        return _unknown_key(location, model)
    # Where several types are allowed, pydantic adds the one that was tried to the path:
    # literal['auto','none'], list[int].
    path = ".".join(str(part) for part in location if "[" not in str(part))
    # Checks of our own quote values, which may be of any length.
    message = brief(fault["msg"].removeprefix("Value error, ").partition(" or instance of ")[0])
    # The input of these two kinds of fault is the whole section, too long to be quoted.
    is_whole_section = fault["type"] == "missing" or (fault["type"] == "value_error" and not path)
    if not is_whole_section:
        message += f", not {_SHORT.repr(fault['input'])}"
    # YAML reads no as false, 1e5 as a number and 2024-01-02 as a day.
    if fault["type"] == "string_type" and isinstance(fault["input"], bool | int | float | date):
        message += '; in quotes it is text: KEY: "..." in a file, \'KEY="..."\' in a shell'
    return f"{path}: {message}" if path else message


def _unknown_key(location: Sequence[Any], model: type[BaseModel]) -> str:
    *path, key = map(str, location)
    message = unknown_name(
        "key", key, _known_keys(model, path), "".join(f"{part}." for part in path)
    )
    # A setting without its section, such as `mpp` for `tile: {mpp: 0.5}`.
    sections = [
        name for name in _known_keys(model, path) if key in _known_keys(model, [*path, name])
    ]
    if not sections:
        return message
    name = ".".join([*path, sections[0]])
    return f"{message}; {key} is a key of the section {name}: {sections[0]}: {{{key}: VALUE}}"


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
    path = Path(name) if name.endswith(YAML_ENDINGS) else config_path(f"{folder}/{name}.yaml")
    if not path.exists():
        if path == Path(name):
            raise ConfigError(f"{path}: no such file")
        known = {file.stem for file in named_files(folder)}
        raise ConfigError(unknown_name(kind, name, known))
    return path


def named_files(folder: str) -> list[Path]:
    """Yaml files of `configs/FOLDER`.

    A `configs/` of the user's own does not hide the files that came with this package.

    Args:
        folder: Folder below `configs/`.
    """
    folders = (Path("configs") / folder, SHIPPED / "configs" / folder)
    return [file for folder in folders for file in folder.glob("*.yaml")]
