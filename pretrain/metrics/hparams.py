"""What of a run's settings is compared between runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretrain.config import Config

# A target is none: it may move, and TensorBoard keeps what it has read first.
SECTIONS = (
    "model",
    "batch",
    "optimizer",
    "schedule",
    "components",
    "deepspeed",
    "distill",
    "init_from",
    "precision",
    "seed",
    "data.curriculum",
    "data.min_seconds",
    "data.max_seconds",
)
METRICS = (
    "train/loss",
    "train/top3",
    "validation/loss",
    "validation/top3",
    "speed/tokens_per_second",
    "data/hours_seen",
)
"""Beside them the last value of these curves is shown."""

Value = str | float | bool


def hparams(config: Config, world_size: int) -> dict[str, Value]:
    """Settings by their keys, none that is left out, and how many processes train."""
    every = dict(_flat(config.model_dump(mode="json"), ""))
    chosen = {key: value for key, value in every.items() if _is_chosen(key)}
    return {**chosen, "processes": world_size}


def _is_chosen(key: str) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in SECTIONS)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Value]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, dict)) and value:
            yield prefix + key, str(value)
        elif isinstance(value, (str, int, float, bool)):
            yield prefix + key, value
