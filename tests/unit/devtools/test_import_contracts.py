"""The allow-list contracts of import-linter."""

import tomllib
from typing import Any

import pytest
from grimp import ImportGraph

from devtools.import_contracts import AllowListContract
from devtools.photos import ROOT

CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
OPERATOR: dict[str, Any] = next(
    contract for contract in CONFIGURATION["contracts"] if "imago_operator" in contract.get("importers", ())
)


def contract(importers: list[str], allowed: list[str]) -> AllowListContract:
    options = {"importers": importers, "allowed": allowed}
    return AllowListContract("test", {"pure_modules": ["shop.model"]}, options)


def graph(*imports: tuple[str, str], modules: tuple[str, ...] = ()) -> ImportGraph:
    built = ImportGraph()
    for module in {*modules, *(module for pair in imports for module in pair)}:
        built.add_module(module)
    for importer, imported in imports:
        built.add_import(importer=importer, imported=imported)
    return built


def test_an_import_outside_the_list_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    checked = contract(["shop.orders", "shop.orders.*"], ["shop.db.*"])
    result = checked.check(
        graph(
            ("shop.orders.cart", "shop.db.engine"),
            ("shop.orders.cart", "shop.orders"),
            ("shop.orders.cart", "shop.web.client"),
            ("shop.web.client", "shop.orders"),
        ),
        verbose=False,
    )
    assert not result.kept
    checked.render_broken_contract(result)
    assert capsys.readouterr().out.splitlines() == ["shop.orders.cart must not import shop.web.client"]


def test_a_pattern_that_matches_no_module_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    checked = contract(["shop.orders"], ["shop.db.*", "shop.renamed"])
    result = checked.check(graph(("shop.orders", "shop.db.engine")), verbose=False)
    assert not result.kept
    checked.render_broken_contract(result)
    assert capsys.readouterr().out.splitlines() == ["no module matches shop.renamed"]


def test_pure_stands_for_the_pure_modules() -> None:
    pure = contract(["shop.orders"], ["pure"])
    assert pure.check(graph(("shop.orders", "shop.model")), verbose=False).kept
    assert not pure.check(graph(("shop.orders", "shop.db"), modules=("shop.model",)), verbose=False).kept


@pytest.mark.parametrize("forbidden", ["imago.nats.lag", "imago.nats.connection", "imago.db.engine", "imago.core"])
def test_the_operator_imports_only_the_modules_in_its_list(forbidden: str) -> None:
    operator = contract(OPERATOR["importers"], OPERATOR["allowed"])
    used = [("imago_operator.sweep", module) for module in OPERATOR["allowed"]]
    known = ("imago_operator", "imago_operator.sweep")
    assert operator.check(graph(*used, modules=known), verbose=False).kept
    result = operator.check(graph(*used, ("imago_operator.sweep", forbidden), modules=known), verbose=False)
    assert result.metadata["offending"] == [("imago_operator.sweep", forbidden)]
