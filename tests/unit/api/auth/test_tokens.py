"""Tokens: those of other replicas are accepted although clocks differ a little."""

import time
from uuid import uuid4

import pytest

from imago.api.auth.tokens import MAX_CLOCK_SKEW_SECONDS, Tokens
from imago.core.clients.scopes import Scope


@pytest.mark.parametrize(
    ("ahead", "accepted"),
    [(2, True), (-2, True), (MAX_CLOCK_SKEW_SECONDS - 1, True), (MAX_CLOCK_SKEW_SECONDS + 10, False), (-901, False)],
)
def test_a_token_of_a_replica_with_another_clock(monkeypatch: pytest.MonkeyPatch, ahead: int, accepted: bool) -> None:
    tokens, now = Tokens("a secret of more than 32 bytes for tests"), time.time()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now + ahead)
        text = tokens.issue(client=uuid4(), key_id="key", scopes={Scope.IMAGES_READ}, seconds=900)
    assert (tokens.verify(text) is not None) is accepted
