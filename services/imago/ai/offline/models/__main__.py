"""Build the models, and print their paths."""

import argparse
import sys
from pathlib import Path

from imago.ai.offline.models.store import ensure_classifier, ensure_detector
from imago.runtime.startup import StartupError


def main() -> None:
    """Build the models, and print their paths."""
    parser = argparse.ArgumentParser(prog="imago.ai.offline.models", description="Build the offline vision models.")
    parser.add_argument("--dir", type=Path, default=None, help="the directory of models")
    directory = parser.parse_args().dir
    try:
        for ensure in (ensure_classifier, ensure_detector):
            sys.stdout.write(f"{ensure(directory)}\n")
    except StartupError as error:
        sys.exit(f"imago: {error}")


if __name__ == "__main__":
    main()
