"""The disk, the shared memory, the limits and the cluster of this machine."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from launch.doctor.finding import Finding, fail, ok, warning

WRITTEN = 256 << 20
BLOCK = 8 << 20
SLOW = 100e6
"""Bytes a second below which a checkpoint of 77 million parameters takes 10 s."""
LITTLE_SPACE = 20e9
SMALL_SHARED = 1 << 30
FEW_FILES = 4096
SHARED = Path("/dev/shm")


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest folder above it that is there.

    OSError where a file stands in its place, or where that cannot be looked up.
    """
    path = path.absolute()
    found = next(one for one in (path, *path.parents) if one.exists())
    if not found.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{found} is not a folder")
    return found


def check_disk(run_folder: Path) -> list[Finding]:
    """Writes and removes a file where a run would lie, or in the nearest folder above."""
    place = run_folder
    try:
        place = nearest_folder(run_folder)
        rate, free = write_rate(place), shutil.disk_usage(place).free
    except OSError as error:
        found = f"{place} cannot be written: {error.strerror}"
        return [fail("disk", found, "name another folder with run.dir")]
    return judge_disk(place, rate, free)


def write_rate(folder: Path, size: int = WRITTEN) -> float:
    """Bytes a second that reach the disk under ``folder``; OSError where it cannot be written."""
    block = os.urandom(BLOCK)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        begin = time.perf_counter()
        for _ in range(size // BLOCK):
            file.write(block)
        os.fsync(file.fileno())
        return size // BLOCK * BLOCK / (time.perf_counter() - begin)


def judge_disk(place: Path, rate: float, free: float) -> list[Finding]:
    """How fast checkpoints are written, and whether they have room."""
    found = f"{place}: writes {rate / 1e6:,.0f} MB/s, {free / 1e9:,.0f} GB free"
    if rate < SLOW:
        mend = "put the run on a faster disk with run.dir, or its checkpoints with checkpoint.dir"
        return [warning("disk", found, mend)]
    if free < LITTLE_SPACE:
        mend = "make room, or keep fewer checkpoints: checkpoint.keep_last"
        return [warning("disk", found, mend)]
    return [ok("disk", found)]


def check_shared_memory(gpus: int) -> list[Finding]:
    """Looks at /dev/shm."""
    if not SHARED.is_dir():
        return [fail("shared memory", f"{SHARED} is not there", "mount a tmpfs on it")]
    return judge_shared_memory(shutil.disk_usage(SHARED).total, gpus)


def judge_shared_memory(size: int, gpus: int) -> list[Finding]:
    """Loaders pass batches through it, and NCCL its messages between several GPUs."""
    found = f"{size / 2**20:,.0f} MiB"
    if size >= SMALL_SHARED:
        return [ok("shared memory", found)]
    mend = "docker run --shm-size=8g, or --ipc=host"
    return [(fail if gpus > 1 else warning)("shared memory", found, mend)]


def check_open_files() -> list[Finding]:
    """Looks at this process's limit, which a run inherits."""
    return judge_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))


def judge_open_files(soft: int, hard: int) -> list[Finding]:
    """How many files and connections one process may hold."""
    if soft == resource.RLIM_INFINITY:
        return [ok("open files", "no limit")]
    if soft >= FEW_FILES:
        return [ok("open files", f"{soft}")]
    enough = hard if hard != resource.RLIM_INFINITY and hard < 65536 else 65536
    return [warning("open files", f"{soft} for a process", f"ulimit -n {enough}")]


def memory_lock() -> int | None:
    """How many bytes a process may lock, None for any number."""
    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def judge_slurm(environ: Mapping[str, str], sbatch: str | None, nodes: int) -> list[Finding]:
    """Whether this is a job, or a machine that jobs are submitted from."""
    job = environ.get("SLURM_JOB_ID")
    if job is None:
        found = "jobs can be submitted from here" if sbatch else "none here"
        return [ok("slurm", found)]
    of = int(environ.get("SLURM_NNODES", "1"))
    found = f"job {job} with {of} node(s), this is {environ.get('SLURM_NODEID', '0')}"
    if of == nodes:
        return [ok("slurm", found)]
    mend = (
        "examine all: srun --ntasks-per-node=1 bash -c 'segue doctor --nodes $SLURM_NNODES "
        "--node-rank $SLURM_NODEID --head FIRST_NODE'"
    )
    return [warning("slurm", f"{found}; the others are not examined", mend)]
