"""The names of tensors, without what a wrapper or a program put before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor

_T = TypeVar("_T")
WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""
HOLDERS = (*WRAPPERS, "model.")
"""And what a Lightning module, or any module that holds the model, does."""


def unwrapped(named: Mapping[str, _T], prefixes: tuple[str, ...]) -> dict[str, _T]:
    """The same under shorter names: a prefix that all have is taken off, time and again."""
    plain = dict(named)
    while prefix := next(
        (p for p in prefixes if plain and all(n.startswith(p) for n in plain)), ""
    ):
        plain = {name.removeprefix(prefix): value for name, value in plain.items()}
    return plain


def is_state(found: Any) -> bool:
    """Whether it is a state dict: names and tensors, nothing else."""
    return (
        isinstance(found, Mapping)
        and bool(found)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    )


def joined(found: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, their names joined by dots."""
    if not isinstance(found, Mapping):
        yield prefix.removesuffix("."), found
        return
    for name, value in found.items():
        yield from joined(value, f"{prefix}{name}.")
