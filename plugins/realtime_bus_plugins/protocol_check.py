"""A protocol checker for tests and development: what breaks a rule is told before it is sent.

::

    bus = Bus(plugins=[ProtocolCheck(on_violation="raise"), ...])  # first

The rules are in the tables of ``_rules/``; `ProtocolCheck.RULES` lists them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from realtime_bus import InvalidEvent, Session, UsageError, encode
from realtime_bus import events as ev
from realtime_bus.log import Repeats, get_logger

from ._rules import RULES, BrokenRule, Observed, Rule, broken_rules

__all__ = ["ProtocolCheck", "ProtocolViolation", "RuleBroken"]

_log = get_logger("realtime_bus.protocol_check")
_Reaction = Literal["report", "raise", "refuse"]


class ProtocolViolation(ev.BusEvent, tag="bus.protocol_violation"):
    """An event of ours breaks a rule of the protocol; a server would refuse it.

    Attributes:
        rule: The rule's id, such as ``"truncate-within-audio"``.
        message: What is wrong with the event, and the rule.
        event_type: Wire name of the event.
    """

    rule: str
    message: str
    event_type: str


class RuleBroken(InvalidEvent):
    """An event that breaks a rule of the protocol; it was not sent.

    Attributes:
        rule: The rule's id.
    """

    def __init__(self, message: str, *, rule: str, event_type: str) -> None:
        super().__init__(message, event_type=event_type)
        self.rule = rule


class ProtocolCheck:
    """Hold every client event against the rules that a client must keep, before it is sent.

    Put it first among the plugins: it must see what the server sends before others act on it.
    So it does not see what plugins behind it change on the way out.

    It believes the client where both sides may have crossed on the wire, so what it reports is
    wrong in any case. It is for the realtime protocol; translation sessions are left alone.

    Args:
        on_violation: ``"report"`` logs a warning, emits `ProtocolViolation` and sends
            the event all the same; ``"refuse"`` does the same and drops the event, of which
            whoever awaits its answer hears nothing; ``"raise"`` raises `RuleBroken` to the
            sender, and nothing is sent.
        ignore: Ids of rules that are not to be checked, for servers that have others.

    Raises:
        UsageError: There is no such reaction, or no such rule.
    """

    RULES: ClassVar[tuple[Rule, ...]] = RULES
    """Every rule there is: its ``id``, its ``text`` and the ``events`` it is about."""

    def __init__(self, on_violation: _Reaction = "report", *, ignore: Collection[str] = ()) -> None:
        if on_violation not in ("report", "raise", "refuse"):
            raise UsageError(f"on_violation={on_violation!r} must be 'report', 'raise' or 'refuse'")
        if unknown := set(ignore) - {rule.id for rule in RULES}:
            raise UsageError(
                f"there is no rule {', '.join(sorted(unknown))}; ProtocolCheck.RULES lists them"
            )
        self._on_violation: _Reaction = on_violation
        self._rules = tuple(rule for rule in RULES if rule.id not in ignore)

    def attach(self, session: Session) -> None:
        """Watch a session. Called by the bus."""
        observed, repeats = Observed(session.conversation), Repeats()

        def reconnected(event: ev.Reconnected, session: Session) -> ev.Reconnected:
            nonlocal observed
            observed = observed.successor(session.settings)
            return event

        def received(event: ev.ServerEvent, session: Session) -> ev.ServerEvent:  # noqa: ARG001 - an interceptor is called with it
            observed.see(event)
            return event

        def sending(event: ev.ClientEvent, session: Session) -> ev.ClientEvent | None:
            if not isinstance(event, ev.InputAudioBufferAppend):
                encode(event)  # what is refused anyway, with InvalidEvent, must not count as sent
            observed.refused(session.last_error)
            broken = broken_rules(self._rules, event, observed)
            if not self._passes(event, broken, session, repeats):
                return None
            observed.sent(event)
            return event

        session.intercept(tuple(Observed.SEEN), received, narrowed=True)
        session.intercept(ev.Reconnected, reconnected)
        session.intercept_outgoing(tuple(ev.REALTIME.client.values()), sending)

    def _passes(
        self, event: ev.ClientEvent, broken: list[BrokenRule], session: Session, repeats: Repeats
    ) -> bool:
        for rule, why in ((each.rule, each.why) for each in broken):
            message = f"{event.type}: {why}; rule {rule.id}: {rule.text}"
            if self._on_violation == "raise":
                raise RuleBroken(message, rule=rule.id, event_type=event.type)
            suppressed = repeats.due(rule.id)
            if suppressed is not None:
                log, what = _log.bind(session_id=session.id), "a rule of the protocol is broken"
                log.warning(what, rule=rule.id, message=message, **suppressed)
            violation = ProtocolViolation(rule=rule.id, message=message, event_type=event.type)
            session.emit(violation)
        return not broken or self._on_violation == "report"
