"""With `IMAGO_NO_SKIPS`, as in CI, skipped tests fail: a missing tool means that something was not checked."""

import os
from collections.abc import Generator

import pytest

# Reasons that are no missing tool: an account, others' files, another database, cluster, kernel or system.
ALLOWED = (
    "is not in the environment",
    "no corpus of camera files",
    "SQLite locks no rows",
    "needs all tests of this file",
    "existing cluster",
    "this kernel has no",
    "only Linux",
    "by root",
)


def is_error(reason: str, *, strict: bool) -> bool:
    """Return whether a skip for this reason is an error."""
    return strict and not any(part in reason for part in ALLOWED)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip that is an error into a failure."""
    report = yield
    # An expected failure is reported as skipped, too.
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if is_error(reason, strict=bool(os.environ.get("IMAGO_NO_SKIPS"))):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped: {reason}"
    return report
