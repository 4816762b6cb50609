"""A checkpoint's weights compared with another's."""

from __future__ import annotations

from collections.abc import Iterator

from pretrain.checkpoint.manifest import Manifest
from pretrain.checkpoint.restore import whole
from pretrain.checkpoint.store import Store


def differences(
    one: tuple[Store, str, Manifest], other: tuple[Store, str, Manifest]
) -> Iterator[tuple[str, float, float]]:
    """(parameter, norm in ``one``, norm of the change to ``other``), for those in both."""
    shapes = one[2].state.shapes
    for of, shape in other[2].state.shapes.items():
        if shapes.get(of) == shape:
            before, after = whole(*one, of), whole(*other, of)
            yield of, float(before.norm()), float((after - before).norm())
