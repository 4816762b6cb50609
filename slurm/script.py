"""The job script: slurm/job.sh filled in for one run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Protocol

from shards.errors import UserError
from slurm.directives import directive
from slurm.site import SiteConfig
from slurm.snapshot import JOBS

ASKED = "# What the site wants to know to choose nodes."
SCRIPT, CONFIG, CODE = "job.sh", "config.yaml", "code"
"""Names in a submission's folder."""


@dataclass(frozen=True)
class Resources:
    """What a job reserves. ``time`` is in sbatch's notation; ``lead`` seconds before it ends the
    job is warned. ``array`` are the numbers of an array's tasks, which run one after the other.
    """

    nodes: int
    gpus_per_node: int
    processes_per_node: int
    cpus_per_node: int
    time: str
    lead: int = 0
    array: str | None = None
    dependency: str | None = None

    @property
    def world_size(self) -> int:
        """Processes on all nodes together."""
        return self.nodes * self.processes_per_node


@dataclass(frozen=True)
class Job:
    """One run as a job. Paths are absolute.

    ``submitted`` is the folder of this submission, with the code, the config and the script;
    ``accelerate_config`` a name in the code's configs/accelerate.
    """

    name: str
    folder: Path
    submitted: Path
    working_folder: Path
    python: Path
    accelerate_config: str
    resources: Resources
    site: SiteConfig


class ShellTemplate(Template):
    """A template that leaves ``$`` to the shell."""

    delimiter = "@@"


def render(job: Job) -> str:
    """The job script as text; UserError for a value that sbatch cannot read from a script."""
    resources, site = job.resources, job.site
    gpus = [directive("gpus-per-node", str(resources.gpus_per_node))]
    number = "%A_%a" if resources.array else "%j"
    return template(SCRIPT).substitute(
        common(
            job,
            name=job.name,
            log=(job.folder / JOBS, f"job-{number}.out"),
            cores=resources.cpus_per_node,
            time=resources.time,
            gpus=gpus if resources.gpus_per_node else [],
        ),
        dependency="\n".join(_order(resources)),
        nodes=directive("nodes", str(resources.nodes)),
        signal=directive("signal", f"B:USR1@{resources.lead}"),
        run=shlex.quote(str(job.folder)),
        processes=resources.processes_per_node,
        cpu="" if resources.gpus_per_node else " --cpu",
        accelerate_config=shlex.quote(job.accelerate_config),
        **container(site, [job.working_folder, job.folder], bool(resources.gpus_per_node)),
        limits="".join(f" \\\n    {limit}" for limit in _limits(job)),
    )


class Submission(Protocol):
    """What the scripts of all jobs are written from."""

    @property
    def submitted(self) -> Path: ...
    @property
    def working_folder(self) -> Path: ...
    @property
    def python(self) -> Path: ...
    @property
    def site(self) -> SiteConfig: ...


def template(name: str) -> ShellTemplate:
    """A script of this package that is to be filled in."""
    return ShellTemplate(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def common(
    job: Submission,
    *,
    name: str,
    log: tuple[Path, str],
    cores: int,
    time: str,
    gpus: Sequence[str],
) -> dict[str, str]:
    """What the scripts of all jobs say.

    ``log`` is the folder and name of what the job prints into, the name with sbatch's signs;
    ``gpus`` are the lines that ask for them.
    """
    asked = [*gpus, *job.site.directives()]
    return {
        "name": directive("job-name", name),
        "chdir": directive("chdir", str(job.working_folder)),
        # sbatch replaces %j; a percent sign of the folder's own is doubled.
        "output": directive("output", str(log[0]).replace("%", "%%") + f"/{log[1]}"),
        "cpus": directive("cpus-per-task", str(cores)),
        "time": directive("time", time),
        "asked": "".join(f"{line}\n" for line in ([ASKED, *asked] if asked else [])),
        "setup": "".join(f"{line}\n" for line in setup(job.site)),
        "submitted": shlex.quote(str(job.submitted)),
        "python": "\n".join(interpreter(job.site, job.python)),
    }


def setup(site: SiteConfig) -> Iterator[str]:
    """The site's own lines and variables."""
    if site.setup:
        yield "trap 'echo \"setup of the site failed: $BASH_COMMAND\" >&2' ERR"
        yield from site.setup
        yield "trap - ERR"
    for name, value in site.environment.items():
        yield f"export {name}={shlex.quote(value)}"


def interpreter(site: SiteConfig, python: Path) -> Iterator[str]:
    """Which Python runs; ``python`` is the one that submits."""
    if site.python or site.container:
        yield f"python={shlex.quote(site.python or 'python3')}"
        return
    yield "# The Python that submitted the job."
    yield f"python={shlex.quote(str(python))}"
    yield f'export PATH={shlex.quote(str(python.parent))}:"$PATH"'


def _order(resources: Resources) -> Iterator[str]:
    after = resources.dependency
    if after and "?" in after:
        raise UserError(
            f"--dependency {after}: with '?' it cannot be joined with the rule that one job of a "
            "run is at work at a time; separate conditions by ','"
        )
    yield directive("dependency", f"{after},singleton" if after else "singleton")
    if after:
        yield directive("kill-on-invalid-dep", "yes")
    if resources.array:
        yield "# Tasks that go on with the run one after the other, each with its own time limit."
        yield directive("array", f"{resources.array.partition('%')[0]}%1")


def container(site: SiteConfig, needed: list[Path], gpus: bool) -> dict[str, str]:
    """The parts of a script that put the processes into a container, "" without one.

    It sees the folders ``needed`` and starts in the first.
    """
    if site.container is None:
        return {"step": "", "inside": "", "alone": ""}
    folders = [str(one) for one in needed if not any(up in needed for up in one.parents)]
    if site.container_runtime == "pyxis":
        mounts = ",".join([*(f"{folder}:{folder}" for folder in folders), *site.mounts])
        words = (
            f"--container-image={site.container}",
            f"--container-mounts={mounts}",
            f"--container-workdir={needed[0]}",
        )
        step = " \\\n    " + shlex.join(words)
        return {"step": step, "inside": "", "alone": _alone(step)}
    binds = [word for folder in [*folders, *site.mounts] for word in ("--bind", folder)]
    nv = ["--nv"] if gpus else []
    program = [site.container_runtime, "exec", *nv, *binds, "--pwd", str(needed[0]), site.container]
    inside = shlex.join(program) + " \\\n    "
    return {"step": "", "inside": inside, "alone": _alone("") + inside}


def _alone(step: str) -> str:
    return f'srun --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME"{step} \\\n    '


def _limits(job: Job) -> Iterator[str]:
    yield f"--max-requeues {job.site.max_requeues}"
    yield f"--max-failures {job.site.max_failures}"
    if job.site.exclude_failed:
        yield "--exclude-failed"
    if job.resources.array:
        yield '--tasks-left "$((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_ID))"'
