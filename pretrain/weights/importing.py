"""Weights against a model of given sizes, without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from omegaconf import OmegaConf
from pydantic import Field
from torch import nn

from pretrain.models import DEFAULT, with_family
from pretrain.models.gpt_sovits_s1.upstream import sizes
from pretrain.models.protocol import Family
from pretrain.weights import safetensors_write
from pretrain.weights.families import refuse_absent
from pretrain.weights.fit import Fit, compare, fit
from pretrain.weights.found import SEGUE, Weights
from pretrain.weights.rules import AllowConfig
from pretrain.weights.upstream_configs import read_config
from shards import settings
from shards.section import Section


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
    """Sizes as the weights' own config has them, then as ``file`` says, then the overrides.

    ``file`` is a run's config, of which the rules are taken too, or upstream's. UserError for
    weights and configs of models that are not there.
    """
    refuse_absent(weights.kind, weights.place)
    told = _sections(file) if file is not None else {}
    named = OmegaConf.merge({"model": _model_of(weights)}, told, {"model": {"name": to}})
    return settings.parsed(ImportConfig, named, str(file or weights.place), overrides)


def _model_of(weights: Weights) -> dict[str, Any]:
    """All that a run of ours says of its model, or the sizes that upstream's config has."""
    model = weights.config.get("model")
    ours = isinstance(model, Mapping) and "name" in model
    return dict(model) if ours and isinstance(model, Mapping) else sizes(weights.config)


def _sections(file: Path) -> dict[str, Any]:
    kind, values = read_config(file)
    refuse_absent(kind, str(file))
    if kind != SEGUE:
        return {"model": sizes(values)}
    return {key: values[key] for key in ImportConfig.model_fields if key in values}


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
    """The model of the weights, as they say themselves; UserError where they do not."""
    model = _model_of(weights)
    return import_config(weights, str(model.get("name", DEFAULT)), None, []).model


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
