"""What a run says on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pretrain.metrics.record import StepRecord
from pretrain.pace import Stragglers
from shards.reading import Failure


class Terminal:
    """Shows one step in ``every`` and the last by ``say``.

    ``hosts`` are the machines of all ranks, to name one that is slow.
    """

    def __init__(self, say: Callable[[str], None], every: int, hosts: Sequence[str]) -> None:
        self.say, self._every, self._stragglers = say, every, Stragglers(hosts)

    def step(self, record: StepRecord) -> None:
        """Count a step, and show it where it is its turn."""
        self._stragglers.add(record.pace)
        if record.step % self._every == 0 or record.step == record.target:
            self.say(line(record))
            if slow := self._stragglers.told():
                self.say(slow)


def describe_failures(step: int, failures: Sequence[Failure]) -> str:
    """A line about clips that were left out of a step."""
    first = failures[0]
    return (
        f"step {step}: {len(failures)} clip(s) left out, {first.key} of {first.shard}: "
        f"{first.reason} (data_errors.jsonl lists all)"
    )


def line(record: StepRecord) -> str:
    """One readable line for the terminal."""
    return (
        f"step {record.step}/{record.target}  epoch {record.epoch:.2f}  loss {record.loss:.4f}  "
        f"lr {record.lr:.2e}  {record.tokens_per_second:,.0f} tokens/s  "
        f"{record.audio_hours_per_hour:,.0f} x real time  "
        f"padding {record.padding:.1%}  grad norm {record.gradient_norm:.2f}"
    )
