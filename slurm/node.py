"""``python -m slurm.node``: one node's part of a training job. The job script runs it on each."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.accelerate import Meeting, launch_words, process_environment


def main(arguments: Sequence[str]) -> int:
    """Show the command, run what it stands for; its exit code, as `launch.node` has it."""
    from rich.console import Console

    from launch import node
    from launch.summary import Ended, show

    given = _parser().parse_args(arguments)
    told = words(given, os.environ)
    os.environ.update(process_environment(given.processes, "cpu" if given.cpu else "cuda"))
    if os.environ["SLURM_NODEID"] == "0":
        print(f"node 0 runs accelerate launch {shlex.join(told)}", flush=True)
    since = time.time()
    code = node.main([given.run, *told])
    if os.environ["SLURM_NODEID"] == "0":
        show(Ended(Path(given.run), since, code), Console())
    return code


def words(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What accelerate launch is told on this node of a job."""
    nodes, rank = int(environ["SLURM_NNODES"]), int(environ["SLURM_NODEID"])
    meeting = Meeting(nodes, rank, given.head, given.port)
    program = ("-m", "pretrain", given.config)
    return launch_words(given.accelerate_config, given.processes, meeting, program)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m slurm.node", description=__doc__)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("config", help="the run's settled config")
    parser.add_argument("--accelerate-config", required=True, help="the ZeRO stage's file")
    parser.add_argument("--processes", type=int, required=True, help="on each node")
    parser.add_argument("--head", required=True, help="node 0, as the others reach it")
    parser.add_argument("--port", type=int, required=True, help="a free port of node 0")
    parser.add_argument("--cpu", action="store_true", help="the nodes have no GPUs")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
