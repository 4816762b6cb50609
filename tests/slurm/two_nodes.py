"""A SLURM cluster of two nodes on this machine, in a folder of its own."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
EnforcePartLimits=ALL
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
SchedulerParameters=batch_sched_delay=1,sched_interval=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=2000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=n1,n2 MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster; ``conf`` is what SLURM_CONF must say, ``nodes`` its slurmds by name."""

    conf: Path
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd as a child in the foreground: it ends with the test run."""
        with (self.conf.parent / "daemons.log").open("a") as log:
            command = ["slurmd", "-D", "-N", node, "-f", str(self.conf)]
            self.nodes[node] = subprocess.Popen(command, stdout=log, stderr=log)

    def mend_node(self, node: str) -> None:
        """Start a lost node again."""
        self.start_node(node)
        self.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def lose_node(self, node: str) -> None:
        """Kill a node's slurmd and all that runs on it, as a power failure does.

        The controller is told, as a health check does: it would find out in half a minute.
        """
        self.nodes[node].kill()
        self.nodes[node].wait()
        lost = processes_with(f"SLURMD_NODENAME={node}")
        keepers = {parent for one in lost for parent in one.parents() if is_keeper(parent)}
        for process in [*keepers, *lost]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")

    def wait_until_idle(self) -> None:
        """Until both nodes may take jobs."""
        wait_until(lambda: idle_nodes(self) == 2, 60, "two idle nodes")

    def ask(self, *command: str) -> str:
        """What a SLURM command prints."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def state_at_end(self, job_id: str, patience: float) -> str:
        """The state in which a job ends; the test fails where it takes ``patience`` seconds."""

        def state() -> str:
            shown = self.ask("scontrol", "show", "job", job_id)
            return shown.partition("JobState=")[2].split()[0]

        running = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING"}
        wait_until(lambda: state() not in running, patience, f"the end of job {job_id}")
        return state()


def needs(programs: Sequence[str]) -> None:
    """Skip where one is not installed; fail where REQUIRE_SLURM is set, as CI does."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        why = (
            f"{', '.join(missing)} not found: apt-get install slurmctld slurmd slurm-client munge "
            "shellcheck"
        )
        (pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip)(why)


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    """Two idle nodes, n1 and n2; skips where SLURM is not installed."""
    needs(PROGRAMS)
    # Not pytest's own folder: a socket's path may be 107 characters long.
    with tempfile.TemporaryDirectory(prefix="segue-slurm-") as name, ExitStack() as daemons:
        folder = Path(name)
        found = Cluster(write_conf(folder))
        munge = folder / "munge.socket"
        daemons.enter_context(daemon(folder, "munged", *munge_options(folder)))
        wait_until(munge.exists, 10, "munged's socket")
        daemons.enter_context(daemon(folder, "slurmctld", "-D", "-f", str(found.conf)))
        daemons.callback(lambda: [end(slurmd) for slurmd in found.nodes.values()])
        for node in ("n1", "n2"):
            found.start_node(node)
        found.wait_until_idle()
        try:
            yield found
        finally:
            found.ask("scancel", "--user", getpass.getuser())
            wait_until(lambda: not found.ask("squeue", "-h"), 60, "an empty queue")


def write_conf(folder: Path) -> Path:
    """slurm.conf, and the key that munge signs with."""
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    text = CONF.format(folder=folder, host=host, user=getpass.getuser(), ports=free_ports(3))
    conf.write_text(text)
    return conf


def munge_options(folder: Path) -> list[str]:
    """In the foreground, and nothing outside ``folder``; it objects to a private folder."""
    places = {
        "socket": "munge.socket",
        "key-file": "munge.key",
        "pid-file": "munge.pid",
        "log-file": "munge.log",
        "seed-file": "munge.seed",
    }
    paths = [f"--{option}={folder / name}" for option, name in places.items()]
    return ["--foreground", "--force", *paths]


@contextmanager
def daemon(folder: Path, *command: str) -> Iterator[None]:
    """A server as a child in the foreground: it ends with the test run, whatever happens."""
    with (folder / "daemons.log").open("a") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def processes_with(*settings: str) -> list[psutil.Process]:
    """The processes in whose environment each of ``settings`` is."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environ = process.environ()
            if all(environ.get(name) == value for name, value in map(split, settings)):
                found.append(process)
    return found


def split(setting: str) -> tuple[str, str]:
    name, _, value = setting.partition("=")
    return name, value


def is_keeper(process: psutil.Process) -> bool:
    """Whether it is SLURM's own, which tells of the end of a job's processes."""
    return process.name().startswith("slurmstepd")


def idle_nodes(cluster: Cluster) -> int:
    try:
        return cluster.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split().count("idle")
    except subprocess.CalledProcessError:
        return 0  # slurmctld does not answer yet


def free_ports(count: int) -> list[int]:
    """Different ports: all are held while the others are found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def wait_until(met: Callable[[], bool], patience: float, what: str) -> None:
    """Until ``met``; the test fails where that takes ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not met():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience:.0f} s for {what}")
        time.sleep(0.25)
