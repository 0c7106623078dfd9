"""The contract type of the import rules in `pyproject.toml`: an allow-list, so new modules are forbidden by default."""

from fnmatch import fnmatchcase
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowListContract(Contract):
    """Modules of `importers` import only each other and modules that match `allowed`.

    Names are shell patterns over dotted names: `imago.core.*` is every module below the package, `imago.core` the
    package itself, and `pure` stands for the list `pure_modules` of the configuration. Imports of packages outside the
    root packages, such as the standard library, are not examined.
    """

    importers = fields.ListField(subfield=fields.StringField())
    allowed = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Return imports that no pattern allows, and patterns that match no module; both are errors."""
        names = self._expanded(self.importers)
        importers = [module for module in sorted(graph.modules) if _matches(module, names)]
        allowed = [*names, *self._expanded(self.allowed)]
        offending = [
            (importer, imported)
            for importer in importers
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not _matches(imported, allowed)
        ]
        unused = [pattern for pattern in allowed if not any(_matches(module, [pattern]) for module in graph.modules)]
        metadata: dict[str, Any] = {"offending": offending, "unused": unused}
        return ContractCheck(kept=not offending and not unused, metadata=metadata)

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each import that is not allowed, and each pattern that matches nothing."""
        for importer, imported in check.metadata["offending"]:
            output.print_error(f"{importer} must not import {imported}")
        for pattern in check.metadata["unused"]:
            output.print_error(f"no module matches {pattern}")

    def _expanded(self, patterns: list[str]) -> list[str]:
        pure: list[str] = self.session_options["pure_modules"]
        return [name for pattern in patterns for name in (pure if pattern == "pure" else [pattern])]


def _matches(module: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(module, pattern) for pattern in patterns)
