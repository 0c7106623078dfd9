"""How the `imago` command reports errors."""

import pytest
from click.testing import CliRunner
from nats.errors import TimeoutError as NatsTimeout

from imago.cli.errors import CommandError
from imago.cli.main import cli, run


def test_a_process_that_cannot_start_exits_with_1_and_one_line() -> None:
    result = CliRunner(env={"DISABLED_STAGES": "thumbnail"}).invoke(cli, ["api"])
    assert result.exit_code == 1
    assert result.output == "imago: DISABLED_STAGES: the thumbnail stage can't be disabled\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["client", "list", "--url", "http://127.0.0.1:9", "--data-dir", "nowhere"], "no key: set ADMIN_API_KEY"),
        (["search", "cat", "--data-dir", "nowhere"], "no key: set IMAGO_API_KEY"),
    ],
)
def test_a_command_without_a_key_says_where_to_get_one(arguments: list[str], message: str) -> None:
    result = CliRunner(env={"ADMIN_API_KEY": "", "IMAGO_API_KEY": ""}).invoke(cli, arguments)
    assert result.exit_code == 1
    assert result.output.startswith(f"imago: {message}")
    assert len(result.output.splitlines()) == 1


def test_a_timeout_of_jetstream_is_one_line() -> None:
    async def fail() -> None:
        raise NatsTimeout

    with pytest.raises(CommandError, match=r"^NATS is unavailable \(TimeoutError\)$"):
        run(fail())
