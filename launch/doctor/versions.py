"""Installed packages against what Segue asks for, and against one another."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from launch.doctor.finding import Finding, fail, ok, warning

PACKAGE = "segue-speech"
SHOWN = ("torch", "torchaudio", "deepspeed", "accelerate", "transformers")
"""Packages with a line of their own; others are only named where they do not fit."""
AGAIN = "install Segue again: pip install --editable ."


def check_versions() -> list[Finding]:
    """What is installed here."""
    try:
        about = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        return [warning("packages", f"{PACKAGE} is not installed, only its files are here", AGAIN)]
    wanted = [Requirement(line) for line in metadata.requires(PACKAGE) or []]
    always = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    installed = {one.name: found for one in always if (found := _version(one.name))}
    return [
        judge_python(platform.python_version(), about["Requires-Python"]),
        *judge_packages(always, installed),
        *judge_pair(installed),
    ]


def judge_python(version: str, wanted: str) -> Finding:
    """Whether this is a Python that Segue knows."""
    if Version(version) in SpecifierSet(wanted):
        return ok("python", version)
    return fail("python", version, f"make the virtual environment with a Python {wanted}")


def judge_packages(wanted: Sequence[Requirement], installed: Mapping[str, str]) -> list[Finding]:
    """A line for each package that matters or does not fit."""
    findings: list[Finding] = []
    for one in wanted:
        version = installed.get(one.name)
        if version is None:
            findings.append(fail(one.name, "not installed", AGAIN))
        elif not one.specifier.contains(version, prereleases=True):
            mend = f'pip install "{one.name}{one.specifier}"'
            findings.append(fail(one.name, f"{version} is not {one.specifier}", mend))
        elif one.name in SHOWN:
            findings.append(ok(one.name, version))
    return findings


def judge_pair(installed: Mapping[str, str]) -> list[Finding]:
    """torchaudio loads only beside a torch of its minor version, built for the same CUDA."""
    if not {"torch", "torchaudio"} <= set(installed):
        return []
    torch, audio = Version(installed["torch"]), Version(installed["torchaudio"])
    if torch.release[:2] != audio.release[:2] or _differ(torch.local, audio.local):
        return [
            fail(
                "torch and torchaudio",
                f"{torch} beside {audio}",
                f'pip install "torchaudio=={torch.base_version}" from the index torch came from',
            )
        ]
    return []


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
