"""Sockets that a starting process binds."""

import pytest

from imago.runtime.startup import StartupError, bind


def test_an_address_in_use_is_reported_in_one_line_with_the_address() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(StartupError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .+$") as error:
            bind("127.0.0.1", port)
    assert "\n" not in str(error.value)
