"""One step's figures, as the log, TensorBoard and the terminal get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pretrain.pace import Pace

TAGS = {
    "train/loss": "loss",
    "optimizer/gradient_norm": "gradient_norm",
    "optimizer/lr": "lr",
    "health/skipped_steps": "skipped",
    "health/failed_clips": "failed_clips",
    "data/padding": "padding",
    "data/epoch": "epoch",
    "data/bucket": "bucket",
    "data/clips": "clips",
    "data/balance": "balance",
    "curriculum/stage": "stage",
    "curriculum/admitted_buckets": "admitted_buckets",
    "curriculum/withheld": "withheld",
    "speed/tokens_per_second": "tokens_per_second",
    "speed/audio_hours_per_hour": "audio_hours_per_hour",
    "speed/step_seconds": "seconds",
    "speed/data_share": "data_share",
    "ranks/fastest": "fastest_rank",
    "ranks/fastest_over_median": "fastest_over_median",
    "ranks/slowest": "slowest_rank",
    "ranks/slowest_over_median": "slowest_over_median",
}
"""TensorBoard's names of what `StepRecord.figures` calls otherwise."""


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step over all ranks, which ended at ``time`` (Unix seconds).

    ``step`` counts from 1 to the run's ``target``; this start of the run went on from the step
    ``start``, with so many ``processes``. ``epoch`` is the fraction of epochs done
    after it; ``loss`` and the model's other ``parts`` are means over the step's ``tokens`` targets;
    ``padding`` is the padded share of the batches' audio; ``seconds`` is the wall time, of which
    ``spent`` says where this rank spent how much; ``waited`` is the mean wait of all ranks for
    their data. ``balance`` is the heaviest rank's padded audio over the mean; ``rates`` are, by
    name, those of the optimizer's groups and the highest of each component, ``lr`` is their base.
    ``skipped`` counts the run's steps that moved nothing. ``failed_clips`` could not be read and
    were left out. ``withheld`` is the share of clips that the curriculum has yet to admit.
    ``flops`` are those of the step (`pretrain.flops`).
    ``pace`` is how long each rank was busy in the step before. ``gauges`` are further figures, by
    TensorBoard's names.
    """

    step: int
    target: int
    start: int
    processes: int
    time: float
    epoch: float
    loss: float
    lr: float
    rates: Mapping[str, float]
    tokens: int
    padding: float
    seconds: float
    spent: Mapping[str, float]
    waited: float
    parts: Mapping[str, float]
    gradient_norm: float
    skipped: int
    clips: int
    audio_seconds: float
    flops: float
    bucket: int
    pace: Pace
    balance: float
    failed_clips: int
    stage: int
    admitted_buckets: int
    withheld: float
    gauges: Mapping[str, float]

    @property
    def tokens_per_second(self) -> float:
        """Targets trained on per second, over all ranks."""
        return self.tokens / self.seconds

    @property
    def audio_hours_per_hour(self) -> float:
        """How many times faster than real time all ranks together train."""
        return self.audio_seconds / self.seconds

    @property
    def data_share(self) -> float:
        """The share of the step in which a rank waited for its data, the mean over ranks."""
        return self.waited / self.seconds

    @cached_property
    def figures(self) -> dict[str, float]:
        """All of it by flat names, as the log has it."""
        values = {key: value for key, value in vars(self).items() if key not in _GROUPED}
        return {
            **values,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "audio_hours_per_hour": round(self.audio_hours_per_hour, 1),
            "data_share": round(self.data_share, 4),
            **self.pace.figures(),
            **{f"{name}_seconds": value for name, value in self.spent.items()},
            **self.parts,
            **self._group_rates(),
            **self.gauges,
        }

    def scalars(self) -> dict[str, float]:
        """What TensorBoard draws, by tag."""
        return {
            **{tag: self.figures[name] for tag, name in TAGS.items() if name in self.figures},
            **{f"speed/{name}_seconds": value for name, value in self.spent.items()},
            **{f"train/{name}": value for name, value in self.parts.items()},
            **self._group_rates(),
            **self.gauges,
        }

    def _group_rates(self) -> dict[str, float]:
        """Those of groups and components, by tag."""
        return {f"optimizer/lr/{name}": value for name, value in self.rates.items()}


_GROUPED = {"rates", "spent", "parts", "pace", "gauges"}
