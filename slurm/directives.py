"""``#SBATCH`` lines."""

from __future__ import annotations

import re

from shards.errors import UserError


def directive(option: str, value: str) -> str:
    """One ``#SBATCH --option=value`` line; UserError for a value that cannot stand in one."""
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


def further(option: str) -> str:
    """The line of an option that the user has written whole; UserError for what is none."""
    name, equals, value = option.removeprefix("--").partition("=")
    if not re.fullmatch(r"--[a-z][\w-]*", option.partition("=")[0]):
        raise UserError(
            f"sbatch option {option!r}: write it as in a script, such as --exclusive or "
            "--reservation=NAME"
        )
    return directive(name, value) if equals else f"#SBATCH --{name}"
