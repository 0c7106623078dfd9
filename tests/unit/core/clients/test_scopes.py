"""Scopes of clients."""

import pytest

from imago.core.clients.scopes import Scope, parse_client_scopes


@pytest.mark.parametrize("scope", ["admin", "clients:manage", "nonsense"])
def test_a_client_cannot_have_platform_scopes(scope: str) -> None:
    with pytest.raises(ValueError):
        parse_client_scopes(["images:read", scope])


def test_a_client_can_have_any_client_scope() -> None:
    assert parse_client_scopes(["images:read", "ai:use"]) == {Scope.IMAGES_READ, Scope.AI_USE}
