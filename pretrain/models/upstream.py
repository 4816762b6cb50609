"""What each family knows of the program that it comes from: its configs and the sizes they give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Translation:
    """``sections`` of a run's config; which of upstream's keys they came from (``taken``, each with
    ours), which upstream ignores itself, and which have no counterpart (``left``). ``title`` and
    ``notes`` are for the config's head."""

    title: str
    notes: str
    sections: dict[str, Any]
    taken: dict[str, str]
    ignored: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class Sizes:
    """Values of ``model``; nothing tells those that are ``assumed``."""

    model: dict[str, Any]
    assumed: tuple[str, ...] = ()


class Upstream(Protocol):
    """The module ``upstream`` of a family."""

    def sizes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Values of ``model`` that upstream's config gives; {} for a config that says nothing."""

    def sizes_of(self, shapes: Shapes) -> Sizes:
        """Values of ``model`` that the shapes of its weights give, under our names."""

    def translated(self, config: Mapping[str, Any], where: str) -> Translation:
        """Upstream's config as sections of a run's.

        UserError, which calls the config ``where``, for one that no run here could have.
        """


_MODULES = {
    "gpt_sovits_s1": "pretrain.models.gpt_sovits_s1.upstream",
    "seed_vc": "pretrain.models.seed_vc.upstream",
}


def upstream_of(family: str) -> Upstream | None:
    """Of a family by its name; None for a user's own."""
    module = _MODULES.get(family)
    return cast("Upstream", import_module(module)) if module else None


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested sections, each under its keys joined by dots."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def put(sections: dict[str, Any], key: str, value: Any) -> None:
    """Set ``section.key``, sections being made as needed."""
    *above, last = key.split(".")
    for name in above:
        sections = sections.setdefault(name, {})
    sections[last] = value
