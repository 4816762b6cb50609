"""``segue shards``: make, pack and look at shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.commands import commands
from shards.pack.cli import CORES, Workers, merge, pack, print_report, repack

if TYPE_CHECKING:
    from shards.preview import PlannedMicroBatch
    from shards.stats import Stats

app = commands("Pack speech into WebDataset shards and look at them.")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the shards, and the speech they hold.")],
    clips: Annotated[int, typer.Option(min=1, help="How many clips to speak.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another corpus.")] = 0,
    workers: Workers = CORES,
) -> None:
    """Synthesise a small bilingual corpus (OUT/speech.list) and pack it into OUT."""
    from shards.demo import speak_corpus
    from shards.pack.job import pack as pack_corpus

    typer.echo(f"speaking {clips} clips")
    listed = speak_corpus(out, clips=clips, seed=seed, workers=workers)
    report = pack_corpus(listed, out, workers=workers)
    if report is not None:
        print_report(report, out)


app.command(name="pack")(pack)
app.command(name="repack")(repack)
app.command(name="merge")(merge)


@app.command(name="stats")
def stats_command(
    folder: Annotated[Path, typer.Argument(help="A folder of shards.", metavar="DIR")],
) -> None:
    """Hours, clips, speakers, languages and the length histogram of a folder of shards."""
    from shards.stats import stats

    _print_stats(stats(folder), folder)


@app.command(name="plan")
def plan_command(
    config: Annotated[Path, typer.Argument(help="A run's YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="data.path=DIR batch.seconds=960 ...")
    ] = None,
    step: Annotated[int, typer.Option(min=0, help="First optimizer step, counted from 0.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each micro-batch.")
    ] = False,
) -> None:
    """What the plan says: the clips of every micro-batch of some steps, for all ranks."""
    from shards.preview import load_plan, planned

    plan = load_plan(config, overrides or [])
    shown = (micro for number in range(step, step + steps) for micro in planned(plan, number))
    if as_json:
        for micro in shown:
            typer.echo(micro.json())
    else:
        _print_plan(list(shown))


def _print_plan(shown: list[PlannedMicroBatch]) -> None:
    form = "{:>8} {:>6} {:>6} {:>6} {:>6} {:>8} {:>8}  {}"
    typer.echo(form.format("step", "micro", "lane", "bucket", "clips", "seconds", "padded", "keys"))
    for micro in shown:
        keys = " ".join(micro.keys[:2]) + (" ..." if len(micro.keys) > 2 else "")
        place = (micro.step, micro.micro, micro.lane, micro.bucket, len(micro.keys))
        typer.echo(form.format(*place, f"{micro.seconds:.2f}", f"{micro.padded_seconds:.2f}", keys))
    true, padded = (sum(getattr(m, name) for m in shown) for name in ("seconds", "padded_seconds"))
    typer.echo(f"{true:.1f} s of audio, {padded:.1f} s padded, padding {1 - true / padded:.2%}")


def _print_stats(found: Stats, folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    facts = Table(title=str(folder), show_header=False)
    facts.add_row("clips", f"{found.clips:,}")
    facts.add_row("hours", f"{found.hours:.2f}")
    facts.add_row("shards", str(found.shards))
    facts.add_row("speakers", str(found.speakers))
    facts.add_row("languages", _counts(found.languages))
    facts.add_row("sources", _counts(found.sources))
    for name, total in found.lengths.items():
        facts.add_row(f"{name}, total", f"{total:,}")
    facts.add_row("seconds", "  ".join(f"p{p} {s:.1f}" for p, s in found.percentiles.items()))
    lengths = Table("up to seconds", "clips", "", title="length buckets")
    most = max(found.histogram)
    for edge, count in zip(found.edges, found.histogram, strict=True):
        lengths.add_row(f"{edge:.2f}", str(count), "#" * round(40 * count / most))
    console = Console()
    console.print(facts)
    console.print(lengths)


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name or '(none)'} {count}" for name, count in ordered[:8])
