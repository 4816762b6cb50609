"""What a cluster wants of every job, written once: ``~/.config/segue/slurm.yaml``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from shards import settings
from shards.errors import UserError
from shards.section import Section
from slurm.directives import directive, further


class SiteConfig(Section):
    """Defaults of the commands that submit jobs; the command line comes before them."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    mem: str | None = Field(default=None, description="memory of a node, as sbatch writes it")
    mail: str | None = Field(default=None, description="address that is told of ends and requeues")
    time: str | None = Field(default=None, description="time limit, as sbatch writes it")
    gpus_per_node: int | None = Field(default=None, ge=0)
    sbatch: list[str] = Field(default=[], description="further options, such as --exclusive")
    setup: list[str] = Field(default=[], description="shell lines before the job, as module load")
    environment: dict[str, str] = Field(default={}, description="variables of every process")
    python: str | None = Field(
        default=None, description="the interpreter; by default the one that submits"
    )
    container: str | None = Field(default=None, description="image that the processes run in")
    container_runtime: Literal["pyxis", "apptainer", "singularity"] = "pyxis"
    mounts: list[str] = Field(default=[], description="folders that the container sees")
    lead: int | None = Field(
        default=None, ge=1, le=65535, description="seconds between the warning and the time limit"
    )
    max_requeues: int = Field(
        default=100, ge=0, description="starts again after a time limit, preemption or lost node"
    )
    max_failures: int = Field(default=3, ge=0, description="starts again after a failure")
    exclude_failed: bool = Field(
        default=False, description="start again without the node that failed"
    )

    @field_validator("environment")
    @classmethod
    def _shell_names(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(
                    f"{name!r} cannot be a variable; use letters, digits and '_', and no digit "
                    "first"
                )
        return environment

    def overridden(self, given: dict[str, Any]) -> SiteConfig:
        """With what the command line gives, by the names of the fields; None is left out there.

        UserError for a value outside its limits, with the option's name.
        """
        said = {name: value for name, value in given.items() if value is not None}
        said["sbatch"] = [*self.sbatch, *said.get("sbatch", [])]
        try:
            return SiteConfig.model_validate(self.model_dump(exclude_unset=True) | said)
        except ValidationError as error:
            raise UserError(_as_option(error)) from error

    def directives(self) -> list[str]:
        """The ``#SBATCH`` lines that follow; UserError for a value that cannot stand in one."""
        asked = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "mem": self.mem,
            "mail-user": self.mail,
            "mail-type": self.mail and "END,FAIL,REQUEUE",
        }
        lines = [directive(option, value) for option, value in asked.items() if value]
        return [*lines, *map(further, self.sbatch)]


def _as_option(error: ValidationError) -> str:
    first = error.errors()[0]
    option = f"--{first['loc'][0]}".replace("_", "-")
    return f"{option} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}"


def site_files() -> tuple[Path, Path]:
    """The files read, the second over the first: the installation's and the user's own."""
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(__file__).with_name("site.yaml"), own / "segue" / "slurm.yaml"


def load_site() -> SiteConfig:
    """What the site files say; UserError for a wrong key or value, with the file's name."""
    said: dict[str, Any] = {}
    for path in site_files():
        if path.exists():
            said |= settings.load_as_written(SiteConfig, path).model_dump(exclude_unset=True)
    return SiteConfig.model_validate(said)
