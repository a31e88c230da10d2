"""A bus whose sessions are held against the rules of the protocol: what the tests run with."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from realtime_bus import Bus
from realtime_bus_plugins.protocol_check import ProtocolCheck

__all__ = ["checked_bus"]


def checked_bus(*plugins: Any, ignore: Collection[str] = (), **options: Any) -> Bus:
    """Return a bus that raises `RuleBroken` to whoever sends an event against the rules.

    Args:
        *plugins: Those of the test; the checker comes before them.
        ignore: Ids of rules that the test breaks on purpose.
        **options: For `Bus`; handlers' errors end the session unless a test says otherwise.
    """
    check = ProtocolCheck(on_violation="raise", ignore=ignore)
    return Bus(plugins=[check, *plugins], **{"raise_handler_errors": True, **options})
