"""How a model's parameters may grow beyond those of weights that it is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """What a model family says of its parameters.

    ``blocks``: what comes before the number of a block in its parameters' names, such as
    ``h.layers.``. ``block_outputs``: patterns of the names within a block whose values, when they
    are zero, leave nothing of what the block adds. ``last_row_last``: parameters whose last row
    means something of its own (end of sequence) and stays the last. ``packed``: patterns of
    parameters that hold several matrices, one on another, which cannot be made larger at the end.
    """

    blocks: tuple[str, ...] = ()
    block_outputs: tuple[str, ...] = ()
    last_row_last: tuple[str, ...] = ()
    packed: tuple[str, ...] = ()
