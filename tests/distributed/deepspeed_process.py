"""One rank that trains a few steps and saves through DeepSpeed itself: OUT STAGE:PRECISION ...

Beside each checkpoint it leaves ``expected.pt``: the whole float32 weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import torch
from accelerate.state import AcceleratorState
from engine_process import Net, step

from pretrain.engine import Engine, join
from pretrain.groups import OptimizerConfig, parameter_groups
from pretrain.processes import Processes, end_process
from pretrain.zero import DeepSpeedConfig

FROZEN = "b.bias"
OPTIMIZER = OptimizerConfig(lr=1e-2, weight_decay=0.1)


def trained(stage: int, precision: str, processes: Processes) -> Engine:
    torch.manual_seed(0)
    net = Net()
    named = [(name, p.ndim) for name, p in net.named_parameters() if name != FROZEN]
    engine = Engine(
        net,
        parameter_groups(named, OPTIMIZER),
        processes,
        optimizer=OPTIMIZER,
        zero=DeepSpeedConfig(stage=stage, offload="none"),  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        accumulation=2,
    )
    for number in range(3):
        step(engine, number)
    return engine


def whole(engine: Engine) -> dict[str, torch.Tensor]:
    """Every parameter's float32 weights, out of all ranks' fragments."""
    values = {name: torch.full(shape, torch.nan) for name, shape in engine.shapes.items()}
    shares = engine.processes.gather(
        [(one.name, one.start, one.states["master"]) for one in engine.owned()]
    )
    for name, start, piece in (one for share in shares for one in share):
        values[name].view(-1)[start : start + piece.numel()] = piece
    return values


def main() -> None:
    out, processes = Path(sys.argv[1]), join("cpu")
    for case in sys.argv[2:]:
        stage, precision = case.split(":")
        engine = trained(int(stage), precision, processes)
        engine.deepspeed.save_checkpoint(str(out / stage))
        values = whole(engine)
        if processes.rank == 0:
            torch.save(values, out / stage / "expected.pt")
        processes.barrier()
        cast("type", AcceleratorState)._reset_state()  # type: ignore[attr-defined]
    end_process(0)


if __name__ == "__main__":
    main()
