"""``segue shards pack``, ``merge`` and ``repack``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.errors import UserError

if TYPE_CHECKING:
    from shards.pack.config import PackConfig
    from shards.pack.finish import PackReport
    from shards.pack.job import Part


def _place(text: str) -> Path:
    if not text:
        raise UserError("command line: SOURCE or OUT is empty; write . for the folder you are in")
    return Path(text)


CORES = os.cpu_count() or 1
Workers = Annotated[int, typer.Option(min=1, help="Worker processes.")]
Source = Annotated[
    Path,
    typer.Argument(help="A corpus; docs/pack.md lists the kinds.", metavar="SOURCE", parser=_place),
]
Out = Annotated[
    Path,
    typer.Argument(help="Folder for shards, index and rejects.", metavar="OUT", parser=_place),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(help="Settings to change, such as cut.max_seconds=30.", metavar="KEY.SUB=VALUE"),
]
ConfigFile = Annotated[
    Path | None, typer.Option(help="YAML of settings; by default configs/pack.yaml's.")
]
Features = Annotated[
    str | None,
    typer.Option(help="Comma-separated, such as phonemes.espeak,units.mfcc; see docs/pack.md."),
]
Kind = Annotated[
    str | None, typer.Option("--from", help="The kind of corpus, if not to be recognised.")
]
PartOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Do the I-th of N parts; 'segue shards merge OUT' ends it."),
]


def pack(
    source: Source,
    out: Out,
    settings: Settings = None,
    features: Features = None,
    kind: Kind = None,
    config: ConfigFile = None,
    part: PartOption = None,
    workers: Workers = CORES,
) -> None:
    """Pack a corpus into shards. Run again after a kill, it goes on where it was."""
    from shards.pack.job import Part

    chosen = chosen_config(config, settings or [], features)
    _pack(source, out, chosen, kind, Part.parse(part or "1/1"), workers)


def repack(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .tar of WebDataset, or a folder with some.", metavar="SOURCE", parser=_place
        ),
    ],
    out: Out,
    settings: Settings = None,
    config: ConfigFile = None,
    part: PartOption = None,
    workers: Workers = CORES,
) -> None:
    """Sort the clips of WebDataset tars into shards of like lengths, their files as they are."""
    from shards.pack.job import Part

    chosen = chosen_config(config, settings or [])
    _pack(source, out, chosen, "webdataset", Part.parse(part or "1/1"), workers)


def merge(
    out: Out,
    parts: Annotated[
        list[Path] | None, typer.Argument(help="Folders of parts that were packed elsewhere.")
    ] = None,
) -> None:
    """Make one dataset of the parts that 'segue shards pack --part' has packed."""
    from shards.pack.merge import merge as merge_parts

    print_report(merge_parts(out, parts or []), out)


def chosen_config(
    path: Path | None, overrides: Sequence[str], features: str | None = None
) -> PackConfig:
    """The settings of a YAML file, by default the shipped one, with what the command line says.

    UserError as `shards.settings.load`.
    """
    from importlib.resources import as_file, files

    from shards.pack.config import PackConfig
    from shards.settings import load

    with as_file(files("configs") / "pack.yaml") as shipped:
        named = [] if features is None else [f"features=[{features}]"]
        return load(PackConfig, path or shipped, [*overrides, *named])


def _pack(
    source: Path, out: Path, config: PackConfig, kind: str | None, part: Part, workers: int
) -> None:
    from rich.console import Console

    from shards.pack.job import pack as pack_corpus
    from shards.pack.progress import Screen

    with Screen(Console()) as screen:
        report = pack_corpus(
            source, out, config, kind=kind, part=part, workers=workers, watch=screen
        )
    if report is not None:
        print_report(report, out)
    else:
        typer.echo(f"{out}: part {part.number}/{part.count} is there; 'segue shards merge {out}'")


def print_report(report: PackReport, out: Path) -> None:
    """What there is now, and what did not get in."""
    typer.echo(
        f"{out}: {_count(report.clips, 'clip')}, {report.hours:,.2f} h in "
        f"{_count(report.shards, 'shard')}, {report.rejects.total():,} rejected"
    )
    for reason, count in report.rejects.most_common():
        typer.echo(f"  {count:,} x {reason} (rejects.parquet names them)")
    if 0 < report.wordless < report.clips:
        typer.echo(
            f"  {_count(report.wordless, 'clip')} without text: there was none, or it was a whole "
            "recording's that was cut (recording_text in the pieces' facts)"
        )
    if report.near:
        typer.echo(
            f"  {_count(report.near, 'clip')} with the words, speaker and length of another "
            "(duplicates.near=reject leaves them out)"
        )
    if report.wants_validation:
        share = f"{report.validation_share:.1%} of the hours"
        typer.echo(
            f"  for validation: {_count(len(report.validation), 'speaker')}, {share}"
            if report.validation
            else "  nothing is set apart for validation: fewer than two speakers have names"
        )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def index(
    folder: Annotated[Path, typer.Argument(help="A folder with WebDataset tars.", metavar="DIR")],
    settings: Settings = None,
    workers: Workers = CORES,
) -> None:
    """Index WebDataset tars where they lie, so that a run can train on them as they are."""
    from rich.console import Console

    from shards.pack.in_place import index_tars
    from shards.pack.progress import Screen

    chosen = list(settings or [])
    for setting in chosen:
        if not setting.startswith(("duplicates.", "validation=", "seed=")):
            raise UserError(
                f"command line: {setting}: an index in place takes duplicates.*, validation and "
                "seed; 'segue shards repack' takes all settings"
            )
    with Screen(Console()) as screen:
        config = chosen_config(None, chosen)
        report = index_tars(folder, config, workers=workers, watch=screen)
    print_report(report, folder)


def verify(
    folder: Annotated[Path, typer.Argument(help="A folder of shards.", metavar="DIR")],
    workers: Annotated[int, typer.Option(min=1, help="Threads.")] = CORES,
) -> None:
    """Read every shard again and compare with the checksums in the index."""
    from rich.filesize import decimal

    from shards.verify import verify as verify_shards

    read = damaged = 0
    for checked in verify_shards(folder, workers):
        read += checked.shard.bytes
        damaged += bool(checked.damage)
        for damage in checked.damage:
            typer.echo(f"{damage.shard}: {damage.key and damage.key + ': '}{damage.what}")
    if damaged:
        raise UserError(
            f"DIR: {folder} has {_count(damaged, 'damaged shard')}, named above; bring back what "
            "they were, or remove them and run the same 'segue shards pack' again"
        )
    typer.echo(f"{folder}: {decimal(read)} read, all as it was packed")
