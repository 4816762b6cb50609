"""The job script: slurm/job.sh filled in for one run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from shards.errors import UserError

CPU = """
# No GPUs: DeepSpeed's CPU accelerator, and an equal share of the cores for each process.
export DS_ACCELERATOR=cpu
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / processes))
"""
ASKED = "# What the site needs to know to choose nodes."


@dataclass(frozen=True)
class Resources:
    """What a job reserves. ``time`` and all after it are in sbatch's own notation."""

    nodes: int
    gpus_per_node: int
    processes_per_node: int
    cpus_per_node: int
    time: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None

    @property
    def world_size(self) -> int:
        """Processes on all nodes together."""
        return self.nodes * self.processes_per_node


@dataclass(frozen=True)
class Job:
    """One run as a job. Paths are absolute; ``programs`` is the folder that holds accelerate."""

    name: str
    folder: Path
    working_folder: Path
    programs: Path
    accelerate_config: Path
    config: Path
    overrides: tuple[str, ...]
    resources: Resources


class _Script(Template):
    """A template that leaves ``$`` to the shell."""

    delimiter = "@@"


def render(job: Job) -> str:
    """The job script as text; UserError for a value that sbatch cannot read from a script."""
    resources = job.resources
    template = Path(__file__).with_name("job.sh").read_text(encoding="utf-8")
    return _Script(template).substitute(
        name=_directive("job-name", job.name),
        chdir=_directive("chdir", str(job.working_folder)),
        # sbatch replaces %j; a percent sign of the folder's own is doubled.
        output=_directive("output", f"{job.folder}".replace("%", "%%") + "/slurm-%j.out"),
        nodes=_directive("nodes", str(resources.nodes)),
        cpus=_directive("cpus-per-task", str(resources.cpus_per_node)),
        time=_directive("time", resources.time),
        asked="\n".join(_asked(resources)),
        programs=shlex.quote(str(job.programs)),
        processes=resources.processes_per_node,
        cpu="" if resources.gpus_per_node else CPU,
        accelerate_config=shlex.quote(str(job.accelerate_config)),
        run="\n    ".join(shlex.quote(word) for word in (str(job.config), *job.overrides)),
    )


def _asked(resources: Resources) -> Iterator[str]:
    wanted = {
        "gpus-per-node": str(resources.gpus_per_node) if resources.gpus_per_node else None,
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
    }
    lines = [_directive(option, value) for option, value in wanted.items() if value is not None]
    if lines:
        yield ASKED
        yield from lines


def _directive(option: str, value: str) -> str:
    # Inside double quotes sbatch (22.05) takes everything as it is, but a backslash switches off
    # the %-patterns of --output and a line break ends the directive.
    if re.search(r"[\\\x00-\x1f]", value):
        raise UserError(
            f"--{option}={value!r} cannot stand in a job script; write it without line breaks "
            "and backslashes"
        )
    if re.fullmatch(r"[\w@%+=:,./-]+", value):
        return f"#SBATCH --{option}={value}"
    quoted = value.replace('"', '\\"')
    return f'#SBATCH --{option}="{quoted}"'
