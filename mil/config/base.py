"""What all sections of the configuration share: the base model, the check, and where files are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mil.errors import ConfigError, unknown_name

# Names become folder names: letters, digits, dots, dashes and underscores, never a
# path.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME)]
CAME_WITH = Path(__file__).resolve().parents[2]  # where this package came from, with its `configs/`


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], raw: Any, where: str) -> Model:
    """Check a mapping read from a file; name every fault at once, each with its dotted path.

    Raises:
        ConfigError: one line with all faults.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(_fault(fault, model) for fault in error.errors())
        raise ConfigError(f"{where}: {faults}") from None


def _fault(fault: Any, model: type[BaseModel]) -> str:
    if fault["type"] == "extra_forbidden":
        return unknown_name(
            "key", ".".join(map(str, fault["loc"])), _keys(model, fault["loc"][:-1])
        )
    # pydantic puts the kind of value in a path where several are allowed:
    # literal['auto','none'], list[int]
    path = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))
    message = fault["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
    if not (
        fault["type"] == "missing" or (fault["type"] == "value_error" and not path)
    ):  # there the whole stands
        message += f", not {fault['input']!r}"
    return f"{path}: {message}" if path else message


def _keys(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The keys that exist where a wrong one stands; none where that is inside a mapping."""
    for part in path:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Raises:
        ConfigError: it is missing or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def config_path(relative: str) -> Path:
    """Where a file of `configs/` is: under the working directory, else where this package came from."""
    here = Path("configs") / relative
    return here if here.exists() else CAME_WITH / here


def named_file(folder: str, name: str, what: str) -> Path:
    """A yaml of `configs/FOLDER`, given its name or its path.

    Raises:
        ConfigError: there is none; of a name, those that exist are listed.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else config_path(f"{folder}/{name}.yaml")
    if not path.exists():
        if path == Path(name):
            raise ConfigError(f"{path}: no such file")
        places = (
            Path(),
            CAME_WITH,
        )  # a folder here does not hide the files that came with this package
        known = {
            file.stem for place in places for file in (place / "configs" / folder).glob("*.yaml")
        }
        raise ConfigError(unknown_name(what, name, known))
    return path
