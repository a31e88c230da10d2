"""The ``realtime-bus`` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; what goes wrong is a line on stderr, and exit code 1 or 2."""
    try:
        from ._app import run  # noqa: PLC0415  # rich and typer come with an extra
    except ModuleNotFoundError as error:
        sys.exit(
            f"realtime-bus: {error.name} is not installed; "
            "install it with: pip install 'realtime-bus[cli]'"
        )
    except KeyboardInterrupt:  # importing takes half a second
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
