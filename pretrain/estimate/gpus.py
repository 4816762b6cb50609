"""Memory of GPUs by name."""

from __future__ import annotations

import torch

from shards.errors import UserError

GIGABYTES = {
    "v100-16": 16,
    "v100": 32,
    "t4": 16,
    "a10": 24,
    "rtx3090": 24,
    "rtx4090": 24,
    "l4": 24,
    "l40s": 48,
    "a6000": 48,
    "a100-40": 40,
    "a100": 80,
    "h100": 80,
    "h200": 141,
    "b200": 180,
}
"""As their makers state it, in GB of 10^9 bytes."""
ASSUMED = "h100"


def gpu_memory(asked: str | None) -> tuple[str, int]:
    """A name for what is meant and its bytes: GB or a GPU's name, else the GPU here, else ASSUMED.

    UserError for a name that is not known.
    """
    if asked is None and torch.cuda.is_available():
        return torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    wanted = (asked or ASSUMED).lower()
    if wanted in GIGABYTES:
        return wanted, GIGABYTES[wanted] * 10**9
    try:
        size = float(wanted)
    except ValueError:
        size = 0.0
    if not 0 < size < 1e6:
        raise UserError(
            f"--gpu-memory {asked}: neither GB nor a GPU that is known; write a number or one of "
            + ", ".join(GIGABYTES)
        )
    return f"{size:g} GB", int(size * 1e9)
