"""Where the figures of a run go: log.jsonl and its like, TensorBoard, the terminal."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pretrain.checkpoint.saver import Saved
from pretrain.held_out import OWN
from pretrain.metrics.board import Board
from pretrain.metrics.files import append, append_to, cut_back, finite, json_line
from pretrain.metrics.gauges import Gauge
from pretrain.metrics.lengths import Lengths
from pretrain.metrics.record import StepRecord
from pretrain.metrics.terminal import Terminal, describe_failures
from pretrain.metrics.trackers import Tracker
from pretrain.models.protocol import Preview
from pretrain.scores import ALL
from pretrain.validation import Results, described
from shards.reading import Failure


class Metrics:
    """Writes what a run does; only rank 0 makes one. Usable as a context manager.

    A full disk leaves steps out of the log, which is said, and does not stop the run.
    """

    def __init__(
        self,
        folder: Path,
        start: int,
        terminal: Terminal,
        drawn: Sequence[Board | Tracker],
        gauges: Sequence[Gauge],
        lengths: Lengths,
    ) -> None:
        """Continue the run in ``folder`` after step ``start``; later records are cut off.

        Curves are ``drawn``; ``gauges`` and ``lengths`` are read at each step.
        """
        self._terminal, self._drawn, self._gauges = terminal, drawn, gauges
        self._boards = [one for one in drawn if isinstance(one, Board)]
        self._lengths = lengths
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        cut_back(path, start)
        self._failures = folder / "data_errors.jsonl"
        self._validations, self._saves = folder / "validation.jsonl", folder / "saves.jsonl"
        for more in (self._failures, self._validations, self._saves):
            cut_back(more, start)
        self._log, self._lost = path.open("ab", buffering=0), False

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        for one in self._drawn:
            one.close()

    def failed(self, step: int, failures: Sequence[Failure]) -> None:
        """Append clips that could not be read to data_errors.jsonl."""
        append_to(self._failures, [{"step": step, **asdict(failure)} for failure in failures])
        self._terminal.say(describe_failures(step, failures))

    def write(self, record: StepRecord) -> None:
        """Append one step, with what the gauges say."""
        told = [dict(record.gauges), *(dict(gauge.read(record)) for gauge in self._gauges)]
        record = replace(record, gauges=dict(ChainMap(*told)))
        if append(self._log, json_line(finite(record.figures))):
            self._draw(record.step, record.scalars())
            if histograms := self._lengths.due(record):
                for board in self._boards:
                    board.count(record.step, histograms)
        elif not self._lost:
            self._lost = True
            self._terminal.say(
                f"WARNING: no space left for {self._log.name}; steps from {record.step} on are "
                "not in it"
            )
        self._terminal.step(record)

    def validated(self, step: int, results: Results) -> None:
        """Append one validation to validation.jsonl, draw it and show it."""
        if results.failures:
            self.failed(step, results.failures)
        records: list[dict[str, Any]] = []
        scalars: dict[str, float] = {}
        for name, groups in results.scores.items():
            for group, score in groups.items():
                facts = {"step": step, "set": name, "group": group, "clips": score.clips}
                facts |= {"targets": score.targets, "seconds": round(results.seconds, 3)}
                records.append(facts | finite(score.terms))
                parts = [OWN, *([] if name == OWN else [name]), *([] if group == ALL else [group])]
                scalars |= {"/".join([*parts, term]): v for term, v in score.terms.items()}
        append_to(self._validations, records)
        self._draw(step, scalars)
        self._terminal.say(f"step {step}  validation: {described(results.scores)}")

    def saved(self, saved: Saved) -> None:
        """Append one committed checkpoint to saves.jsonl and draw it; in any thread."""
        append_to(self._saves, [asdict(saved)])
        self._draw(saved.step, {"speed/save_seconds": saved.seconds})

    def previewed(self, step: int, previews: Sequence[Preview]) -> None:
        """Draw pictures and sounds; one that cannot be drawn is left out, which is said."""
        for preview in previews:
            try:
                for board in self._boards:
                    board.preview(step, preview)
            except Exception as error:  # whatever a model of the user's own has made
                self._terminal.say(
                    f"WARNING: the preview of {preview.key} was not drawn: {error!r}"
                )

    def _draw(self, step: int, scalars: Mapping[str, float]) -> None:
        for one in self._drawn:
            one.draw(step, scalars)
