"""Weights against a model of given sizes, without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Self, cast

import torch
from omegaconf import OmegaConf
from pydantic import Field
from torch import nn

from pretrain.models import FAMILIES, family_named, with_family
from pretrain.models.protocol import Family
from pretrain.models.upstream import Sizes, upstream_of
from pretrain.weights import safetensors_write
from pretrain.weights.families import family_of, refuse_absent, refuse_other
from pretrain.weights.fit import Fit, compare, fit
from pretrain.weights.found import SEGUE, Weights
from pretrain.weights.rules import AllowConfig
from pretrain.weights.upstream_configs import read_config
from shards import settings
from shards.errors import UserError
from shards.section import ChoiceError, Section


class ImportConfig(Section):
    """The sections of a run's config that say what weights become."""

    model: Family
    allow: AllowConfig = AllowConfig()
    rename: dict[str, str] = Field(default={}, description="regular expression: replacement")
    seed: int = Field(default=0, ge=0)

    @classmethod
    def kind_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """With the sizes of the model family that ``values`` name."""
        return with_family(cls, values)


def import_config(
    weights: Weights, to: str, file: Path | None, overrides: Sequence[str]
) -> ImportConfig:
    """Sizes as the weights' own config or their shapes have them, then as ``file`` says, then the
    overrides.

    ``file`` is a run's config, of which the rules are taken too, or upstream's. UserError for
    weights and configs of models that are not there, or not the one that ``to`` names.
    """
    _refuse_unknown(to)
    refuse_other(weights, to, "--to ")
    told = _sections(file, to) if file is not None else {}
    model = {"model": sizes_told(weights, to).model}
    named = OmegaConf.merge(model, told, {"model": {"name": to}})
    return settings.parsed(ImportConfig, named, str(file or weights.place), overrides)


def sizes_told(weights: Weights, family: str) -> Sizes:
    """All that a run of ours says of its model, or what upstream's config or the shapes do."""
    model = weights.config.get("model")
    if isinstance(model, Mapping) and model.get("name") == family:
        return Sizes(dict(model))
    upstream = upstream_of(family)
    if upstream is None:
        return Sizes({})
    found = upstream.sizes(weights.config)
    return Sizes(found) if found else upstream.sizes_of(weights.shapes())


def assumed(
    weights: Weights,
    model: Family,
    overrides: Sequence[str] = (),
    source: str = "so upstream's presets have it",
) -> str:
    """What of a model of these weights neither they nor the overrides told, and who did; "" if all
    was told.
    """
    given = {override.partition("=")[0].removeprefix("model.") for override in overrides}
    keys = [key for key in sizes_told(weights, model.name).assumed if key not in given]
    told = ", ".join(f"model.{key}={attrgetter(key)(model)}" for key in keys)
    return told and f"{weights.place} does not tell {told}: {source}"


def _refuse_unknown(family: str) -> None:
    try:
        family_named(family)
    except ChoiceError as error:
        raise UserError(f"--to: {error}") from error


def _sections(file: Path, to: str) -> dict[str, Any]:
    kind, values = read_config(file)
    refuse_absent(kind, str(file))
    if kind == SEGUE:
        return {key: values[key] for key in ImportConfig.model_fields if key in values}
    upstream = upstream_of(to)
    if kind != to or upstream is None:
        raise UserError(f"--config: {file} is of {kind} and not {to}; write --to {kind}")
    return {"model": upstream.sizes(values)}


def compared(weights: Weights, config: ImportConfig) -> Fit:
    """The weights against a freshly initialised model; UserError for rules that match nothing."""
    torch.manual_seed(config.seed)
    model: Any = config.model.build()
    fresh = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return compare(
        weights.tensors,
        fresh,
        model.components(),
        model.growth(),
        config.allow,
        config.rename,
        config.seed,
    )


def recorded_model(weights: Weights) -> Family:
    """The model of the weights, as they say or show themselves; UserError where they do not."""
    refuse_absent(weights.kind, weights.place)
    family = family_of(weights)
    if family is None:
        raise UserError(
            f"{weights.place} does not say which model it is of; write it anew with segue import "
            f"FILE OUT.safetensors --to {' or '.join(FAMILIES)}"
        )
    return import_config(weights, family, None, []).model


def filled(family: Family, weights: Weights) -> nn.Module:
    """A model with these weights; UserError as `fit`."""
    model: Any = family.build()
    fresh = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    components, growth = model.components(), model.growth()
    fitted = fit(weights.tensors, fresh, components, growth, AllowConfig(), {}, 0)
    model.load_state_dict(fitted.tensors)
    return cast("nn.Module", model)


def write(fitted: Fit, config: ImportConfig, out: Path) -> None:
    """Write the model's weights, float32, with its sizes, as one safetensors file."""
    told = {"model": config.model.model_dump(mode="json")}
    safetensors_write.export(Weights(SEGUE, str(out), fitted.tensors, told), out, "fp32")
