"""The routing of one session: which runners an event goes to.

Rules:

1. Routes are compiled per event class when something is registered, not when events come.
2. Interceptors see an event before any handler, in the order of their registration. One that
   returns None ends the event; what it returns otherwise goes on.
3. Handlers get an event in the order of their registration, whether inline or from mailboxes.
4. `unheard` holds the beginnings of the frames that nobody wants: they need no decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from realtime_bus.errors import UsageError
from realtime_bus.codec._names import frame_heads
from realtime_bus.events import Event
from realtime_bus.events._vocabulary import BUS_EVENTS

from ._eager import EagerMailbox
from ._mailbox import Mailbox
from ._runner import Host, InlineRunner, Runner
from ._selectors import INCOMING
from ._signature import check_interceptor, handler_name
from ._subscription import HandlerStatistics, Subscription

__all__ = ["Interceptor", "Router"]

_ON_THE_WIRE = INCOMING.keys() - BUS_EVENTS.keys()
_HEADS = frozenset(head for name in _ON_THE_WIRE for head in frame_heads(name))

Interceptor = Callable[[Any, Any], "Event | None"]
_Put = Callable[[Any], None]
_Value = TypeVar("_Value")


class Router:
    """Runners and interceptors of one session, by event class."""

    def __init__(self, session: Any, host: Host) -> None:
        self._session = session
        self._host = host
        self._runners: dict[Subscription, Runner] = {}
        self._retired: list[Runner] = []  # removed, but perhaps still at work
        self._interceptors: list[tuple[frozenset[type[Event]], Interceptor]] = []
        self._chains: dict[type[Event], tuple[Interceptor, ...]] = {}
        self._routes: dict[type[Event], _Put] = {}
        self._entries: dict[type[Event], _Put] = {}  # the chain if any, else the route
        self.route = _dispatcher(self._entries)
        """Send an event through the interceptors and to its handlers; never raises."""
        self.deliver = _dispatcher(self._routes)
        """Hand an event to its handlers, past the interceptors."""
        self.unheard = set(_HEADS)

    def add(self, subscription: Subscription) -> None:
        """Give a subscription a runner in this session."""
        make = _runner_of(subscription)
        self._runners[subscription] = make(subscription, self._session, self._host)
        self._compile(subscription.classes)

    def remove(self, subscription: Subscription) -> None:
        """Stop giving a subscription events; what waits in its mailbox is still handled."""
        runner = self._runners.pop(subscription, None)
        if runner is not None:
            runner.retire()
            self._retired.append(runner)
            self._prune()
            self._compile(subscription.classes)

    def off(self, handler: object) -> None:
        """Take out every registration of a handler.

        Raises:
            UsageError: There is none.
        """
        found = [subscription for subscription in self._runners if subscription.handler == handler]
        if not found:
            raise UsageError(f"{handler_name(handler)} is not registered here")
        for subscription in found:
            self.remove(subscription)

    def intercept(self, classes: frozenset[type[Event]], interceptor: Interceptor) -> None:
        """Let a function see events of some classes before their handlers do.

        Raises:
            UsageError: It is not a plain function of (event, session).
        """
        check_interceptor(interceptor)
        self._interceptors.append((classes, interceptor))
        self._compile(classes)

    def _compile(self, classes: frozenset[type[Event]]) -> None:
        for cls in classes:
            chain = tuple(fn for wanted, fn in self._interceptors if cls in wanted)
            puts = [
                _put_of(runner, self._host)
                for subscription, runner in self._runners.items()
                if cls in subscription.classes
            ]
            route = _all_of(puts) if puts else None
            _store(self._chains, cls, chain or None)
            _store(self._routes, cls, route)
            _store(self._entries, cls, partial(self._route_through, chain) if chain else route)
            self._hear(str(cls.__struct_config__.tag))

    def _hear(self, name: str) -> None:
        """Note whether anybody wants a wire name, which two protocols may share."""
        classes = INCOMING.get(name, ())
        if any(cls in self._entries for cls in classes):
            self.unheard.difference_update(frame_heads(name))
        elif name in _ON_THE_WIRE:
            self.unheard.update(frame_heads(name))

    def route_behind(self, interceptor: Interceptor, event: Event) -> None:
        """Let an event go on behind the interceptor that held it back.

        Behind all of them, if that one does not intercept events of its class.
        """
        chain = self._chains.get(type(event), ())
        behind = chain.index(interceptor) + 1 if interceptor in chain else len(chain)
        self._route_through(chain[behind:], event)

    def _route_through(self, chain: tuple[Interceptor, ...], event: Event) -> None:
        for interceptor in chain:
            replaced = self._pass(interceptor, event)
            if replaced is None:
                return
            event = replaced
        self.deliver(event)

    def _pass(self, interceptor: Interceptor, event: Event) -> Event | None:
        """Run an interceptor; one that raises is reported, and the event goes on as it was."""
        try:
            return _checked(interceptor(event, self._session), interceptor)
        except Exception as error:  # noqa: BLE001  # a plugin's code: whatever it raises is reported
            self._host.interceptor_failed(interceptor, event, error)
            return event

    @property
    def busy(self) -> bool:
        """Whether any mailbox still has work."""
        return any(runner.pending for runner in self._every())

    def close(self) -> None:
        """End all runners; what still waits is counted as dropped."""
        for runner in self._every():
            runner.close()

    def add_to_totals(self) -> None:
        """Add every handler's figures to its totals over all sessions; once, at the end."""
        for runner in self._every():
            runner.subscription.totals.add(runner.statistics)

    def _every(self) -> list[Runner]:
        self._prune()
        return [*self._runners.values(), *self._retired]

    def _prune(self) -> None:
        """Forget removed runners that have finished, but not their figures."""
        finished = [runner for runner in self._retired if not runner.pending]
        for runner in finished:
            self._retired.remove(runner)
            runner.subscription.totals.add(runner.statistics)

    def statistics_of(self, subscription: Subscription) -> HandlerStatistics | None:
        """Return one handler's figures, or None if it is not here."""
        runner = self._runners.get(subscription)
        return None if runner is None else _snapshot(runner)

    def statistics(self) -> list[HandlerStatistics]:
        """Return each handler's figures in this session, without the session's own listeners."""
        return [_snapshot(r) for r in self._every() if not r.subscription.internal]


def _checked(replaced: object, interceptor: Interceptor) -> Event | None:
    if replaced is None or isinstance(replaced, Event):
        return replaced
    raise TypeError(
        f"{handler_name(interceptor)} returned {replaced!r:.80}; an interceptor returns "
        "the event, another event, or None to end it"
    )


def _snapshot(runner: Runner) -> HandlerStatistics:
    return msgspec.structs.replace(runner.statistics, pending=runner.pending)


def _store(table: dict[type[Event], _Value], cls: type[Event], value: _Value | None) -> None:
    """Keep what there is; a missing entry means: nobody cares."""
    if value is None:
        table.pop(cls, None)
    else:
        table[cls] = value


def _dispatcher(table: dict[type[Event], _Put]) -> _Put:
    """Return what calls a table's entry for an event; a closure, for it is every event's way."""
    find = table.get

    def dispatch(event: Event) -> None:
        put = find(type(event))
        if put is not None:
            put(event)

    return dispatch


def _all_of(puts: list[_Put]) -> _Put:
    """Return one function that calls all, in order."""
    if len(puts) == 1:
        return puts[0]

    def put_to_all(event: Any) -> None:
        for put in puts:
            put(event)

    return put_to_all


def _runner_of(subscription: Subscription) -> Callable[[Subscription, Any, Host], Runner]:
    if subscription.options.mode != "inline":
        return Mailbox
    return EagerMailbox if subscription.is_async else InlineRunner


def _put_of(runner: Runner, host: Host) -> _Put:
    put = _put_once(runner, host) if runner.subscription.once else runner.put
    where = runner.subscription.where
    if where is None:
        return put

    def put_if_wanted(event: Any) -> None:
        try:
            wanted = where(event)
        except Exception as error:  # noqa: BLE001  # the caller's code: whatever it raises is reported
            runner.statistics.failed += 1
            host.handler_failed(runner.subscription, event, error)
            return
        if wanted:
            put(event)

    return put_if_wanted


def _put_once(runner: Runner, host: Host) -> _Put:
    def put_and_remove(event: Any) -> None:
        if not runner.subscription.spent:
            runner.subscription.spent = True
            runner.put(event)
            host.unsubscribe(runner.subscription)

    return put_and_remove
