"""Parameters that do not train: their modules, and the float32 weights that are saved of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from pretrain.checkpoint.manifest import MASTER
from pretrain.fragment import Fragment, share
from pretrain.groups import Group


def is_frozen(part: nn.Module) -> bool:
    """Whether it has parameters and none of them trains."""
    parameters = list(part.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def freeze_others(
    model: nn.Module, groups: Sequence[Group], rank: int, world_size: int
) -> Iterator[tuple[str, tuple[int, Tensor]]]:
    """Freeze what no group trains; this rank's share of each such weight, as (start, float32)."""
    trained = {name for group in groups for name in group.parameters}
    for name, parameter in model.named_parameters():
        if name not in trained:
            parameter.requires_grad_(False)
            whole = Fragment(name, 0, {MASTER: parameter.detach().float().view(-1)})
            own = share(whole, rank, world_size)
            yield name, (own.start, own.states[MASTER].clone())
