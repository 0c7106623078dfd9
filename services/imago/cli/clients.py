"""`imago client`: the administration of clients over a running API."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imago.cli.admin_requests import list_items, print_json, send, target_of
from imago.cli.errors import CommandError
from imago.cli.options import DATA_OPTION, JSON_OPTION, URL_OPTION
from imago.core.clients.ownership import OWNER_FORM, OWNER_PATTERN

if TYPE_CHECKING:
    from imago.cli.http_client import Target


@click.group()
def client() -> None:
    """Manage clients (tenants); needs the administrator's key."""


@client.command("create")
@click.argument("name")
@click.option("--plan", type=click.Choice(["free", "standard", "premium"]), default="standard", show_default=True)
@click.option("--scope", "scopes", multiple=True, help="A scope; repeat it for several. Default: all client scopes.")
@URL_OPTION
@DATA_OPTION
def create(name: str, plan: str, scopes: tuple[str, ...], url: str | None, data_dir: Path) -> None:
    """Create a client and print it with its key, which is shown only once."""
    body: dict[str, Any] = {"name": name, "plan": plan}
    if scopes:
        body["scopes"] = list(scopes)
    print_json(send(target_of(url, data_dir), "POST", "auth/clients", json=body))


@client.command("list")
@JSON_OPTION
@URL_OPTION
@DATA_OPTION
def list_all(as_json: bool, url: str | None, data_dir: Path) -> None:
    """List all clients, including deactivated ones."""
    found = list_items(target_of(url, data_dir), "auth/clients")
    if as_json:
        print_json(found)
        return
    for row in found:
        state = "" if row["active"] else "  (deactivated)"
        click.echo(f"{row['id']:>6}  {row['uuid']}  {row['plan']:<8}  {row['lane']:<8}  {row['name']}{state}")


@client.command("show")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def show(ref: str, url: str | None, data_dir: Path) -> None:
    """Show a client with its usage and its keys; REF is its id or uuid."""
    print_json(send(target_of(url, data_dir), "GET", _path(ref)))


@client.command("rotate-key")
@click.argument("ref")
@click.option("--grace", default=0, show_default=True, help="Seconds the previous keys stay valid.")
@URL_OPTION
@DATA_OPTION
def rotate_key(ref: str, grace: int, url: str | None, data_dir: Path) -> None:
    """Issue a new key and print it; it is shown only once."""
    print_json(send(target_of(url, data_dir), "POST", f"{_path(ref)}/rotate-key", json={"grace_seconds": grace}))


@client.command("transfer")
@click.argument("ref")
@click.argument("owner")
@URL_OPTION
@DATA_OPTION
def transfer(ref: str, owner: str, url: str | None, data_dir: Path) -> None:
    """Transfer a client to another ImagoClient; OWNER is <cluster id>/<namespace uid>/<name>."""
    if not re.fullmatch(OWNER_PATTERN, owner):
        raise CommandError(f"OWNER must be {OWNER_FORM}, as the ImagoClient's status says")
    _change_owner(target_of(url, data_dir), ref, owner)


@client.command("release")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def release(ref: str, url: str | None, data_dir: Path) -> None:
    """Take a client away from the operator: it has no owner, and the administrator manages it."""
    _change_owner(target_of(url, data_dir), ref, None)


def _change_owner(target: "Target", ref: str, owner: str | None) -> None:
    before = send(target, "GET", _path(ref))["owner"]
    print_json(send(target, "PATCH", _path(ref), json={"owner": owner}))
    undo = f"imago client transfer {ref} {before}" if before else f"imago client release {ref}"
    click.echo(f"To undo this: {undo}", err=True)


@client.command("deactivate")
@click.argument("ref")
@URL_OPTION
@DATA_OPTION
def deactivate(ref: str, url: str | None, data_dir: Path) -> None:
    """Deactivate a client: its keys are rejected, its images stay."""
    send(target_of(url, data_dir), "DELETE", _path(ref))


@client.command("erase")
@click.argument("ref")
@click.confirmation_option(prompt="This permanently deletes the client and all of its images. Continue?")
@URL_OPTION
@DATA_OPTION
def erase(ref: str, url: str | None, data_dir: Path) -> None:
    """Erase a client and all of its data: rows, objects, thumbnails and messages."""
    print_json(send(target_of(url, data_dir), "DELETE", _path(ref), params={"erase": "true"}))


def _path(ref: str) -> str:
    if not ref or not all(char.isalnum() or char == "-" for char in ref):
        raise CommandError("REF must be a client's id or uuid")
    return f"auth/clients/{ref}"
