"""The weights that ``init_from`` names, fitted to the model of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from pretrain.weights.families import refuse_other
from pretrain.weights.fit import Fit, fit
from pretrain.weights.found import SEGUE, Weights
from pretrain.weights.read import read_weights
from shards.errors import UserError

if TYPE_CHECKING:
    from pretrain.config import Config


@dataclass(frozen=True)
class Initial:
    """Imported ``weights`` and how they ``fit`` the model."""

    weights: Weights
    fit: Fit


def bring(config: Config, model: nn.Module, place: str) -> Initial:
    """The weights at ``place``, which is ``init_from``, fitted to a freshly initialised ``model``.

    UserError as `read_weights` and `fit`, and where ``init_level`` asks for more than there is.
    """
    try:
        weights = read_weights(place)
        refuse_other(weights, config.model.name, "model.name=")
    except UserError as error:
        raise UserError(f"init_from: {error}") from error
    _refuse_level(config.init_level, weights)
    fresh = {name: parameter.detach() for name, parameter in model.named_parameters()}
    components, growth = model.components(), model.growth()  # type: ignore[operator]
    rules = (config.allow, config.rename, config.seed)
    try:
        return Initial(weights, fit(weights.tensors, fresh, components, growth, *rules))
    except UserError as error:
        raise UserError(f"init_from: {weights.place}: {error}") from error


def _refuse_level(level: str, weights: Weights) -> None:
    if level == "all" and weights.kind != SEGUE:
        less = "weights" if weights.optimizer is None else "weights+optimizer"
        raise UserError(
            f"init_level=all: {weights.place} is of another program, whose data order nobody here "
            f"can go on with; write init_level={less}"
        )
    if level == "weights+optimizer" and weights.optimizer is None:
        raise UserError(
            f"init_level={level}: {weights.place} holds weights that this optimizer can take, but "
            "no state of it that can be taken over; write init_level=weights"
        )
