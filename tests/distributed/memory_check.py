"""What an engine's tensors take, against what is estimated of them."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn

from pretrain.engine import Engine
from pretrain.estimate.memory import Numbers, Setting, Way, memory
from pretrain.groups import OptimizerConfig, parameter_groups
from pretrain.processes import Processes
from pretrain.zero import DeepSpeedConfig, Precision

WIDTH, LAYERS, ACCUMULATION = 256, 6, 2


class Stack(nn.Module):
    """Layers of which the first is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))

    def forward(self, x: Tensor, _guide: None) -> dict[str, Tensor]:
        for layer in self.layers:
            x = torch.relu(layer(x.to(layer.weight.dtype)))
        return {"loss": x.float().square().sum()}


def alive() -> int:
    """Bytes of all storages that tensors hold."""
    gc.collect()
    sizes: dict[int, int] = {}
    for found in gc.get_objects():
        if issubclass(type(found), Tensor):
            for tensor in (found, found.grad if found.is_leaf else None):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def engine_of(processes: Processes, zero: DeepSpeedConfig, precision: Precision) -> Engine:
    optimizer = OptimizerConfig(ema_decay=0.9)
    net = Stack()
    trained = [(name, p.ndim) for name, p in net.named_parameters() if "layers.0." not in name]
    return Engine(
        net,
        parameter_groups(trained, optimizer),
        processes,
        optimizer=optimizer,
        zero=zero,
        precision=precision,
        accumulation=ACCUMULATION,
    )


def measured(engine: Engine, before: int) -> int:
    """The most bytes beyond ``before`` after a backward pass of a step."""
    most = 0
    for micro in range(ACCUMULATION):
        loss = engine.forward(torch.randn(2, WIDTH))["loss"]  # type: ignore[arg-type]
        engine.backward(loss, 1.0, last=micro == ACCUMULATION - 1)
        del loss
        most = max(most, alive() - before)
    return most


def check_tensors_take_what_was_estimated(
    processes: Processes, zero: DeepSpeedConfig, precision: Precision
) -> None:
    """Within 15 %; no other engine may live."""
    before = alive()
    engine = engine_of(processes, zero, precision)
    sizes = {name: torch.Size(shape).numel() for name, shape in engine.shapes.items()}
    trained = sum(sizes[name] for group in engine.groups for name in group.parameters)
    setting = Setting(processes.world_size, precision, accumulates=True, averages=True, on_cpu=True)
    way = Way(zero.stage or 0, zero.offload == "cpu")
    need = memory(Numbers(sum(sizes.values()), trained), way, setting, activations=0)
    buffers_stay = way.stage == 3 or (way.stage == 1 and precision == "fp32")
    estimated = need.device + need.host - (0 if buffers_stay else need.buffers)
    assert estimated == pytest.approx(measured(engine, before), rel=0.15)
    saved = sum(s.numel() for one in engine.owned() for s in one.states.values())
    assert need.copied == pytest.approx(4 * saved, rel=0.05)
    engine.release()
