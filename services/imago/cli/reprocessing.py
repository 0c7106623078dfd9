"""`imago reprocess`: the administration of reprocess jobs over a running API."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imago.cli.admin_requests import list_items, print_json, send, target_of
from imago.cli.errors import CommandError
from imago.cli.options import DATA_OPTION, JSON_OPTION, URL_OPTION
from imago.core.jobs.stages import TERMINAL_IMAGE_STATUSES, Stage

if TYPE_CHECKING:
    from imago.cli.http_client import Target

_PATH = "admin/reprocess-jobs"
_POLL_SECONDS = 1.0


@click.group()
def reprocess() -> None:
    """Run stages of stored images again; needs the administrator's key."""


@reprocess.command("create")
@click.argument("stages", nargs=-1, required=True, type=click.Choice([str(stage) for stage in Stage]))
@click.option(
    "--client", "clients", multiple=True, metavar="UUID", help="A client; repeat it for several. Default: all."
)
@click.option("--created-from", default=None, metavar="TIME", help="Uploaded then or later, with an offset.")
@click.option("--created-to", default=None, metavar="TIME", help="Uploaded then or earlier, with an offset.")
@click.option("--taken-from", default=None, metavar="TIME", help="Taken then or later, by the camera's clock.")
@click.option("--taken-to", default=None, metavar="TIME", help="Taken then or earlier, by the camera's clock.")
@click.option(
    "--status", default=None, type=click.Choice(sorted(map(str, TERMINAL_IMAGE_STATUSES))), help="Status of the image."
)
@click.option("--tag", default=None, help="Only images with this tag.")
@click.option(
    "--engine-not", default=None, metavar="NAME", help="Run ocr only where this engine did not read the text."
)
@click.option(
    "--model-not", default=None, metavar="NAME", help="Run vision only where the result is not by this model."
)
@click.option("--images-per-minute", "--rate", type=int, default=None, help="Most images in a minute.  [default: 60]")
@click.option("--suspended", is_flag=True, help="Create the job suspended.")
@click.option("--dry-run", is_flag=True, help="Only print the number of images.")
@click.option("--wait", is_flag=True, help="Wait until the job is completed; the exit code is 1 if an image failed.")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def create(dry_run: bool, wait: bool, as_json: bool, url: str | None, data_dir: Path, **options: Any) -> None:
    """Create a job that runs STAGES again, and print it."""
    target = target_of(url, data_dir)
    body = _body(**options)
    if dry_run:
        matched = send(target, "POST", _PATH, json={**body, "dry_run": True})["matched"]
        click.echo(json.dumps({"matched": matched}) if as_json else f"{matched} images match")
        return
    job = send(target, "POST", _PATH, json=body)
    if not wait:
        _print(job, as_json=as_json)
        return
    if not as_json:
        click.echo(_line(job), err=True)
    job = asyncio.run(_completed(target, job["uuid"]))
    _print(job, as_json=as_json)
    if job["counts"]["failed"]:
        raise SystemExit(1)


@reprocess.command("list")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def list_all(as_json: bool, url: str | None, data_dir: Path) -> None:
    """List all jobs, newest first."""
    found = list_items(target_of(url, data_dir), _PATH)
    if as_json:
        print_json(found)
        return
    for job in found:
        click.echo(_line(job))


@reprocess.command("show")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def show(ref: str, url: str | None, data_dir: Path) -> None:
    """Show a job with its counts; REF is its id or uuid."""
    print_json(send(target_of(url, data_dir), "GET", _path(ref)))


@reprocess.command("suspend")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def suspend(ref: str, url: str | None, data_dir: Path) -> None:
    """Stop queueing images; runs that are queued continue."""
    print_json(send(target_of(url, data_dir), "PATCH", _path(ref), json={"suspended": True}))


@reprocess.command("resume")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def resume(ref: str, url: str | None, data_dir: Path) -> None:
    """Continue a suspended job."""
    print_json(send(target_of(url, data_dir), "PATCH", _path(ref), json={"suspended": False}))


@reprocess.command("delete")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def delete(ref: str, url: str | None, data_dir: Path) -> None:
    """Delete a job; the runs that it has queued continue."""
    send(target_of(url, data_dir), "DELETE", _path(ref))


def _body(*, images_per_minute: int | None, suspended: bool, **selected: Any) -> dict[str, Any]:
    selection = {name: value for name, value in selected.items() if value}
    rate = {} if images_per_minute is None else {"images_per_minute": images_per_minute}
    return {"selection": selection, "suspended": suspended, **rate}


async def _completed(target: "Target", ref: str) -> dict[str, Any]:
    from imago.cli.http_client import ServerBusy, request_json

    async with target.session() as session:
        while True:
            pause = _POLL_SECONDS
            try:
                job = await request_json(session, "GET", _path(ref))
                if job["phase"] == "completed":
                    return job
            except ServerBusy as busy:
                pause = max(pause, busy.seconds)
            await asyncio.sleep(pause)


def _print(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        click.echo(_line(job))


def _line(job: dict[str, Any]) -> str:
    counts = job["counts"]
    numbers = "  ".join(f"{name} {counts[name]}" for name in ("matched", "queued", "done", "failed") if name in counts)
    rest = "".join(f"  {name} {counts[name]}" for name in ("cancelled", "skipped") if counts[name])
    return f"{job['id']:>6}  {job['uuid']}  {job['phase']:<9}  {','.join(job['selection']['stages'])}  {numbers}{rest}"


def _path(ref: str) -> str:
    if not ref or not all(char.isalnum() or char == "-" for char in ref):
        raise CommandError("REF must be a job's id or uuid")
    return f"{_PATH}/{ref}"
