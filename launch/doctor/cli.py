"""``segue doctor``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from launch.accelerate import Meeting
    from launch.doctor.finding import Finding

WIDTH = 14
REMEDY = " " * (10 + WIDTH)


def doctor(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Where a run would write.")
    ] = Path("runs"),
    nproc: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; by default one per GPU, or 2 without any."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines, each with this command.")] = 1,
    node_rank: Annotated[int, typer.Option(min=0, help="This machine's number, from 0.")] = 0,
    head: Annotated[
        str | None, typer.Option(help="Machine 0, as all machines reach it.", metavar="HOST")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Free port of machine 0.")] = 29500,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON list instead of lines.")
    ] = False,
) -> None:
    """Examine versions, GPUs, network, disk and limits; exit code 1 where a run would fail."""
    from launch.accelerate import Meeting, free_port
    from launch.doctor.finding import exit_code
    from launch.local import meeting

    place = meeting(nodes, node_rank, head, port) or Meeting(1, 0, "127.0.0.1", free_port())
    findings: list[Finding] = []
    for finding in examine(run_folder, nproc, place):
        findings.append(finding)
        if not as_json:
            typer.echo(line(finding))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    raise typer.Exit(exit_code(findings))


def line(finding: Finding) -> str:
    """A finding as the terminal shows it."""
    said = f"{finding.state:8}  {finding.name:{WIDTH}}{finding.found}"
    return f"{said}\n{REMEDY}-> {finding.remedy}" if finding.remedy else said


def examine(run_folder: Path, nproc: int | None, place: Meeting) -> Iterator[Finding]:
    """All checks, each when it is done; UserError for more processes than GPUs."""
    import os
    import shutil

    from launch.doctor import gpus, machine
    from launch.doctor.ranks import check_ranks
    from launch.doctor.versions import check_versions
    from pretrain.preflight import choose_device

    seen = gpus.look()
    count = nproc or len(seen.gpus) or 2
    device = choose_device("auto", count)
    yield from check_versions()
    yield from gpus.judge_gpus(seen)
    yield from gpus.judge_network(seen.nics, machine.memory_lock())
    yield from machine.check_shared_memory(len(seen.gpus))
    yield from machine.check_open_files()
    yield from machine.check_disk(run_folder)
    yield from machine.judge_slurm(os.environ, shutil.which("sbatch"), place.nodes)
    yield from check_ranks(count, place, device)
