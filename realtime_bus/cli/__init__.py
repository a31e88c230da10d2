"""The ``realtime-bus`` command."""

from __future__ import annotations

import sys

from realtime_bus.errors import RealtimeBusError

__all__ = ["main"]


def main() -> None:
    """Run the command; errors of ours are a line on stderr and exit code 1."""
    try:
        from ._app import app  # noqa: PLC0415  # rich and typer come with an extra
    except ModuleNotFoundError as error:
        sys.exit(
            f"realtime-bus: {error.name} is not installed; "
            "install it with: pip install 'realtime-bus[cli]'"
        )
    try:
        app()
    except RealtimeBusError as error:
        sys.exit(f"realtime-bus: {error}")
