"""Reading YAML and key=value overrides into validated sections, with every wrong key named."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml import ScalarEvent, YAMLError, emit, parse

from shards.errors import UserError
from shards.section import ChoiceError, Section

_Model = TypeVar("_Model", bound=BaseModel)
_NOT_TEXT = {"", "~", "null", "Null", "NULL", "<<"}
"""Plain scalars that stay YAML's null and its merge where all others are taken as text."""


def load(model: type[_Model], path: Path, overrides: Sequence[str] = ()) -> _Model:
    """Read ``path``, apply ``key.sub=value`` overrides, resolve interpolation, validate.

    A model that ignores unknown keys sees its own sections only. UserError names the file (or the
    command line), the key and the nearest valid name.
    """
    return parsed(model, _read(path, OmegaConf.load), str(path), overrides)


def load_as_written(model: type[_Model], path: Path) -> _Model:
    """As `load`, but only ``model`` makes numbers and booleans of what is written.

    To YAML 1.1 an unquoted 24:00:00 is 86400, 0700 is 448, 1.10 is 1.1 and off is false.
    """
    return parsed(model, _read(path, _as_written), str(path))


def _read(path: Path, yaml_of: Callable[[Path], Any]) -> DictConfig:
    try:
        file = yaml_of(path)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or 'cannot be read'}; name a YAML file"
        ) from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise UserError(f"{path}: {_one_line(error)}; mend the YAML there") from error
    if not isinstance(file, DictConfig):
        raise UserError(f"{path}: it is a list; write sections such as run: and data:")
    return file


def _as_written(path: Path) -> Any:
    with path.open(encoding="utf-8") as file:
        events = list(parse(file))
    for event in events:
        if isinstance(event, ScalarEvent) and event.implicit[0] and event.value not in _NOT_TEXT:
            event.implicit, event.style = (False, True), '"'
    return OmegaConf.load(StringIO(emit(events)))


def parsed(model: type[_Model], values: Any, where: str, overrides: Sequence[str] = ()) -> _Model:
    """As `load`, of ``values`` that are there already; ``where`` is what messages call them."""
    for override in overrides:
        if "=" not in override.lstrip("="):
            raise UserError(f"command line: {override!r} is not an override; write key.sub=value")
    try:
        merged = _resolved(OmegaConf.merge(values, _typed(overrides)), model)
    except MissingMandatoryValue as error:
        raise UserError(_missing(where, str(error.full_key))) from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise UserError(f"{where}: {_one_line(error)}; mend the YAML there") from error
    try:
        model = model.kind_for(merged) if issubclass(model, Section) else model
        return model.model_validate(merged)
    except ChoiceError as error:
        raise UserError(f"{_place(error.key, where, overrides)}: {error}") from error
    except ValidationError as error:
        raise UserError(_explain(model, _first(error), where, overrides)) from error


def write_resolved(config: BaseModel, path: Path) -> None:
    """Write the whole config, defaults included, as YAML that `load` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json")))
    path.write_text(text, encoding="utf-8")


def _resolved(both: Any, model: type[BaseModel]) -> dict[str, Any]:
    ignoring = model.model_config.get("extra") == "ignore"
    sections = [key for key in both if not ignoring or key in model.model_fields]
    return {
        key: OmegaConf.to_container(both[key], resolve=True, throw_on_missing=True)
        if OmegaConf.is_config(both._get_node(key))
        else both[key]
        for key in sections
    }


def _typed(overrides: Sequence[str]) -> DictConfig:
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise UserError(
            f"command line: {' '.join(overrides)}: {_one_line(error)}; write key.sub=value"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _first(error: ValidationError) -> ErrorDetails:
    # A misspelt key is often also a missing one: the spelling is what to mend.
    return min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")


def _missing(where: str, key: str) -> str:
    return f"{where}: {key} is missing; set it there or add {key}=VALUE"


def _explain(
    model: type[BaseModel], error: ErrorDetails, file: str, overrides: Sequence[str]
) -> str:
    key = ".".join(str(part) for part in error["loc"])
    where = _place(key, file, overrides)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key {key}; {_nearest(model, error['loc'])}"
    if error["type"] == "missing":
        return _missing(file, key)
    if error["type"] == "string_pattern_mismatch":
        return f"{where}: {key}={error['input']!r}: use letters, digits, '.', '_' and '-' only"
    if error["type"] in {"model_type", "model_attributes_type"}:
        return f"{where}: {key}={error['input']!r}: it is a section; write {key}.NAME=value"
    message = error["msg"].removeprefix("Value error, ")
    value = "" if isinstance(error["input"], dict) else f"={error['input']!r}"
    return f"{where}: {key}{value}: {message[0].lower()}{message[1:]}"


def _place(key: str, file: str, overrides: Sequence[str]) -> str:
    """Where a key was given: on the command line, or in the file."""
    plain = [override.replace("[", ".").replace("]", "") for override in overrides]
    said = any(override.startswith((f"{key}=", f"{key}.")) for override in plain)
    return "command line" if said else file


def _nearest(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    section, known = "", _keys(model, location[:-1])
    if len(location) > 1:
        section = ".".join(map(str, location[:-1])) + "."
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {section}{close[0]}?"
    everywhere = list(_all_keys(model))
    close = [key for key in everywhere if key.rsplit(".", 1)[-1] == location[-1]]
    if close:
        return f"did you mean {close[0]}?"
    return f"valid here: {', '.join(section + key for key in known)}"


def _keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    is_named = False
    for part in location:
        if isinstance(part, int) or is_named:  # an item of a list or a dict of sections
            is_named = False
            continue
        annotation = model.model_fields[part].annotation
        inner = _section(annotation)
        if inner is None:
            return []
        model, is_named = inner, get_origin(annotation) is dict
    return list(model.model_fields)


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = _section(field.annotation)
        if inner is not None:
            one = ".NAME" if get_origin(field.annotation) is dict else ""
            yield from _all_keys(inner, f"{prefix}{name}{one}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, be it alone, optional, or in a list or dict."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
