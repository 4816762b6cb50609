"""The first page: which curves TensorBoard's custom scalars shows together."""

from __future__ import annotations

Charts = dict[str, list[object]]


def _chart(*tags: str) -> list[object]:
    return ["Multiline", [f"^{tag}$" for tag in tags]]


LAYOUT: dict[str, Charts] = {
    "Health": {
        "loss": _chart("train/loss", "validation/loss"),
        "learning rate": _chart("optimizer/lr"),
        "gradient norm": _chart("optimizer/gradient_norm"),
        "tokens per second": _chart("speed/tokens_per_second"),
        "waiting for data, share of a step": _chart("speed/data_share"),
        "padding, share of the audio": _chart("data/padding"),
        "memory, GB": _chart("memory/(peak|allocated|reserved|host|host_workers)_gb"),
        "skipped steps, clips left out": _chart(
            "health/(skipped_steps|non_finite_steps|spikes|failed_clips)"
        ),
    },
    "Learning": {
        "parts of the loss": _chart("train/.*"),
        "validation by length": _chart("validation/seconds/.*/loss"),
        "validation by source": _chart("validation/source/.*/loss"),
        "validation by language": _chart("validation/language/.*/loss"),
        "validation on other data": _chart("validation/[^/]*/loss"),
        "rates of components": _chart("optimizer/lr/[^/]*"),
        "rates of groups": _chart("optimizer/lr/.*decay"),
        "gradient norm by component": _chart("optimizer/gradient_norm/.*"),
        "update over weight by component": _chart("optimizer/update_ratio/.*"),
    },
    "Speed": {
        "seconds of a step by part": _chart(
            "speed/(data|forward|backward|optimizer|checkpoint)_seconds", "speed/step_seconds"
        ),
        "share of what the devices could compute": _chart("speed/mfu"),
        "TFLOP per second": _chart("speed/tflops"),
        "hours of audio per hour": _chart("speed/audio_hours_per_hour"),
        "fastest and slowest rank over the median": _chart("ranks/(fastest|slowest)_over_median"),
        "fastest and slowest rank": _chart("ranks/(fastest|slowest)"),
        "seconds of a save": _chart("speed/save_seconds"),
        "GPU": _chart("gpu/.*"),
        "times that the GPU's allocator gave all back": _chart("memory/alloc_retries"),
    },
    "Data": {
        "epoch": _chart("data/epoch"),
        "hours seen": _chart("data/hours_seen"),
        "clips seen": _chart("data/clips_seen"),
        "clips of a step": _chart("data/clips"),
        "heaviest rank's audio over the mean": _chart("data/balance"),
        "bucket": _chart("data/bucket"),
        "curriculum": _chart("curriculum/.*"),
        "errors by kind": _chart("health/data_errors/.*"),
    },
}
"""Patterns of tags by the chart that shows them, by category."""
