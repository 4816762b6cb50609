"""ZeRO's options and the DeepSpeed configuration that follows from a run's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from shards.errors import UserError
from shards.section import Section

Precision = Literal["bf16", "fp32"]
DEFAULT_STAGE = 2
BUCKET = 500_000_000
"""Numbers of a gradient reduced at once at most: DeepSpeed's own ``reduce_bucket_size``."""


class DeepSpeedConfig(Section):
    """``deepspeed``: what ZeRO partitions over the ranks."""

    stage: Literal[0, 1, 2, 3] | None = Field(
        default=None,
        description="0: nothing, 1: optimizer states, 2: and gradients, 3: and weights; left out, "
        "the file given to accelerate launch decides (2 where there is none)",
    )
    offload: Literal["none", "cpu"] | None = Field(
        default=None, description="cpu: keep optimizer states and weights in host memory (stage 3)"
    )


def settle(config: DeepSpeedConfig, environ: Mapping[str, str]) -> DeepSpeedConfig:
    """The stage and offload to use, from the run's config and what accelerate launch exports.

    UserError where both speak and differ.
    """
    launched = environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    stage = environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") if launched else None
    offload = environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE") if launched else None
    agreed = _agree("stage", config.stage, stage)
    settled = DeepSpeedConfig.model_validate(
        {
            "stage": DEFAULT_STAGE if agreed is None else int(agreed),
            "offload": _agree("offload", config.offload, offload) or "none",
        }
    )
    if settled.offload == "cpu" and settled.stage != 3:
        raise UserError(
            f"deepspeed.offload=cpu with deepspeed.stage={settled.stage}: offload goes with "
            "stage 3; set deepspeed.stage=3 or deepspeed.offload=none"
        )
    return settled


NO_MASTERS = "without ZeRO DeepSpeed keeps no float32 weights beside those in bf16"


def refuse_precision(settled: DeepSpeedConfig, precision: Precision) -> None:
    """UserError for what DeepSpeed has no optimizer for."""
    if settled.stage == 0 and precision == "bf16":
        raise UserError(
            f"deepspeed.stage=0 with precision=bf16: {NO_MASTERS}; set deepspeed.stage=1 (the same "
            "result in less memory) or precision=fp32"
        )


def _agree(key: str, wanted: object, launched: str | None) -> Any:
    if wanted is not None and launched is not None and str(wanted) != launched:
        raise UserError(
            f"deepspeed.{key}={wanted} but accelerate launch was given a file with {launched}; "
            f"use the file of configs/accelerate that fits, or deepspeed.{key}={launched}"
        )
    return launched if wanted is None else wanted


def accelerate_file(config: DeepSpeedConfig) -> str:
    """The name of the file in configs/accelerate for a settled stage and offload."""
    return f"zero{config.stage}{'_offload' if config.offload == 'cpu' else ''}.yaml"


def deepspeed_settings(
    config: DeepSpeedConfig,
    *,
    precision: Precision,
    accumulation: int,
    clip: float,
    trained: int,
    on_gpu: bool,
) -> dict[str, Any]:
    """DeepSpeed's configuration.

    ``accumulation`` is micro-batches per rank and step, ``trained`` the number of parameters that
    train: DeepSpeed makes room for a whole bucket of gradients, however few there are.
    """
    zero: dict[str, Any] = {
        "stage": config.stage,
        "overlap_comm": False,
        "reduce_bucket_size": min(BUCKET, trained),
    }
    if config.offload == "cpu":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": on_gpu}
        zero["offload_param"] = {"device": "cpu", "pin_memory": on_gpu}
    return {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed wants a number; the plan sizes batches
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip,
        "bf16": {"enabled": precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": zero,
        # It would wait for the device before every forward pass, and print what we print.
        "timers": {"throughput": {"enabled": False, "synchronized": False}},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW needs no compiler
    }
