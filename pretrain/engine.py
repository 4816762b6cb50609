"""The one file that knows Accelerate and DeepSpeed.

It starts the process group, wraps the model for ZeRO and shows the optimizer's memory as
fragments by parameter name, so that nothing else depends on how ZeRO lays it out.
"""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pretrain.groups import Group, OptimizerConfig
from pretrain.zero import DeepSpeedConfig, Precision, deepspeed_settings
from shards.collate import Batch
from shards.errors import UserError

_T = TypeVar("_T")
MOMENTS = ("exp_avg", "exp_avg_sq")
# Where each of DeepSpeed's ZeRO optimizers keeps this rank's flat float32 masters.
FLATS = {
    "BF16_Optimizer": "fp32_groups_flat_partition",  # stage 1 in bf16
    "DeepSpeedZeroOptimizer": "single_partition_of_fp32_groups",  # stages 1 and 2
    "DeepSpeedZeroOptimizer_Stage3": "fp32_partitioned_groups_flat",
}


@dataclass(frozen=True)
class Fragment:
    """A contiguous run of one parameter that this rank owns.

    ``start`` counts from the beginning of the flattened parameter. ``states`` are float32 views
    of the engine's own memory, all of one length: ``master`` and both moments.
    """

    name: str
    start: int
    states: Mapping[str, Tensor]

    @property
    def size(self) -> int:
        """Numbers in the fragment."""
        return self.states["master"].numel()


@dataclass(frozen=True)
class Processes:
    """This process's place among all of a run."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Processes:
        """Join the process group that accelerate launch describes, or be alone without one."""
        _alone_without_launcher()
        if device == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
        _without_compiled_operators()
        from accelerate import PartialState

        # DeepSpeed on a machine without CUDA needs this state made before any Accelerator.
        state = PartialState(cpu=device == "cpu")
        return cls(
            state.process_index, state.num_processes, state.local_process_index, state.device
        )

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier()

    def first(self, work: Callable[[], _T]) -> _T:
        """The result of ``work``, done by rank 0 alone, on every rank.

        Its UserError is raised on rank 0, which says it; the other ranks leave with exit code 2.
        """
        result, mistake = None, None
        if self.rank == 0:
            try:
                result = work()
            except UserError as error:
                mistake = str(error)
        result, mistake = self.gather((result, mistake))[0]
        if mistake is not None:
            self.fail(mistake)
        return cast("_T", result)

    def fail(self, mistake: str) -> NoReturn:
        """End on a mistake that all ranks know of and one of them says: UserError on rank 0."""
        if self.rank == 0:
            raise UserError(mistake)
        raise SystemExit(2)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order, on every rank."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Sequence[float | Tensor]) -> list[float]:
        """Sums over all ranks, in float64."""
        total = torch.stack(
            [torch.as_tensor(v, dtype=torch.float64, device=self.device) for v in values]
        )
        dist.all_reduce(total)
        return cast("list[float]", total.tolist())

    def largest(self, value: float) -> float:
        """The largest value of any rank."""
        most = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        return float(most)


def end_process(code: int) -> NoReturn:
    """End this process at once.

    In torch 2.11 a Gloo thread that frees a finished collective's tensors wants the interpreter's
    lock; if the interpreter is being taken down just then, the process aborts.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


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
        from accelerate import Accelerator, DeepSpeedPlugin

        self.stage, self.processes = zero.stage, processes
        self.groups = tuple(groups)
        self._shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        # The launcher's file was settled into ``zero``; Accelerate refuses to hear of it twice.
        os.environ.pop("ACCELERATE_CONFIG_DS_FIELDS", None)
        settings = deepspeed_settings(
            zero, precision=precision, accumulation=accumulation, clip=optimizer.clip
        )
        accelerator = Accelerator(
            deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=settings),
            gradient_accumulation_steps=accumulation,
            mixed_precision="bf16" if precision == "bf16" else "no",
        )
        with (
            warnings.catch_warnings(),
            redirect_stdout(StringIO()),
        ):  # DeepSpeed prints its progress
            warnings.simplefilter("ignore")
            self._engine, _ = accelerator.prepare(model, _adamw(model, groups, optimizer))
        self._zero: Any = self._engine.optimizer
        self._adam: Any = self._zero.optimizer
        self._allocate_moments()

    @property
    def module(self) -> nn.Module:
        """The model, its weights in the run's precision and, in stage 3, in pieces."""
        return cast("nn.Module", self._engine.module)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Full shapes of all parameters, by name."""
        return self._shapes

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """The model's summed terms for one micro-batch."""
        return cast("Mapping[str, Tensor]", self._engine(batch))

    def backward(self, loss: Tensor, share: float, *, last: bool) -> None:
        """Accumulate gradients of ``loss * share``, summed over ranks and micro-batches.

        DeepSpeed averages over ranks; multiplying by their number leaves the sum.
        ``last`` marks the step's last micro-batch, after which gradients are reduced.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * (share * self.processes.world_size), scale_wrt_gas=False)

    def step(self, rate: float) -> bool:
        """Clip and update at learning rate ``rate`` times each group's factor.

        Returns False, on all ranks alike, where the gradient was not finite and nothing moved.
        """
        for settings, group in zip(self._adam.param_groups, self.groups, strict=True):
            settings["lr"] = rate * group.lr_scale
        self._engine.step()
        return not self._zero.overflow

    @property
    def gradient_norm(self) -> float:
        """The global norm of the last step's gradient, before clipping."""
        return float(self._engine.get_global_grad_norm())

    def fragments(self) -> Iterator[Fragment]:
        """Views of all that this rank owns."""
        for name, parameter in self.module.named_parameters():
            place = self._zero3_place(parameter) if self.stage == 3 else _zero12_place(parameter)
            if place is None:
                continue
            group, offset, start, size = place
            flat = self._flats[group]
            state = self._state_of(flat)
            states = {key: state[key].narrow(0, offset, size) for key in MOMENTS}
            yield Fragment(name, start, {"master": flat.data.narrow(0, offset, size), **states})

    @property
    def updates(self) -> int:
        """How many updates the moments have seen (Adam's bias correction counts them)."""
        return int(self._state_of(self._flats[0])["step"])

    def restored(self, updates: int) -> None:
        """Tell the engine that fragments were overwritten: weights follow their masters."""
        for flat in self._flats:
            self._state_of(flat)["step"].fill_(updates)
        if self.stage == 3:
            self._refresh_zero3()
        else:
            self._zero.update_lp_params()

    @property
    def _flats(self) -> list[Tensor]:
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


def _adamw(model: nn.Module, groups: Sequence[Group], config: OptimizerConfig) -> torch.optim.AdamW:
    named = dict(model.named_parameters())
    return torch.optim.AdamW(
        [
            {
                "params": [named[name] for name in group.parameters],
                "weight_decay": group.weight_decay,
            }
            for group in groups
        ],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )
