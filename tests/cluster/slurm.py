"""A one-machine Slurm of a test's own on loopback: munged, slurmctld and slurmd."""

import getpass
import os
import platform
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={socket}
CredType=cred/munge
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
KillWait=60
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""

_NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "sinfo")


def _tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _cannot(reason: str) -> None:
    if os.environ.get("EYEGENDER_CI") == "1":
        pytest.fail(f"no Slurm: {reason}")
    pytest.skip(f"no Slurm: {reason}")


@contextmanager
def running(base: Path) -> Iterator[dict[str, str]]:
    """Start the cluster; gives the environment that its commands need.

    Skipped, with the reason, where Slurm cannot run; a failure instead where EYEGENDER_CI=1.
    """
    missing = [name for name in _NEEDED if _tool(name) is None]
    if missing:
        _cannot(f"{', '.join(missing)} missing (apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        _cannot("slurmd must be root to start jobs as other users")
    for folder in (base / "state", base / "spool"):
        folder.mkdir(parents=True)
    key, munge_socket = base / "munge.key", base / "munge.socket"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf = base / "slurm.conf"
    ports = _free_ports(2)
    conf.write_text(
        CONF.format(
            host=platform.node().partition(".")[0],
            user=getpass.getuser(),
            socket=munge_socket,
            base=base,
            ctld_port=ports[0],
            d_port=ports[1],
            # Two workers run beside each other whatever this machine has.
            cpus=max(2, os.cpu_count() or 2),
        )
    )
    env = {**os.environ, "SLURM_CONF": str(conf)}
    with ExitStack() as stack:
        munged = [
            str(_tool("munged")), "--foreground", "--force", f"--key-file={key}", f"--socket={munge_socket}",
            f"--pid-file={base}/munged.pid", f"--log-file={base}/munged.log", f"--seed-file={base}/munged.seed",
        ]  # fmt: skip
        _daemon(stack, munged, env, base)
        _until(munge_socket.exists, "munged did not open its socket", base)
        _daemon(stack, [str(_tool("slurmctld")), "-D", "-c", "-f", str(conf)], env, base)
        _daemon(stack, [str(_tool("slurmd")), "-D", "-c", "-f", str(conf)], env, base)
        _until(lambda: "idle" in _said(["sinfo", "-h", "-o", "%T"], env), "the node did not become idle", base)
        _until(lambda: bool(_said(["srun", "-N1", "hostname"], env).strip()), "srun hostname did not answer", base)
        yield {"SLURM_CONF": str(conf)}
        subprocess.run(["scancel", "-u", getpass.getuser()], env=env, check=False, capture_output=True)
        time.sleep(1)


def _daemon(stack: ExitStack, command: list[str], env: dict[str, str], base: Path) -> None:
    log = stack.enter_context((base / f"{Path(command[0]).name}.out").open("wb"))
    process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=base)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _said(command: list[str], env: dict[str, str]) -> str:
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _until(condition, otherwise: str, base: Path, seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.2)
    tails = [f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in sorted(base.glob("*.log"))]
    tails += [f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in sorted(base.glob("*.out"))]
    _cannot(f"{otherwise}; {' | '.join(tails)}")


def _free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
