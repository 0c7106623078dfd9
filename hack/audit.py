"""Checks the locked dependencies for known vulnerabilities with pip-audit, and fails if any was not looked at.

pip-audit reports a package that its service does not know, or can't be asked about, as skipped, and exits with 0.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path("requirements/dev.lock")


def problems(report: dict[str, Any]) -> list[str]:
    """Return a line for each vulnerability and each package that was not checked; one if there were no packages."""
    packages = report.get("dependencies", [])
    if not packages:
        return ["no package was checked"]
    lines = [f"{one['name']}: not checked: {one['skip_reason']}" for one in packages if "skip_reason" in one]
    for one in packages:
        for found in one.get("vulns", ()):
            fixed = ", ".join(found.get("fix_versions", ())) or "no version"
            lines.append(f"{one['name']} {one['version']}: {found['id']}, fixed in {fixed}")
    return lines


def main(arguments: list[str]) -> int:
    """Run pip-audit, print what it found, and return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "-r", str(LOCK)]
    done = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        print("audit: pip-audit printed no report", file=sys.stderr)
        return done.returncode or 1
    lines = problems(report)
    print("\n".join(lines[:50]))
    print(f"audit: {len(report.get('dependencies', []))} packages, {len(lines)} problems")
    return 1 if lines else done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
