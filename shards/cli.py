"""``segue shards``: make, pack and look at shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.commands import commands
from shards.pack.cli import CORES, Workers, index, merge, pack, print_report, repack, verify
from shards.stats.cli import stats

if TYPE_CHECKING:
    from shards.preview import PlannedMicroBatch

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
app.command(name="index")(index)
app.command(name="verify")(verify)
app.command(name="stats")(stats)


Shards = Annotated[str, typer.Argument(help="A folder or URL of shards.", metavar="SHARDS")]
Key = Annotated[str, typer.Argument(help="A clip's key, as a run's messages name it.")]


@app.command()
def show(shards: Shards, key: Key) -> None:
    """What the index knows of a clip, and its members."""
    from shards.show import show as shown

    for line in shown(shards, key).lines():
        typer.echo(line)


@app.command()
def play(
    shards: Shards,
    key: Key,
    out: Annotated[Path | None, typer.Option(help="Write a WAV file instead.")] = None,
) -> None:
    """Let a clip be heard."""
    from tempfile import TemporaryDirectory

    from shards.show import play as heard
    from shards.show import sound, write

    audio = sound(shards, key)
    if out is not None:
        write(audio, out)
        typer.echo(f"{out}: {audio.seconds:.2f} s, {audio.sample_rate} Hz")
        return
    with TemporaryDirectory() as folder:
        heard(audio, Path(folder) / "clip.wav")


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
