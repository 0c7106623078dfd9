"""A Kubernetes of one node on this machine: `make cluster-up`, `make cluster-shell`, `make cluster-down`.

It is the cluster of `make test-cluster`: real components in separate namespaces, without Docker or a registry. It is
not reachable from outside its namespaces and cannot reach anything outside, so commands that use it run inside.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import psutil

from devtools.kubernetes import images, namespaces, whole
from devtools.kubernetes.addons import install_keda
from devtools.kubernetes.binaries import Missing, cache_directory
from devtools.kubernetes.control_plane import control_plane

_HACK = Path(__file__).parent
_STATE = cache_directory() / "cluster.json"
_TAG = "dev"
_START_SECONDS = 300


@click.group()
def cli() -> None:
    """Run a Kubernetes on this machine."""


@cli.command()
@click.option("--images/--no-images", "with_images", default=True, help="Build Imago's images too.")
def prepare(with_images: bool) -> None:
    """Install and build missing parts; takes minutes the first time, a second afterwards."""
    for script in ("cluster-packages.sh", "cluster-binaries.sh"):
        # Tests that need a missing part are skipped with the reason.
        if subprocess.run([_HACK / script]).returncode != 0:
            click.echo(f"cluster: {script} failed; see above", err=True)
    try:
        namespaces.check()
        whole.prepare()
    except Missing as missing:
        click.echo(f"cluster: {missing}", err=True)
        return
    if with_images:
        images.imago_images(_TAG)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True)
def run(command: tuple[str, ...]) -> None:
    """Run a command in namespaces for a cluster, or without them if they can't be created."""
    try:
        sys.exit(namespaces.run(command))
    except Missing as missing:
        click.echo(f"cluster: {missing}", err=True)
        os.execvp(command[0], command)


@cli.command()
def up() -> None:
    """Start a cluster with KEDA and Imago's images on it, and leave it running."""
    if _running():
        raise click.ClickException("the cluster is already running; `make cluster-down` stops it")
    _STATE.unlink(missing_ok=True)
    log = cache_directory() / "cluster.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, "run", sys.executable, __file__, "serve"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while not _STATE.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise click.ClickException(f"the cluster did not start, see {log}")
        time.sleep(0.5)
    # The first process inside the namespaces, by its process id outside.
    inner = psutil.Process(process.pid).children()[0].children()[0]
    _STATE.write_text(json.dumps({**json.loads(_STATE.read_text()), "supervisor": process.pid, "inner": inner.pid}))
    click.echo("The cluster runs. `make cluster-shell` opens a shell that reaches it, `make cluster-down` stops it.")


@cli.command(context_settings={"ignore_unknown_options": True}, name="exec")
@click.argument("command", nargs=-1, required=True)
def execute(command: tuple[str, ...]) -> None:
    """Run a command that reaches the cluster, with KUBECONFIG set."""
    state = _running()
    if state is None:
        raise click.ClickException("no cluster runs; `make cluster-up` starts one")
    os.environ["KUBECONFIG"] = str(state["kubeconfig"])
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.execvp("nsenter", ["nsenter", f"--target={state['inner']}", "--net", "--", *command])


@cli.command()
def down() -> None:
    """Stop the cluster and remove all of it, even after it was killed."""
    state = _running()
    if state is not None:
        supervisor = psutil.Process(int(state["supervisor"]))
        supervisor.send_signal(signal.SIGTERM)
        psutil.wait_procs([supervisor], timeout=90)
    namespaces.remove_stale()
    _STATE.unlink(missing_ok=True)


@cli.command(hidden=True)
def serve() -> None:
    """Start the cluster inside its namespaces, and keep it running until SIGTERM."""
    # An exception stops everything that was started, also during the start.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    directory = namespaces.run_directory() / "cluster"
    with control_plane(directory, node_address=namespaces.NODE_ADDRESS) as plane, whole.node_beside(plane) as node:
        node.load(images.imago_images(_TAG))
        install_keda(plane, whole.keda_directory(plane))
        _STATE.write_text(json.dumps({"kubeconfig": str(plane.kubeconfig)}))
        signal.pause()


def _running() -> dict[str, object] | None:
    if not _STATE.exists():
        return None
    state: dict[str, object] = json.loads(_STATE.read_text())
    return state if psutil.pid_exists(int(str(state.get("supervisor", 0)))) else None


if __name__ == "__main__":
    cli()
