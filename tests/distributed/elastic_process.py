"""One rank of the checks of restoring elsewhere; run through accelerate launch: save|load FOLDER.

`save` trains and saves in every ZeRO stage; `load` restores each of those in every stage, compares
every number with what was saved and takes the next steps.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engine_process
import torch
from engine_process import Net
from torch import Tensor

from pretrain.checkpoint.keep import CheckpointConfig
from pretrain.checkpoint.manifest import EMA, MASTER, MOMENTS, Manifest, State
from pretrain.checkpoint.restore import Restored, newest_valid, restore, whole
from pretrain.checkpoint.saver import Saver
from pretrain.checkpoint.store import LocalStore
from pretrain.engine import Engine, join
from pretrain.groups import OptimizerConfig, parameter_groups
from pretrain.processes import Processes, end_process
from pretrain.zero import DeepSpeedConfig, Precision

MICRO_BATCHES = 12
FROZEN = ("a.weight", "norm.bias")


@dataclass(frozen=True)
class Setting:
    """How an engine is built."""

    stage: int
    offload: str = "none"
    precision: Precision = "fp32"
    frozen: tuple[str, ...] = ()
    ema_decay: float = 0.9

    @property
    def name(self) -> str:
        """As in the name of a folder."""
        parts = [f"stage{self.stage}", self.precision, self.offload]
        return "-".join([*parts, *(["frozen"] if self.frozen else [])])


EVERY_STAGE = (*(Setting(stage) for stage in (0, 1, 2, 3)), Setting(3, "cpu"))
SAVED = (
    *EVERY_STAGE,
    *(Setting(stage, precision="bf16") for stage in (1, 2, 3)),
    *(Setting(stage, frozen=FROZEN) for stage in (0, 2, 3)),
)


def build(setting: Setting, processes: Processes, seed: int) -> Engine:
    torch.manual_seed(seed)
    net = Net()
    trained = [(name, p.ndim) for name, p in net.named_parameters() if name not in setting.frozen]
    optimizer = OptimizerConfig(lr=1e-2, weight_decay=0.1, ema_decay=setting.ema_decay)
    return Engine(
        net,
        parameter_groups(trained, optimizer),
        processes,
        optimizer=optimizer,
        zero=DeepSpeedConfig.model_validate({"stage": setting.stage, "offload": setting.offload}),
        precision=setting.precision,
        accumulation=MICRO_BATCHES // processes.world_size,
    )


def step(engine: Engine, number: int) -> float:
    """The loss of one optimizer step, which must move the weights."""
    loss, moved = engine_process.step(engine, number, micro_batches=MICRO_BATCHES)
    assert moved
    return loss


def save_all(root: Path, processes: Processes) -> None:
    losses: dict[str, list[float]] = {}
    for setting in SAVED:
        engine = build(setting, processes, seed=0)
        for number in range(3):
            step(engine, number)
        fragments = list(engine.owned())
        config = CheckpointConfig()
        saver = Saver(LocalStore(root / setting.name), processes, config, fragments, print)
        state = State(
            step=3, epoch=0.3, updates=engine.updates, fingerprint={}, shapes=engine.shapes
        )
        saver.save(fragments, state)
        saver.wait_for_copy()
        losses[setting.name] = [step(engine, number) for number in range(3, 8)]
        saver.finish()
    if processes.rank == 0:
        (root / "losses.json").write_text(json.dumps(losses))


def load_all(root: Path, processes: Processes) -> None:
    losses = json.loads((root / "losses.json").read_text())
    for before, now in pairs():
        engine = build(now, processes, seed=1)
        store = LocalStore(root / before.name)
        found = newest_valid(store, processes, print)
        assert found is not None
        name, manifest = found.name, found.manifest
        told = restore(store, name, manifest, engine.held())
        engine.restored(manifest.state.updates)
        check_every_number(engine, store, name, manifest)
        check_what_is_told(told, before, now)
        again = [step(engine, number) for number in range(3, 8)]
        if (before.frozen, before.precision) == (now.frozen, now.precision):
            near(again, losses[before.name], 1e-5 if now.precision == "fp32" else 2e-2)
    if processes.rank == 0:
        print("pairs", sum(1 for _ in pairs()))


def pairs() -> Iterator[tuple[Setting, Setting]]:
    for before in EVERY_STAGE:
        for now in EVERY_STAGE:
            yield before, now
    bf16 = [setting for setting in SAVED if setting.precision == "bf16"]
    frozen = [setting for setting in SAVED if setting.frozen]
    for before, now in zip(bf16, (*bf16[1:], bf16[0]), strict=True):
        yield before, now
    for before, now in zip(frozen, (*frozen[1:], frozen[0]), strict=True):
        yield before, now
        yield before, Setting(now.stage)
        yield Setting(now.stage), now


def check_every_number(engine: Engine, store: LocalStore, name: str, manifest: Manifest) -> None:
    """What the engine holds is bit for bit what was saved, whoever saved it."""
    for fragment in (*engine.owned(), *engine.held()):
        for key, values in fragment.states.items():
            saved = expected(store, name, manifest, fragment.name, key).flatten()
            part = saved[fragment.start : fragment.start + fragment.size]
            assert torch.equal(values, part.to(values.dtype)), (fragment.name, key)


def expected(store: LocalStore, name: str, manifest: Manifest, of: str, key: str) -> Tensor:
    if of in manifest.frozen and key in MOMENTS:
        return torch.zeros(manifest.state.shapes[of])
    if of in manifest.frozen and key == EMA:
        key = MASTER
    return whole(store, name, manifest, of, key)


def check_what_is_told(told: Restored, before: Setting, now: Setting) -> None:
    thawed = set(before.frozen) - set(now.frozen)
    assert told.new_moments <= thawed
    assert told.new_averages <= thawed


def near(found: list[float], wanted: list[float], tolerance: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert abs(one - other) <= tolerance * abs(other), (found, wanted)


def main() -> None:
    os.environ.pop("ACCELERATE_DEEPSPEED_ZERO_STAGE", None)
    processes = join("cpu")
    work: dict[str, Any] = {"save": save_all, "load": load_all}
    work[sys.argv[1]](Path(sys.argv[2]), processes)
    end_process(0)


if __name__ == "__main__":
    main()
