"""Options that several commands have."""

from pathlib import Path

import click

URL_OPTION = click.option("--url", envvar="IMAGO_URL", default=None, help="URL of the API.  [env: IMAGO_URL]")
DATA_OPTION = click.option(
    "--data-dir",
    default="data",
    type=click.Path(path_type=Path),
    help="Data directory of `imago dev`, for its URL and key.",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
