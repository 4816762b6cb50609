"""One rank of the engine's checks; run through accelerate launch: STAGE PRECISION OFFLOAD."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from typing import cast

import torch
from memory_check import check_tensors_take_what_was_estimated
from torch import Tensor, nn

from pretrain.engine import Engine, Look, join
from pretrain.groups import OptimizerConfig, parameter_groups
from pretrain.processes import end_process
from pretrain.zero import DeepSpeedConfig, settle

MICRO_BATCHES, RATE = 4, 1e-2
States = dict[tuple[str, int], dict[str, Tensor]]


class Net(nn.Module):
    """Matrices that decay, vectors that do not, and odd sizes that cut badly."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(7, 13), nn.LayerNorm(13), nn.Linear(13, 5)

    def forward(self, x: Tensor, _guide: None) -> dict[str, Tensor]:
        return {"loss": self.b(self.norm(self.a(x))).float().pow(2).sum()}


def inputs(number: int, micro: int) -> Tensor:
    return torch.randn(4, 7, generator=torch.Generator().manual_seed(100 * number + micro))


def step(
    engine: Engine,
    number: int,
    scale: float = 1.0,
    micro_batches: int = MICRO_BATCHES,
    look: Look | None = None,
) -> tuple[float, bool]:
    """One optimizer step on inputs that depend on (step, micro-batch) alone."""
    processes, total = engine.processes, torch.zeros(())
    mine = range(processes.rank, micro_batches, processes.world_size)
    for micro in mine:
        x = inputs(number, micro).to(next(engine.module.parameters()).dtype)
        loss = engine.forward(x)["loss"]  # type: ignore[arg-type]
        engine.backward(loss, scale / (4 * micro_batches), last=micro == mine[-1])
        total = total + loss.detach()
    moved = engine.step(RATE, look)
    return processes.sum([], [total])[0], moved


def snapshot(engine: Engine) -> States:
    return {
        (f.name, f.start): {key: state.clone() for key, state in f.states.items()}
        for f in engine.owned()
    }


def check_fragments_cover_every_number_once(engine: Engine) -> None:
    pieces: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for share in engine.processes.gather([(f.name, f.start, f.size) for f in engine.owned()]):
        for name, start, size in share:
            pieces[name].append((start, size))
    for name, shape in engine.shapes.items():
        position = 0
        for start, size in sorted(pieces[name]):
            assert start == position, (name, pieces[name])
            position += size
        assert position == torch.Size(shape).numel(), (name, pieces[name])


def check_masters_are_the_initial_weights(engine: Engine, initial: dict[str, Tensor]) -> None:
    for fragment in engine.owned():
        whole = initial[fragment.name].flatten()[fragment.start :][: fragment.size]
        torch.testing.assert_close(fragment.states["master"], whole, rtol=1e-2, atol=1e-2)


def check_a_gradient_that_is_not_finite_moves_nothing(engine: Engine) -> None:
    before = snapshot(engine)
    _, moved = step(engine, 50, scale=float("nan") if engine.processes.rank == 0 else 1.0)
    assert moved == (engine.stage == 0)  # without ZeRO the host does not know yet
    for place, states in snapshot(engine).items():
        for key, values in states.items():
            assert torch.equal(values, before[place][key]), (place, key)


def check_restored_fragments_give_the_same_steps_again(engine: Engine) -> None:
    saved, updates = snapshot(engine), engine.updates
    assert all(states["exp_avg_sq"].sum() > 0 for states in saved.values())
    first = [step(engine, number) for number in range(3, 6)]
    for fragment in engine.held():
        for key, values in fragment.states.items():
            values.copy_(saved[fragment.name, fragment.start][key])
    engine.restored(updates)
    assert [step(engine, number) for number in range(3, 6)] == first


def main() -> None:
    asked = DeepSpeedConfig.model_validate({"stage": int(sys.argv[1]), "offload": sys.argv[3]})
    precision = cast("str", sys.argv[2])
    processes = join("cpu")
    torch.manual_seed(0)
    net = Net()
    initial = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = OptimizerConfig(lr=1e-2, weight_decay=0.1)
    engine = Engine(
        net,
        parameter_groups([(name, p.ndim) for name, p in net.named_parameters()], optimizer),
        processes,
        optimizer=optimizer,
        zero=settle(asked, os.environ),
        precision=precision,  # type: ignore[arg-type]
        accumulation=MICRO_BATCHES // processes.world_size,
    )
    assert not engine.deepspeed.tput_timer.config.enabled  # it waits for the device
    check_fragments_cover_every_number_once(engine)
    check_masters_are_the_initial_weights(engine, initial)
    losses = [step(engine, number)[0] for number in range(3)]
    check_a_gradient_that_is_not_finite_moves_nothing(engine)
    assert engine.updates == 3
    check_restored_fragments_give_the_same_steps_again(engine)
    engine.release()
    del engine
    zero = settle(asked, os.environ)
    check_tensors_take_what_was_estimated(processes, zero, precision)  # type: ignore[arg-type]
    if processes.rank == 0:
        print("losses", *losses)
    end_process(0)


if __name__ == "__main__":
    main()
