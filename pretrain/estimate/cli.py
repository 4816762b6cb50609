"""``segue estimate``: what a run will take, without a GPU and without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pretrain.arguments import ConfigFile, Machines, Overrides, ProcessesEach

if TYPE_CHECKING:
    from pretrain.estimate.estimate import Throughput


def estimate(
    config: ConfigFile,
    overrides: Overrides = None,
    nproc: ProcessesEach = 1,
    nodes: Machines = 1,
    gpu_memory: Annotated[
        str | None,
        typer.Option(
            metavar="GB|NAME", help="A GPU's memory or name (a100, h100, ...); else the one here."
        ),
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=1e-9, help="Targets a second over all processes.")
    ] = None,
    hours_per_hour: Annotated[
        float | None, typer.Option(min=1e-9, help="Hours of audio an hour over all processes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell parameters, memory under each ZeRO stage, steps, hours, disk and time of a run.

    Nothing is trained and no GPU is needed. The time is told where a throughput is given, or where
    the run's own log has one.
    """
    given = _throughput(tokens_per_second, hours_per_hour)
    from pretrain.config import load
    from pretrain.estimate.estimate import estimate as estimated
    from pretrain.estimate.gpus import gpu_memory as memory_of
    from pretrain.preflight import check

    settings = load(config, overrides or [])
    gpu, ranks = memory_of(gpu_memory), nproc * nodes
    # What is to train elsewhere is not looked for here.
    device = "cpu" if settings.device == "cpu" else "cuda"
    ready = check(settings, world_size=ranks, device=device, environ={})
    found = estimated(settings, ready, ranks=ranks, gpu=gpu, throughput=given)
    if as_json:
        import json

        from pretrain.estimate.figures import as_object

        typer.echo(json.dumps(as_object(found)))
    else:
        from pretrain.estimate.tables import show

        show(found)


def _throughput(tokens: float | None, hours: float | None) -> Throughput | None:
    from pretrain.estimate.estimate import Throughput
    from shards.errors import UserError

    if tokens is not None and hours is not None:
        raise UserError(
            "--tokens-per-second and --hours-per-hour are both given; keep the one you know"
        )
    if tokens is None and hours is None:
        return None
    return Throughput(tokens_per_second=tokens, hours_per_hour=hours)
