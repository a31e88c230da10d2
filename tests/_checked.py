"""A bus whose sessions are held against the rules of the protocol: what the tests run with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pytest

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus_plugins.protocol_check import ProtocolCheck

__all__ = ["checked_bus", "protocol_is_kept"]


def checked_bus(*plugins: Any, ignore: Collection[str] = (), **options: Any) -> Bus:
    """Return a bus that raises `RuleBroken` to whoever sends an event against the rules.

    Args:
        *plugins: Those of the test; the checker comes before them.
        ignore: Ids of rules that the test breaks on purpose.
        **options: For `Bus`; handlers' errors end the session unless a test says otherwise.
    """
    check = ProtocolCheck(on_violation="raise", ignore=ignore)
    return Bus(plugins=[check, *plugins], **{"raise_handler_errors": True, **options})


class _Watching(ProtocolCheck):
    """Notes what breaks a rule, and lets it pass."""

    def __init__(self, broken: list[str]) -> None:
        super().__init__()
        self._broken = broken

    def _passes(
        self, event: ev.ClientEvent, broken: list[Any], session: Session, repeats: object
    ) -> bool:
        self._broken += [each.rule.id for each in broken]
        return True


@pytest.fixture(autouse=True)
def protocol_is_kept(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fail a test in which any session of any bus sends what the protocol forbids.

    A test that does so on purpose names the rules: ``@pytest.mark.breaks_rules("rule-id")``;
    one that must not be watched, because it looks at what a session does for nobody,
    ``@pytest.mark.breaks_rules("*")``.
    """
    marker = request.node.get_closest_marker("breaks_rules")
    allowed = set(marker.args) if marker is not None else set()
    broken: list[str] = []
    make = Bus.__init__

    def make_watched(self: Bus, *, plugins: Iterable[Any] = (), **options: Any) -> None:
        plugins = list(plugins)
        own = any(isinstance(plugin, ProtocolCheck) for plugin in plugins)
        make(self, plugins=plugins if own else [_Watching(broken), *plugins], **options)

    if "*" not in allowed:
        monkeypatch.setattr(Bus, "__init__", make_watched)
    yield
    if unexpected := sorted(set(broken) - allowed):
        pytest.fail(f"a session broke the rules: {', '.join(unexpected)}")
