"""An estimate as one JSON object, in bytes, seconds and hours."""

from __future__ import annotations

import math
from typing import Any

from pretrain.component_table import Portion, portions
from pretrain.estimate.course import Stage
from pretrain.estimate.estimate import Estimate, Largest
from pretrain.estimate.memory import Memory


def as_object(found: Estimate) -> dict[str, Any]:
    """All figures; ``fits`` and ``recommended`` are those of the device of ``gpu_bytes``."""
    return {
        "processes": found.ranks,
        "target": found.target,
        "steps_per_epoch": found.steps_per_epoch,
        "parameters": {
            "every": found.numbers.every,
            "trained": found.numbers.trained,
            "components": [_portion(one) for one in portions(found.training, 0)],
        },
        "stages": [_stage(one) for one in found.stages],
        "largest_micro_batches": [_largest(one) for one in found.largest],
        "memory": {way.name: _memory(found, need) for way, need in found.memory.items()},
        "gpu": found.gpu,
        "gpu_bytes": found.gpu_bytes,
        "chosen": found.chosen.name,
        "recommended": found.fitting.name if found.fitting else None,
        "disk": {
            "checkpoint_bytes": found.disk.checkpoint,
            "saved": found.disk.saved,
            "kept": found.disk.kept,
            "most_bytes": found.disk.most,
        },
        "seconds": found.seconds,
        "throughput": found.throughput.source if found.throughput else None,
    }


def _portion(one: Portion) -> dict[str, Any]:
    return {"name": one.name, "parameters": one.count, "training": one.trained, "state": one.state}


def _stage(one: Stage) -> dict[str, Any]:
    return {
        "stage": one.number,
        "first_step": one.first,
        "steps": one.steps,
        "epochs": one.epochs,
        "max_seconds": one.max_seconds if math.isfinite(one.max_seconds) else None,
        "hours": one.hours,
        "clips_per_step": one.mean.clips,
        "targets_per_step": one.mean.targets,
        "padding": one.mean.padding,
    }


def _largest(one: Largest) -> dict[str, Any]:
    return {
        "bucket": one.bucket,
        "clips": one.clips,
        "longest_seconds": one.longest,
        "padded_seconds": one.seconds,
        "activation_bytes": one.passes.peak if one.passes else None,
        "saved_bytes": one.passes.saved if one.passes else None,
    }


def _memory(found: Estimate, need: Memory) -> dict[str, Any]:
    return {**vars(need), "device": need.device, "fits": found.fits(need)}
