"""What a run says of each step: log.jsonl, TensorBoard and a line on the terminal."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from io import RawIOBase
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pretrain.checkpoint.saver import Saved
from pretrain.models.protocol import Preview
from pretrain.pace import Pace, Stragglers
from pretrain.scores import ALL
from pretrain.validation import OWN, Results, described
from shards.atomic import replacing
from shards.reading import Failure

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_DISK_FULL = {errno.EDQUOT, errno.ENOSPC}
TAGS = {
    "train/loss": "loss",
    "train/gradient_norm": "gradient_norm",
    "train/skipped_steps": "skipped",
    "optimizer/lr": "lr",
    "data/padding": "padding",
    "data/epoch": "epoch",
    "data/bucket": "bucket",
    "data/clips": "clips",
    "data/balance": "balance",
    "data/failed_clips": "failed_clips",
    "curriculum/stage": "stage",
    "curriculum/admitted_buckets": "admitted_buckets",
    "curriculum/withheld": "withheld",
    "speed/tokens_per_second": "tokens_per_second",
    "speed/step_seconds": "seconds",
    "speed/data_wait_seconds": "data_seconds",
    "speed/slowest_rank": "slowest_rank",
}


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step over all ranks, which ended at ``time`` (Unix seconds).

    ``step`` counts from 1 to the run's ``target`` and ``epoch`` is the fraction of epochs done
    after it; ``loss`` and the model's other ``parts`` are means over the step's ``tokens`` targets;
    ``padding`` is the padded share of the batches' audio; ``seconds`` is the wall time, of which
    ``data_seconds`` waited for data. ``balance`` is the heaviest rank's padded audio over the mean;
    ``rates`` are those of the optimizer's groups, by name, of which ``lr`` is the base.
    ``failed_clips`` could not be read and were left out. ``withheld`` is the share of clips that
    the curriculum has yet to admit. ``pace`` is how long each rank was busy.
    """

    step: int
    target: int
    time: float
    epoch: float
    loss: float
    lr: float
    rates: Mapping[str, float]
    tokens: int
    padding: float
    seconds: float
    parts: Mapping[str, float]
    gradient_norm: float
    skipped: int
    clips: int
    audio_seconds: float
    bucket: int
    data_seconds: float
    pace: Pace
    balance: float
    failed_clips: int
    stage: int
    admitted_buckets: int
    withheld: float

    @property
    def tokens_per_second(self) -> float:
        """Targets trained on per second, over all ranks."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Shown:
    """What the terminal sees: one step in ``every``, and the last.

    ``hosts`` are the machines of all ranks, to name one that is slow.
    """

    say: Callable[[str], None]
    every: int
    hosts: Sequence[str]


class Metrics:
    """Writes step records; only rank 0 makes one. Usable as a context manager.

    A full disk leaves steps out of the log, which is said, and does not stop the run.
    """

    def __init__(self, folder: Path, start: int, shown: Shown) -> None:
        """Continue the run in ``folder`` after step ``start``; later records are cut off."""
        self._shown, self._stragglers = shown, Stragglers(shown.hosts)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        cut_back(path, start)
        self._failures = folder / "data_errors.jsonl"
        self._validations, self._saves = folder / "validation.jsonl", folder / "saves.jsonl"
        for more in (self._validations, self._saves):
            cut_back(more, start)
        self._log = path.open("ab", buffering=0)
        self._folder, self._lost, self._drawing = folder / "tensorboard", 0, Lock()
        self._board = self._new_board(start + 1 if start else 0)  # a new run draws step 0 itself

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        with suppress(OSError):
            self._board.close()

    def failed(self, step: int, failures: Sequence[Failure]) -> None:
        """Append clips that could not be read to data_errors.jsonl."""
        _append_to(self._failures, [{"step": step, **asdict(failure)} for failure in failures])
        self._shown.say(describe_failures(step, failures))

    def write(self, record: StepRecord) -> None:
        """Append one step."""
        values = asdict(record) | {"tokens_per_second": round(record.tokens_per_second, 1)}
        del values["pace"]
        values |= record.pace.figures() | values.pop("parts")
        rates = values.pop("rates")
        if _append(self._log, json.dumps(finite(values)) + "\n"):
            scalars = {tag: values[name] for tag, name in TAGS.items()}
            scalars["speed/slowest_over_median"] = record.pace.slowest_over_median
            scalars |= {f"train/{name}": value for name, value in record.parts.items()}
            if len(rates) > 1:
                scalars |= {f"optimizer/lr/{name}": value for name, value in rates.items()}
            self._draw(record.step, scalars)
        else:
            self._lost += 1
            if self._lost == 1:
                self._shown.say(
                    f"WARNING: no space left for {self._log.name}; steps from {record.step} on are "
                    "not in it"
                )
        self._stragglers.add(record.pace)
        if record.step % self._shown.every == 0 or record.step == record.target:
            self._shown.say(line(record))
            if slow := self._stragglers.told():
                self._shown.say(slow)

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
        _append_to(self._validations, records)
        self._draw(step, scalars)
        self._shown.say(f"step {step}  validation: {described(results.scores)}")

    def saved(self, saved: Saved) -> None:
        """Append one committed checkpoint to saves.jsonl and draw it; in any thread."""
        _append_to(self._saves, [asdict(saved)])
        self._draw(saved.step, {"speed/save_seconds": saved.seconds})

    def previewed(self, step: int, previews: Sequence[Preview]) -> None:
        """Draw pictures and sounds; one that cannot be drawn is left out, which is said."""
        for preview in previews:
            try:
                self._on_board(step, partial(_add_preview, preview, step))
            except Exception as error:  # whatever a model of the user's own has made
                self._shown.say(f"WARNING: the preview of {preview.key} was not drawn: {error!r}")

    def _new_board(self, step: int) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=step)

    def _draw(self, step: int, scalars: Mapping[str, float]) -> None:
        self._on_board(step, partial(_add_scalars, scalars, step))

    def _on_board(self, step: int, add: Callable[[SummaryWriter], None]) -> None:
        with self._drawing:
            try:
                if self._lost:  # a writer that met a full disk is of no use any more
                    self._board, self._lost = self._new_board(step), 0
                add(self._board)
            except OSError:
                self._lost = self._lost or 1


def _add_scalars(scalars: Mapping[str, float], step: int, board: SummaryWriter) -> None:
    for tag, value in scalars.items():
        board.add_scalar(tag, value, step)


def _add_preview(preview: Preview, step: int, board: SummaryWriter) -> None:
    for name, picture in preview.pictures.items():
        tag = f"preview/{preview.key}/{name}"
        board.add_image(tag, picture, step, dataformats="HWC")
    for name, sound in preview.sounds.items():
        tag = f"preview/{preview.key}/{name}"
        board.add_audio(tag, sound.samples, step, sample_rate=sound.sample_rate)


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """The values, None for those that JSON has no number for."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _append_to(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    with path.open("ab", buffering=0) as file:
        _append(file, "".join(json.dumps(record) + "\n" for record in records))


def _append(file: RawIOBase, text: str) -> bool:
    """Whether there was room for all of it; else nothing of it is there."""
    content, size = text.encode(), file.seek(0, os.SEEK_END)
    try:
        if file.write(content) == len(content):
            return True
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
    file.truncate(size)
    return False


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
        f"padding {record.padding:.1%}  grad norm {record.gradient_norm:.2f}"
    )


def read_log(path: Path) -> list[dict[str, float]]:
    """The whole records of a log; what a kill left half-written is left out."""
    if not path.exists():
        return []
    records = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return records


def cut_back(path: Path, step: int) -> None:
    """Drop records after ``step``, atomically."""
    if not path.exists():
        return
    kept = [record for record in read_log(path) if record["step"] <= step]
    with replacing(path) as aside:
        aside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
