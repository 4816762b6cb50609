"""How large gradients, weights and their last updates are, by component.

All are sums of squares over this rank's fragments, 0-dim float64: over all ranks they add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pretrain.checkpoint.manifest import MASTER, MOMENTS
from pretrain.fragment import Fragment
from pretrain.groups import Group, OptimizerConfig

GRADIENT = "gradient"
TOGETHER = 1 << 22
"""Numbers that are looked at together: so little memory it takes."""
ComponentOf = Callable[[str], str]


def gradient_squares(fragments: Iterable[Fragment], component_of: ComponentOf) -> dict[str, Tensor]:
    """Of the gradients that ``fragments`` show."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    for one in fragments:
        found[component_of(one.name)].append(one.states[GRADIENT])
    return {component: _squares(tensors) for component, tensors in found.items()}


def update_squares(
    fragments: Iterable[Fragment],
    component_of: ComponentOf,
    groups: Sequence[Group],
    rate: float,
    optimizer: OptimizerConfig,
    updates: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Of AdamW's last update, the ``updates``-th at learning rate ``rate``, and of the weights
    before it.

    With moments m and v, the rate r of a group and its decay w, weights p become
    p' = (1 - r w) p - a, a = r m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + eps), so that
    p - p' = (a + r w p') / (1 - r w): told from what there is after it, without a copy from before.
    """
    settings = {name: group for group in groups for name in group.parameters}
    parts: dict[str, list[Fragment]] = defaultdict(list)
    for one in fragments:
        parts[component_of(one.name)].append(one)
    found = {}
    for component, mine in parts.items():
        pairs = [
            _of_batch(batch, settings, rate, optimizer, max(1, updates)) for batch in _batches(mine)
        ]
        first, second = zip(*pairs, strict=True)
        found[component] = torch.stack(first).sum(), torch.stack(second).sum()
    return found


def _of_batch(
    batch: Sequence[Fragment],
    settings: Mapping[str, Group],
    rate: float,
    optimizer: OptimizerConfig,
    updates: int,
) -> tuple[Tensor, Tensor]:
    first, second = (1 - beta**updates for beta in optimizer.betas)
    masters, means, squares = ([one.states[key] for one in batch] for key in (MASTER, *MOMENTS))
    rates = [rate * settings[one.name].lr_scale for one in batch]
    decays = [r * settings[one.name].weight_decay for r, one in zip(rates, batch, strict=True)]
    scales = torch._foreach_div(squares, second)
    torch._foreach_sqrt_(scales)
    torch._foreach_add_(scales, optimizer.eps)
    steps = torch._foreach_div(means, scales)
    torch._foreach_mul_(
        steps, [r / first / (1 - decay) for r, decay in zip(rates, decays, strict=True)]
    )
    torch._foreach_add_(steps, torch._foreach_mul(masters, [d / (1 - d) for d in decays]))
    return _squares(steps), _squares(torch._foreach_add(masters, steps))


def _batches(fragments: Iterable[Fragment]) -> Iterator[list[Fragment]]:
    """All of ``fragments``, in pieces of at most `TOGETHER` numbers."""
    batch: list[Fragment] = []
    room = TOGETHER
    for one in fragments:
        for first in range(0, one.size, TOGETHER):
            size = min(TOGETHER, one.size - first)
            if size > room:
                yield batch
                batch, room = [], TOGETHER
            states = {key: state.narrow(0, first, size) for key, state in one.states.items()}
            batch.append(Fragment(one.name, one.start + first, states))
            room -= size
    if batch:
        yield batch


def _squares(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.stack(list(torch._foreach_norm(tensors))).double().square().sum()
