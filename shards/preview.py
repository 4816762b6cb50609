"""What the plan says of some steps, to look at or to check from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict, Field

from shards import settings
from shards.dataset import DataConfig, open_plan
from shards.plan import BatchConfig, MicroBatch, Plan
from shards.section import Section


class PlanSettings(Section):
    """The sections of a run's configuration that its data order depends on."""

    model_config = ConfigDict(extra="ignore")

    data: DataConfig
    batch: BatchConfig
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class PlannedMicroBatch:
    """A micro-batch by the keys of its clips; a stand-in that does not count has none."""

    step: int
    micro: int
    lane: int
    bucket: int
    keys: tuple[str, ...]
    seconds: float
    padded_seconds: float

    def json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def load_plan(path: Path, overrides: Sequence[str]) -> Plan:
    """The plan of a run's configuration; UserError as `settings.load` and `open_plan`."""
    chosen = settings.load(PlanSettings, path, overrides)
    return open_plan(chosen.data, chosen.batch, chosen.seed)


def planned(plan: Plan, step: int) -> Iterator[PlannedMicroBatch]:
    """All micro-batches of optimizer step ``step``, counted from 0."""
    for micro in plan.share(plan.step(step)):
        yield _described(plan, micro)


def _described(plan: Plan, micro: MicroBatch) -> PlannedMicroBatch:
    rows = micro.rows if micro.counted else micro.rows[:0]
    seconds = plan.corpus.seconds(rows)
    return PlannedMicroBatch(
        step=micro.step,
        micro=micro.index,
        lane=micro.index,
        bucket=micro.bucket,
        keys=tuple(plan.corpus.key(int(row)) for row in rows),
        seconds=round(float(seconds.sum()), 4),
        padded_seconds=round(len(rows) * float(seconds.max(initial=0.0)), 4),
    )
