"""One rank of the checks of freezing and thawing; run through accelerate launch: FOLDER.

In every ZeRO stage a part is frozen until a step, another for good; the run goes over the boundary
in one process, and again from checkpoints before, at and after it.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import engine_process
import torch
from torch import Tensor, nn

from pretrain.checkpoint.keep import CheckpointConfig
from pretrain.checkpoint.manifest import EMA, MASTER, MOMENTS, State
from pretrain.checkpoint.restore import Resume, restore
from pretrain.checkpoint.saver import Saver
from pretrain.checkpoint.store import LocalStore, read_manifest
from pretrain.components import ComponentConfig, Training, training
from pretrain.engine import Engine, join
from pretrain.fragment import Fragment
from pretrain.groups import OptimizerConfig
from pretrain.handover import hand_over
from pretrain.models.outline import outline_of
from pretrain.norms import gradient_squares, update_squares
from pretrain.processes import Processes, end_process
from pretrain.zero import DeepSpeedConfig, Precision

BOUNDARY, END = 3, 6
SAVED = (2, BOUNDARY, 4)
OPTIMIZER = OptimizerConfig(lr=1e-2, weight_decay=0.1, ema_decay=0.9)
Whole = dict[tuple[str, str], Tensor]


class Scale(nn.Module):
    """A weight and the running mean that it scales by, as a normalisation keeps it."""

    mean: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.detach().float().mean(0), 0.5)
        return (x - self.mean.to(x.dtype)) * self.weight


class Net(nn.Module):
    """A part that is frozen for a time, one for good with dropout and statistics, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Linear(7, 13), nn.Dropout(0.2))
        self.never = nn.Sequential(Scale(13), nn.Linear(13, 11), nn.Dropout(0.5))
        self.norm, self.head = nn.LayerNorm(11), nn.Linear(11, 5)

    def forward(self, x: Tensor, _guide: None) -> dict[str, Tensor]:
        return {"loss": self.head(self.norm(self.never(self.early(x)))).float().pow(2).sum()}


@dataclass(frozen=True)
class Setting:
    """How engines are built."""

    stage: int
    precision: Precision
    processes: Processes
    offload: str = "none"

    @property
    def name(self) -> str:
        return f"stage{self.stage}-{self.precision}-{self.offload}"

    def engine(self, step: int, seed: int = 0) -> Engine:
        net = fresh(seed)
        return Engine(
            net,
            plan(net).groups(step),
            self.processes,
            optimizer=OPTIMIZER,
            zero=DeepSpeedConfig.model_validate({"stage": self.stage, "offload": self.offload}),
            precision=self.precision,
            accumulation=engine_process.MICRO_BATCHES // self.processes.world_size,
        )


def fresh(seed: int) -> Net:
    torch.manual_seed(seed)
    return Net()


def plan(net: nn.Module) -> Training:
    components = {
        "early": {"freeze": {"until_step": BOUNDARY}, "lr_scale": 0.5},
        "never": {"freeze": True},
        "head.weight": {"layer_decay": 1, "lr_scale": 0.1, "weight_decay": 0},
    }
    parts = {name: (f"{name}.",) for name in ("early", "never", "norm", "head")}
    checked = {key: ComponentConfig.model_validate(value) for key, value in components.items()}
    return training(outline_of(net, parts), checked, OPTIMIZER, int)


GROUPS_AFTER = plan(Net()).groups(BOUNDARY)


def step(engine: Engine, number: int) -> float:
    torch.manual_seed(number)
    loss, moved = engine_process.step(engine, number)
    assert moved
    return loss


def whole_states(engine: Engine) -> Whole:
    """All states of all parameters, put together from all ranks."""
    found: Whole = {}
    share = [
        (one.name, one.start, {key: state.cpu().clone() for key, state in one.states.items()})
        for one in engine.owned()
    ]
    for name, start, states in (piece for one in engine.processes.gather(share) for piece in one):
        for key, state in states.items():
            size = torch.Size(engine.shapes[name]).numel()
            found.setdefault((name, key), torch.full((size,), torch.nan))[
                start : start + len(state)
            ] = state
    return found


def in_use(engine: Engine) -> dict[str, Tensor]:
    """What this rank computes with, of the parts that never train."""
    never = [one for one in engine.held() if one.name.startswith("never.")]
    return {f"{one.name}/{n}": one.states[MASTER].clone() for n, one in enumerate(never)}


def check_same(found: Whole, wanted: Whole) -> None:
    for place, values in wanted.items():
        assert torch.equal(found[place], values), place


def of_parts(states: Whole, *parts: str) -> Whole:
    return {place: values for place, values in states.items() if place[0].startswith(parts)}


def check_modes(engine: Engine, still: set[str]) -> None:
    """Only wholly frozen parts are in eval mode, whatever was switched in between."""
    engine.eval_mode()
    assert not any(part.training for part in engine.module.modules())
    engine.train_mode()
    for name, part in engine.module.named_modules():
        assert part.training != (name.split(".")[0] in still), name


def check_memory(engine: Engine) -> int:
    """No rank keeps moments of what is frozen; the numbers of all ranks, with ZeRO's padding."""
    trained = {name for group in engine.groups for name in group.parameters}
    numbers = sum(torch.Size(engine.shapes[name]).numel() for name in trained)
    per_number = 4 * (2 + len(MOMENTS))  # master and average, moments
    replicas = engine.processes.world_size if engine.stage == 0 else 1
    held = sum(engine.processes.gather(engine.state_bytes))
    padded = 64 * len(engine.groups) if engine.stage else 0
    if engine.stage == 3:  # a parameter is cut evenly over the ranks
        padded = len(trained) * engine.processes.world_size
    assert numbers * replicas <= held / per_number <= numbers * replicas + padded, (
        held / per_number,
        numbers,
    )
    return held


def over_the_boundary(setting: Setting, store: LocalStore) -> dict[int, float]:
    """The losses of an uninterrupted run, with every check that is possible in it."""
    engine = setting.engine(0)
    initial, used = whole_states(engine), in_use(engine)
    check_modes(engine, {"early", "never"})
    before_bytes = check_memory(engine)
    kept = CheckpointConfig(keep_last=len(SAVED))
    saver = Saver(store, setting.processes, kept, list(engine.owned()), lambda _: None)
    losses = {}
    for number in range(END):
        if number == BOUNDARY:
            before = cross(engine, saver)
            check_handed_over(engine, before, initial)
            assert check_memory(engine) > before_bytes
        losses[number] = step(engine, number)
        if number in (BOUNDARY - 1, BOUNDARY):
            check_averages_are_used_and_put_back(engine, setting)
        if number + 1 in SAVED:
            save(saver, engine, number + 1)
    saver.finish()
    check_same(whole_states(engine), of_parts(initial, "never."))
    for name, values in in_use(engine).items():
        assert torch.equal(values, used[name]), name
    assert not dict(engine.module.named_buffers())["never.0.mean"].any()
    moved = of_parts(whole_states(engine), "early.")
    assert not torch.equal(moved["early.0.weight", MASTER], initial["early.0.weight", MASTER])
    engine.eval_mode()  # without dropout
    check_what_is_shown_of_an_update(engine, setting)
    check_an_update_that_is_held_moves_nothing(engine)
    engine.release()
    return losses


def check_averages_are_used_and_put_back(engine: Engine, setting: Setting) -> None:
    """Bit for bit, and what never trains is as it was meanwhile."""
    states, used, before = whole_states(engine), in_use(engine), evaluated(engine)
    wanted = fresh(0).to(torch.float32 if setting.precision == "fp32" else torch.bfloat16)
    masters = {name: states[name, MASTER] for name, _ in wanted.named_parameters()}
    averages = {name: states.get((name, EMA), masters[name]) for name in masters}
    assert any(not torch.equal(averages[name], masters[name]) for name in masters)
    with engine.averaged():
        found = evaluated(engine)
        for name, values in in_use(engine).items():
            assert torch.equal(values, used[name]), name
    with torch.no_grad():
        for name, parameter in wanted.named_parameters():
            parameter.copy_(averages[name].view_as(parameter))
    assert found != before and found == evaluated_loss(wanted.eval()), (setting.name, found)
    assert evaluated(engine) == before
    check_same(whole_states(engine), states)


def check_what_is_shown_of_an_update(engine: Engine, setting: Setting) -> None:
    """Norms by component are those of plain backward passes and of the masters' difference."""
    before, gradients = whole_states(engine), dict[str, Tensor]()

    def look(norm: Tensor, fragments: Iterator[Fragment]) -> Tensor:
        assert not shown or shown[0] == norm
        shown.append(norm)
        for name, square in gradient_squares(fragments, component).items():
            gradients[name] = gradients.get(name, torch.zeros(())) + square
        return torch.zeros(())

    shown = list[Tensor]()
    engine_process.step(engine, END, look=look)
    factor = max(1.0, float(shown[0]) / OPTIMIZER.clip)
    parts, loose = ("early", "norm", "head"), 1e-3 if setting.precision == "fp32" else 5e-2
    zero = torch.zeros(())
    squares = engine.processes.sum([], [gradients.get(name, zero) for name in parts])
    found = {name: factor * square**0.5 for name, square in zip(parts, squares, strict=True)}
    wanted = plain_gradient_norms(before, setting)
    assert all(math.isclose(found[name], wanted[name], rel_tol=loose) for name in parts), (
        setting.name,
        found,
        wanted,
    )
    assert math.isclose(sum(n**2 for n in found.values()) ** 0.5, float(shown[0]), rel_tol=1e-4)

    pairs = update_squares(
        engine.trained(), component, engine.groups, engine_process.RATE, OPTIMIZER, engine.updates
    )
    after = whole_states(engine)
    for name in parts:
        sums = engine.processes.sum([], list(pairs.get(name, (zero, zero))))
        was = {place: values for place, values in of_parts(before, name).items() if MASTER in place}
        moved = sum(float((after[place] - values).square().sum()) for place, values in was.items())
        size = sum(float(values.square().sum()) for values in was.values())
        assert moved and math.isclose(sums[0], moved, rel_tol=1e-3), (setting.name, name)
        assert math.isclose(sums[1], size, rel_tol=1e-4), (setting.name, name)


def plain_gradient_norms(states: Whole, setting: Setting) -> dict[str, float]:
    net = fresh(0).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(states[name, MASTER].view_as(parameter))
    net.to(torch.float32 if setting.precision == "fp32" else torch.bfloat16)
    for micro in range(engine_process.MICRO_BATCHES):
        x = engine_process.inputs(END, micro).to(next(net.parameters()).dtype)
        (net(x, None)["loss"] / (4 * engine_process.MICRO_BATCHES)).backward()
    return {
        name: float(torch.nn.utils.get_total_norm([p.grad.float() for p in part.parameters()]))
        for name, part in net.named_children()
    }


def component(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def check_an_update_that_is_held_moves_nothing(engine: Engine) -> None:
    states, used, updates = whole_states(engine), evaluated(engine), engine.updates
    _, moved = engine_process.step(engine, END, look=lambda *_: torch.ones(()))
    assert moved and engine.updates == updates
    check_same(whole_states(engine), states)
    assert evaluated(engine) == used
    engine_process.step(engine, END, look=lambda *_: torch.zeros(()))
    assert engine.updates == updates + 1


def evaluated(engine: Engine) -> float:
    with engine.evaluating():
        return evaluated_loss(engine.module)


def evaluated_loss(net: nn.Module) -> float:
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float(net(x.to(next(net.parameters()).dtype), None)["loss"])


def cross(engine: Engine, saver: Saver) -> Whole:
    """Over the boundary; what was there before it."""
    before = whole_states(engine)
    saver.release()
    memory = [weakref.ref(state) for state in storages(engine)]

    def build() -> Net:
        alive = sum(state() is not None for state in memory)
        assert not alive, f"{alive} of {len(memory)} tensors outlive their engine"
        return fresh(seed=5)

    hand_over(engine, build, GROUPS_AFTER)
    saver.hold(list(engine.owned()))
    return before


def storages(engine: Engine) -> Iterator[Tensor]:
    """What the old engine must let go: its flat masters, moments and averages, and its weights."""
    yield from engine.module.parameters()
    yield from engine._flats
    yield from engine._averages
    for flat in engine._flats:
        yield from engine._state_of(flat).values()


def check_handed_over(engine: Engine, before: Whole, initial: Whole) -> None:
    after = whole_states(engine)
    check_same(after, before)
    check_same(of_parts(after, "early.", "never."), of_parts(initial, "never."))
    for name in ("early.0.weight", "early.0.bias"):
        assert torch.equal(after[name, MASTER], initial[name, MASTER])
        assert torch.equal(after[name, EMA], after[name, MASTER])
        assert not any(after[name, key].any() for key in MOMENTS)
    assert after["head.weight", "exp_avg_sq"].sum() > 0
    assert engine.updates == BOUNDARY
    check_modes(engine, {"never"})


def save(saver: Saver, engine: Engine, number: int) -> None:
    state = State(
        step=number, epoch=0, updates=engine.updates, fingerprint={}, shapes=engine.shapes
    )
    saver.save(list(engine.owned()), state)
    saver.wait_for_copy()
    saver.settle()


def from_checkpoint(setting: Setting, resume: Resume) -> dict[int, float]:
    """The losses of the same run from a checkpoint on."""
    start = resume.manifest.state.step
    engine = setting.engine(start, seed=9)
    restore(resume.store, resume.name, resume.manifest, engine.held())
    engine.restored(resume.manifest.state.updates)
    losses = {}
    for number in range(start, END):
        if number == BOUNDARY and number > start:
            hand_over(engine, lambda: fresh(seed=7), GROUPS_AFTER)
        losses[number] = step(engine, number)
    engine.release()
    return losses


def main() -> None:
    os.environ.pop("ACCELERATE_DEEPSPEED_ZERO_STAGE", None)
    processes = join("cpu")
    settings = [Setting(stage, "fp32", processes) for stage in (0, 1, 2, 3)]
    settings += [Setting(stage, "bf16", processes) for stage in (1, 2, 3)]
    settings += [Setting(3, "bf16", processes, "cpu")]
    for setting in settings:
        store = LocalStore(Path(sys.argv[1]) / setting.name)
        losses = over_the_boundary(setting, store)
        for number in SAVED:
            name = f"epoch_00000_step_{number:08d}"
            again = from_checkpoint(setting, Resume(store, name, read_manifest(store, name)))
            wanted = {place: loss for place, loss in losses.items() if place >= number}
            assert again == wanted, (setting.name, number, again, wanted)
        if processes.rank == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print("crossed", setting.name, f"(largest memory so far {peak:.0f} MiB)")
    end_process(0)


if __name__ == "__main__":
    main()
