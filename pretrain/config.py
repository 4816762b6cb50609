"""A run's configuration: YAML and key=value overrides, validated with every wrong key named."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails
from yaml import YAMLError

from pretrain.groups import OptimizerConfig
from pretrain.models import ModelConfig
from pretrain.schedule import ScheduleConfig
from pretrain.zero import DeepSpeedConfig, Precision
from shards.dataset import DataConfig
from shards.errors import UserError
from shards.plan import BatchConfig
from shards.section import Section


class RunConfig(Section):
    """``run``: where a run keeps everything it writes, ``dir/name``."""

    name: str = Field(pattern=r"^[\w][\w.-]*$", description="one run, one name")
    dir: Path = Path("runs")

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.dir / self.name


class TrainConfig(Section):
    """``train``: absolute targets and how often to save."""

    steps: int | None = Field(default=None, ge=1, description="stop after this optimizer step")
    epochs: float | None = Field(default=None, gt=0, description="stop after this many epochs")
    save_every: int = Field(default=1000, ge=1, description="optimizer steps between checkpoints")
    keep_last: int = Field(default=2, ge=2, description="checkpoints kept")
    log_every: int = Field(default=10, ge=1, description="steps between lines on the terminal")
    max_skips: int = Field(
        default=5, ge=1, description="stop after so many non-finite steps in a row"
    )

    def target(self, steps_per_epoch: int) -> int:
        """The step to stop after: the nearer of ``steps`` and ``epochs``."""
        limits = [self.steps] if self.steps else []
        if self.epochs:
            limits.append(max(1, round(self.epochs * steps_per_epoch)))
        if not limits:
            raise UserError("train.steps and train.epochs are both missing; set one of them")
        return min(limits)


class Config(Section):
    """Everything a run is made of."""

    run: RunConfig
    data: DataConfig
    batch: BatchConfig
    train: TrainConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    precision: Precision = "bf16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = Field(default=0, ge=0)


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read ``path``, apply ``key.sub=value`` overrides, resolve interpolation, validate.

    UserError names the file (or the command line), the key and the nearest valid name.
    """
    for override in overrides:
        if "=" not in override.lstrip("="):
            raise UserError(f"command line: {override!r} is not an override; write key.sub=value")
    try:
        file = OmegaConf.load(path)
        if not OmegaConf.is_dict(file):
            raise UserError(f"{path}: it is a list; write sections such as run: and data:")
        typed = _typed(overrides)
        both = OmegaConf.merge(file, typed)
        merged = OmegaConf.to_container(both, resolve=True, throw_on_missing=True)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or 'cannot be read'}; name a YAML file"
        ) from error
    except MissingMandatoryValue as error:
        raise UserError(_missing(path, str(error.full_key))) from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise UserError(f"{path}: {_one_line(error)}; mend the YAML there") from error
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise UserError(_explain(_first(error), path, overrides)) from error


def _typed(overrides: Sequence[str]) -> DictConfig:
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise UserError(
            f"command line: {' '.join(overrides)}: {_one_line(error)}; write key.sub=value"
        ) from error


def write_resolved(config: Config, path: Path) -> None:
    """Write the whole config, defaults included, as YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json"))))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _first(error: ValidationError) -> ErrorDetails:
    # A misspelt key is often also a missing one: the spelling is what to mend.
    return min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")


def _missing(path: Path, key: str) -> str:
    return f"{path}: {key} is missing; set it there or add {key}=VALUE"


def _explain(error: ErrorDetails, path: Path, overrides: Sequence[str]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    said = any(override.startswith((f"{key}=", f"{key}.")) for override in overrides)
    where = "command line" if said else str(path)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key {key}; {_nearest(error['loc'])}"
    if error["type"] == "missing":
        return _missing(path, key)
    if error["type"] == "string_pattern_mismatch":
        return f"{where}: {key}={error['input']!r}: use letters, digits, '.', '_' and '-' only"
    if error["type"] in {"model_type", "model_attributes_type"}:
        return f"{where}: {key}={error['input']!r}: it is a section; write {key}.NAME=value"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {key}={error['input']!r}: {message[0].lower()}{message[1:]}"


def _nearest(location: tuple[int | str, ...]) -> str:
    section, known = "", _keys(Config, location[:-1])
    if len(location) > 1:
        section = ".".join(map(str, location[:-1])) + "."
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {section}{close[0]}?"
    everywhere = _all_keys(Config)
    close = [key for key in everywhere if key.rsplit(".", 1)[-1] == location[-1]]
    if close:
        return f"did you mean {close[0]}?"
    return f"valid here: {', '.join(section + key for key in known)}"


def _keys(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _all_keys(field.annotation, f"{prefix}{name}.")
    return keys
