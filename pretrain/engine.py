"""The one file that knows Accelerate and DeepSpeed.

It starts the process group, wraps the model for ZeRO and shows the optimizer's memory as
fragments by parameter name, so that nothing else depends on how ZeRO lays it out.
"""

from __future__ import annotations

import gc
import inspect
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pretrain.adam import adamw, watched
from pretrain.chatter import is_verbose, unheard
from pretrain.checkpoint.manifest import EMA, MASTER, MOMENTS
from pretrain.fragment import Fragment, exchange, share
from pretrain.freezing import freeze_others, is_frozen
from pretrain.groups import Group, OptimizerConfig
from pretrain.models.protocol import Guide
from pretrain.norms import GRADIENT
from pretrain.processes import Processes
from pretrain.zero import DeepSpeedConfig, Precision, deepspeed_settings
from shards.collate import Batch

Look = Callable[[Tensor, Iterator[Fragment]], Tensor]
PATIENCE = timedelta(minutes=30)
TRACKED = "segue"
"""The project that trackers keep runs in."""
# Where each of DeepSpeed's ZeRO optimizers keeps this rank's flat float32 masters.
FLATS = {
    "BF16_Optimizer": "fp32_groups_flat_partition",  # stage 1 in bf16
    "DeepSpeedZeroOptimizer": "single_partition_of_fp32_groups",  # stages 1 and 2
    "DeepSpeedZeroOptimizer_Stage3": "fp32_partitioned_groups_flat",
}


def join(device: str, timeout: timedelta = PATIENCE) -> Processes:
    """Join the process group that accelerate launch describes, or be alone without one.

    ``timeout`` is how long ranks wait for one another in whatever they do together.
    """
    _alone_without_launcher()
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
        # torch's profiler reports a GPU that is not there as an error, level 4.
        os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    _without_compiled_operators()
    # DeepSpeed makes groups of its own, for which it says nothing of how long to wait.
    c10d: Any = dist.distributed_c10d
    c10d.default_pg_timeout = c10d.default_pg_nccl_timeout = timeout
    torch.backends.cudnn.allow_tf32 = False  # else float32 convolutions keep 10 bits
    from accelerate import PartialState

    # DeepSpeed on a machine without CUDA needs this state made before any Accelerator.
    state = PartialState(cpu=device == "cpu", timeout=timeout)
    return Processes(
        state.process_index, state.num_processes, state.local_process_index, state.device
    )


def accelerate_tracker(name: str, run: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    """One of Accelerate's trackers, begun, with the run's ``settings``; files go to ``folder``."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    os.environ.setdefault("WANDB_QUIET", "true")
    options: Mapping[str, dict[str, Any]] = {
        "wandb": {"name": run, "id": run, "resume": "allow", "dir": str(folder)},
        "swanlab": {"experiment_name": run, "logdir": str(folder)},
        "trackio": {"name": run, "resume": "allow"},
        "mlflow": {"run_name": run},
        "dvclive": {"dir": str(folder), "resume": True, "save_dvc_exp": False},
    }
    kind = LOGGER_TYPE_TO_CLASS[name]
    places = [str(folder)] if kind.requires_logging_directory else []
    if places or "dir" in options.get(name, {}):
        folder.mkdir(parents=True, exist_ok=True)
    tracker = kind(TRACKED if name in options else run, *places, **options.get(name, {}))
    tracker.start()
    tracker.store_init_configuration(dict(settings))
    return tracker


def _without_compiled_operators() -> None:
    """Keep DeepSpeed from probing for and compiling operators that no training step calls.

    On a CPU it would compile one for inference. torch guards that with a lock file which a killed
    process leaves behind, and every later process on any machine with this home waits for it.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__ = {}


def _alone_without_launcher() -> None:
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"


class Engine:
    """A model under ZeRO: forward, backward, step, and its optimizer state by name."""

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[Group],
        processes: Processes,
        *,
        optimizer: OptimizerConfig,
        zero: DeepSpeedConfig,
        precision: Precision,
        accumulation: int,
    ) -> None:
        self.stage, self.processes = zero.stage, processes
        self._optimizer, self._plain, self._decay = optimizer, zero.stage == 0, optimizer.ema_decay
        self._config, self._precision, self._accumulation = zero, precision, accumulation
        self.wrap(model, groups)

    def wrap(self, model: nn.Module, groups: Sequence[Group]) -> None:
        """Train ``groups`` of ``model`` from its weights; one wrapped before is released first."""
        self.groups = tuple(groups)
        self._shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self._frozen = dict(
            freeze_others(model, groups, self.processes.rank, self.processes.world_size)
        )
        accelerator = self._accelerator()
        _let_deepspeed_speak()
        with unheard():  # DeepSpeed prints its progress
            adam = adamw(model, groups, self._optimizer, plain=self._plain)
            self._engine, _ = accelerator.prepare(model, adam)
        _hide_from_transformers()
        self._zero: Any = self._engine.optimizer
        self._adam: Any = self._zero if self._plain else self._zero.optimizer
        self._numbers = {id(flat): number for number, flat in enumerate(self._flats)}
        self._allocate_moments()
        self._averages = [flat.detach().clone() for flat in self._flats] if self._decay else []
        self.train_mode()

    def _accelerator(self) -> Any:
        from accelerate import Accelerator, DeepSpeedPlugin
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state()  # it would keep the settings of the engine before
        # The launcher's file was settled into the config; Accelerate refuses to hear of it twice.
        os.environ.pop("ACCELERATE_CONFIG_DS_FIELDS", None)
        settings = deepspeed_settings(
            self._config,
            precision=self._precision,
            accumulation=self._accumulation,
            clip=0.0 if self._plain else self._optimizer.clip,
            trained=sum(prod(self._shapes[name]) for one in self.groups for name in one.parameters),
            on_gpu=self.processes.device.type == "cuda",
        )
        return Accelerator(
            deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=settings),
            gradient_accumulation_steps=self._accumulation,
            mixed_precision="bf16" if self._precision == "bf16" else "no",
        )

    def train_mode(self) -> None:
        """Draw dropout and gather statistics, but not where all parameters are frozen."""
        self.module.train()
        for part in self.module.modules():
            if is_frozen(part):
                part.eval()

    def eval_mode(self) -> None:
        """Neither dropout nor statistics anywhere, until `train_mode`."""
        self.module.eval()

    def release(self) -> None:
        """Give back the memory of weights, gradients and moments; only `wrap` can follow."""
        self._engine.destroy()
        _forget_zero3()
        del self._engine, self._zero, self._adam, self._averages, self._frozen
        gc.collect()
        gc.collect()  # hooks in bf16 keep the weights through the first
        if self.processes.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def deepspeed(self) -> Any:
        """The engine below, to be compared with."""
        return self._engine

    @property
    def module(self) -> nn.Module:
        """The model, its weights in the run's precision and, in stage 3, in pieces."""
        return cast("nn.Module", self._engine.module)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Full shapes of all parameters, by name."""
        return self._shapes

    def forward(self, batch: Batch, guide: Guide | None = None) -> Mapping[str, Tensor]:
        """The model's terms for one micro-batch, [B] each."""
        return cast("Mapping[str, Tensor]", self._engine(batch, guide))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Without dropout and gradients."""
        self.eval_mode()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train_mode()

    def forget_order(self) -> None:
        """Let parts of the model run in any order until the next `forward`.

        ZeRO-3 would learn it as a part of every step, and look through it at every part.
        """
        if self.stage != 3:
            return
        coordinator = self._zero.parameter_offload.get_param_coordinator()
        if not coordinator.is_invalid_trace():
            coordinator._invalidate_trace()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """With the averages of the weights that train, where a run keeps them.

        Masters and averages change places: no fragment may be read or written meanwhile. An error
        inside leaves them so, as ranks that wait for each other could not tell it.
        """
        self._exchange()
        yield
        self._exchange()

    def _exchange(self) -> None:
        if not self._averages:
            return
        for average, flat in zip(self._averages, self._flats, strict=True):
            exchange(average, flat.data)
        self._follow_masters()

    def backward(self, loss: Tensor, share: float, *, last: bool) -> None:
        """Accumulate gradients of ``loss * share``, summed over ranks and micro-batches.

        DeepSpeed averages over ranks; multiplying by their number leaves the sum.
        ``last`` marks the step's last micro-batch, after which gradients are reduced.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * (share * self.processes.world_size), scale_wrt_gas=False)

    def step(self, rate: float, look: Look | None = None) -> bool:
        """Clip and update at learning rate ``rate`` times each group's factor.

        A gradient that is not finite moves nothing. With ZeRO, `look` is not asked then, and the
        answer is False, on all ranks alike; without, the host does not wait to know.
        ``look`` sees the gradient before anything moves, part after part: its norm before clipping
        and, once clipped, fragments as `owned` has them, with `GRADIENT`. Where it answers 1 (0-dim
        float32, the same for all parts and ranks) nothing moves either, which costs no wait.
        """
        for settings, group in zip(self._adam.param_groups, self.groups, strict=True):
            settings["lr"] = rate * group.lr_scale

        def shown() -> Tensor:
            assert look
            answer = look(self.gradient_norm, self._counted(self._gradients()))
            return answer.to(self._flats[0].device)

        watched(self._adam, shown if look else None)
        self._engine.step()
        if self._zero.overflow:
            return False
        held: Tensor | None = self._adam.found_inf
        share = 1 - self._decay
        weight = share if held is None else (1 - held) * share
        for average, flat in zip(self._averages, self._flats, strict=bool(self._decay)):
            average.lerp_(flat.data, weight)
        return True

    def rates(self, rate: float) -> dict[str, float]:
        """The learning rate of each group, by its name, in a step at ``rate``."""
        return {group.name: rate * group.lr_scale for group in self.groups}

    @property
    def state_bytes(self) -> int:
        """What this rank keeps to update the weights: float32 masters, moments and averages."""
        moments = [self._state_of(flat)[key] for flat in self._flats for key in MOMENTS]
        kept: list[Tensor] = [*self._flats, *moments, *self._averages]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    @property
    def gradient_norm(self) -> Tensor:
        """The global norm of the last step's gradient before clipping, 0-dim float32."""
        return torch.as_tensor(self._zero._global_grad_norm, dtype=torch.float32)

    def owned(self) -> Iterator[Fragment]:
        """Views of what this rank is to save: over all ranks every number once, spread evenly."""
        yield from self.trained()
        for name, (start, master) in self._frozen.items():
            yield Fragment(name, start, {MASTER: master})

    def trained(self) -> Iterator[Fragment]:
        """What of `owned` trains."""
        return self._counted(self._trained())

    def held(self) -> Iterator[Fragment]:
        """Views of all that a restore must fill, replicas and frozen weights in use included."""
        yield from self._trained()
        for name, parameter in self.module.named_parameters():
            if name in self._frozen:
                start, master = self._frozen[name]
                yield Fragment(name, start, {MASTER: master})
                yield self._frozen_in_use(name, parameter)

    def _counted(self, fragments: Iterator[Fragment]) -> Iterator[Fragment]:
        """Of fragments that every rank has, this one's share."""
        rank, ranks = self.processes.rank, self.processes.world_size
        return (share(one, rank, ranks) for one in fragments) if self._plain else fragments

    def _trained(self) -> Iterator[Fragment]:
        for name, number, offset, start, size in self._places():
            flat = self._flats[number]
            states = {MASTER: flat.data} | {key: self._state_of(flat)[key] for key in MOMENTS}
            if self._averages:
                states[EMA] = self._averages[number]
            yield Fragment(
                name, start, {key: s.view(-1).narrow(0, offset, size) for key, s in states.items()}
            )

    def _gradients(self) -> Iterator[Fragment]:
        """Those of the part of an update that is being made: DeepSpeed makes it group by group."""
        flats = self._flats
        moving = {id(flat) for group in self._adam.param_groups for flat in group["params"]}
        for name, number, offset, start, size in self._places():
            gradient = flats[number].grad
            if gradient is not None and id(flats[number]) in moving:
                states = {MASTER: flats[number].data, GRADIENT: gradient}
                yield Fragment(
                    name,
                    start,
                    {key: s.reshape(-1).narrow(0, offset, size) for key, s in states.items()},
                )

    def _places(self) -> Iterator[tuple[str, int, int, int, int]]:
        """(name, number of the flat tensor, offset in it, start in the parameter, size)."""
        for name, parameter in self.module.named_parameters():
            place = None if name in self._frozen else self._place(parameter)
            if place is not None:
                yield name, *place

    def _place(self, parameter: Any) -> tuple[int, int, int, int] | None:
        """(number of the flat tensor, offset in it, start in the parameter, size)."""
        if self._plain:
            return self._numbers[id(parameter)], 0, 0, parameter.numel()
        return self._zero3_place(parameter) if self.stage == 3 else _zero12_place(parameter)

    def _frozen_in_use(self, name: str, parameter: Any) -> Fragment:
        if self.stage != 3:
            return Fragment(name, 0, {MASTER: parameter.data.view(-1)})
        held = parameter.ds_tensor
        start = self.processes.rank * held.numel()
        size = max(0, min(held.numel(), parameter.ds_numel - start))
        return Fragment(name, start, {MASTER: held.data.narrow(0, 0, size)})

    @property
    def updates(self) -> int:
        """How many updates the moments have seen (Adam's bias correction counts them)."""
        return int(self._state_of(self._flats[0])["step"])

    def restored(self, updates: int) -> None:
        """Tell the engine that fragments were overwritten: weights follow their masters."""
        for flat in self._flats:
            self._state_of(flat)["step"].fill_(updates)
        self._follow_masters()

    def _follow_masters(self) -> None:
        """Give the weights in use the values of their masters."""
        if self.stage == 3:
            self._refresh_zero3()
        elif not self._plain:
            self._zero.update_lp_params()

    @property
    def _flats(self) -> list[Tensor]:
        if self._plain:
            return [parameter for group in self._adam.param_groups for parameter in group["params"]]
        return cast("list[Tensor]", getattr(self._zero, FLATS[type(self._zero).__name__]))

    def _allocate_moments(self) -> None:
        # Adam would do so in its first step; a restore, and a lack of memory, come before that.
        for flat in self._flats:
            state = self._state_of(flat)
            state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device)
            state.update({key: torch.zeros_like(flat.data) for key in MOMENTS})

    def _state_of(self, flat: Tensor) -> dict[str, Tensor]:
        return cast("dict[str, Tensor]", self._adam.state[flat])

    def _zero3_place(self, parameter: Any) -> tuple[int, int, int, int] | None:
        # The last rank's slice is padded with zeros beyond the parameter's end.
        group, offset, slice_size = self._zero.grad_position[self._zero.get_param_id(parameter)]
        start = self.processes.rank * slice_size
        size = min(slice_size, parameter.ds_numel - start)
        return (group, offset, start, size) if size > 0 else None

    def _refresh_zero3(self) -> None:
        zero = self._zero
        zero.checkpoint_event_prologue()
        for number in range(len(zero.fp16_groups)):
            zero._reassign_or_swap_out_partitioned_parameters(number)
        zero.checkpoint_event_epilogue()


def _zero12_place(parameter: Any) -> tuple[int, int, int, int] | None:
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    in_flat, in_parameter = mapping.hp_fragment_address, mapping.lp_fragment_address
    return mapping.param_group_index, in_flat.start, in_parameter.start, in_flat.numel


def _let_deepspeed_speak() -> None:
    if is_verbose():
        from deepspeed.utils import logger

        logger.handlers.clear()  # theirs passes warnings only, to stdout
        logger.propagate = True
        logger.setLevel(logging.INFO)


def _hide_from_transformers() -> None:
    """Let transformers load models whole: those beside the trained one are no part of its ZeRO.

    Accelerate has told it of stage 3, under which it would split what it loads from now on.
    """
    from transformers.integrations import deepspeed

    deepspeed.unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]


def _forget_zero3() -> None:
    """Empty what DeepSpeed 0.19.8 leaves in globals after an engine's end: it holds the model."""
    from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK
    from deepspeed.runtime.zero.partitioned_param_coordinator import (
        PartitionedParameterCoordinator as Coordinator,
    )

    FWD_MODULE_STACK.clear()
    releases = vars(Coordinator)["_PartitionedParameterCoordinator__params_to_release"]
    inspect.getclosurevars(releases).nonlocals["func"].cache_clear()  # an lru_cache of methods
