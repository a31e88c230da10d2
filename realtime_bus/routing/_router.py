"""The routing of one session: what an event meets on its way, in which order.

Rules:

1. Routes are compiled per event class when its first event comes after a change.
2. Observers, parts of the session that only note what the server said, see an event first. Then
   interceptors see it, in the order of their registration. One that returns None ends the event;
   what it returns otherwise goes on.
3. Handlers get an event in the order of their registration, whether inline or from mailboxes. The
   session's own parts are registered first.
4. What an interceptor held back goes on behind it when it is injected.
5. An event of which something did not fit comes as `Drifted`: observers, and whoever wants events
   `narrowed`, get it so; all others as it was read. Both count as one event: an interceptor that
   returns what it was given has let it pass, and one that returns another has replaced both.
6. `skippable` holds the beginnings of the frames that nobody wants: they need no decoding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from weakref import ref

import msgspec

from realtime_bus.codec import narrow
from realtime_bus.codec._frame import frame_heads
from realtime_bus.events import BusEvent, Event

from ._backlog import Backlog, is_light
from ._mailbox import EAGER_TASKS, EagerMailbox, Mailbox
from ._runners import Host, InlineRunner, Runner, reported
from ._selectors import INCOMING, Selection, select, wire_name
from ._signature import check_interceptor, handler_name
from ._subscription import HandlerStatistics, Subscription

Interceptor = Callable[[Any, Any], Event | None]
"""A plain function of (event, session): it returns what goes on, or None to end the event."""

_Put = Callable[[Any], None]
_MAX_KEPT = 256  # events without audio that were ended by an interceptor, in a `Backlog`
_WIRE = frozenset(
    cls for classes in INCOMING.values() for cls in classes if not issubclass(cls, BusEvent)
)
_HEADS = frozenset(head for cls in _WIRE for head in frame_heads(wire_name(cls)))


class Drifted(NamedTuple):
    """An event of which something did not fit.

    Attributes:
        event: As it was read: what did not fit is raw data.
        narrowed: The same with all fields of their types.
    """

    event: Event
    narrowed: Event


class _Route(NamedTuple):
    """What events of one class meet; and which of those want them narrowed."""

    observers: tuple[_Put, ...]
    interceptors: tuple[Interceptor, ...]
    puts: tuple[_Put, ...]
    heavy_puts: tuple[_Put, ...]
    interceptors_narrowed: tuple[bool, ...] = ()
    puts_narrowed: tuple[bool, ...] = ()


class Router:
    """Interceptors and handlers of one session, by event class.

    Attributes:
        session: What handlers are given; set before any is added.
        skippable: Beginnings of the frames that need no decoding, up to the end of their type.

    Args:
        host: What runners ask for.
        eager: Whether there are loops on which mailboxes may be eager.
        make: Makes the runner of a subscription and session where none of the usual ones will do.
    """

    def __init__(
        self,
        host: Host,
        *,
        eager: bool = False,
        make: Callable[[Subscription, Any], Runner | None] = lambda _subscription, _session: None,
    ) -> None:
        self.session: Any = None
        self._host = host
        self._make = make
        self._eager = eager and EAGER_TASKS
        self._observers: list[tuple[frozenset[type[Event]], _Put]] = []
        self._interceptors: list[tuple[Selection, Interceptor, bool]] = []
        self._runners: dict[Subscription, Runner] = {}
        self._retired: list[Runner] = []  # removed, but perhaps still at work
        self._routes: dict[type[Event], _Route] = {}
        self._direct: dict[type, tuple[_Put, ...]] = {}  # routes that have handlers alone
        self._direct_heavy: dict[type, tuple[_Put, ...]] = {}
        self._held: dict[int, tuple[Callable[[], Event | None], Interceptor]] = {}
        self._kept = Backlog[Event](max_items=_MAX_KEPT, on_drop=self._unhold)
        self._wanted: Counter[type[Event]] = Counter()
        self._over = False
        self._within: tuple[Callable[[], AbstractContextManager[object]], ...] = ()
        self._forget_routes()
        self.skippable: set[bytes] = set(_HEADS)

    # --- the way of an event -----------------------------------------------------------------

    def route(self, event: Event | Drifted) -> None:
        """Send an event past the observers and interceptors to its handlers; never raises."""
        puts = self._direct.get(type(event))
        if puts is None:  # then it is no `Drifted`, which has an entry of its own
            self._observe_and_intercept(event)  # type: ignore[arg-type]  # see above
        else:
            for put in puts:
                put(event)

    def route_heavy(self, event: Event | Drifted) -> None:
        """Do the same with an event whose frame counts in the bounds of mailboxes."""
        puts = self._direct_heavy.get(type(event))
        if puts is None:
            self._observe_and_intercept(event)  # type: ignore[arg-type]  # no `Drifted`, either
        else:
            for put in puts:
                put(event)

    def _observe_and_intercept(self, event: Event) -> None:
        route = self._routes.get(type(event)) or self._compile(type(event))
        for observe in route.observers:
            observe(event)
        for interceptor in route.interceptors:
            replaced = self._pass(interceptor, event)
            if replaced is None:
                self._hold(event, interceptor)
                return
            event = replaced
        route = self._routes.get(type(event)) or self._compile(type(event))
        for put in route.heavy_puts if self._host.heavy_bytes else route.puts:
            put(event)

    def _route_drifted(self, drifted: Drifted) -> None:
        event, narrowed = drifted
        route = self._routes.get(type(event)) or self._compile(type(event))
        for observe in route.observers:
            observe(narrowed)
        self._pass_on(event, narrowed, route.interceptors, route.interceptors_narrowed)

    def _pass_on(
        self,
        event: Event,
        narrowed: Event,
        interceptors: Sequence[Interceptor],
        wants_narrowed: Sequence[bool],
    ) -> None:
        """Send an event through interceptors, and on to its handlers, to each as it wants it."""
        for interceptor, wants in zip(interceptors, wants_narrowed, strict=True):
            given = narrowed if wants else event
            replaced = self._pass(interceptor, given)
            if replaced is None:
                self._hold(given, interceptor)
                return
            if replaced is not given:
                event, narrowed = replaced, narrow(replaced)
        route = self._routes.get(type(event)) or self._compile(type(event))
        puts = route.heavy_puts if self._host.heavy_bytes else route.puts
        for put, wants in zip(puts, route.puts_narrowed, strict=True):
            put(narrowed if wants else event)

    def _pass(self, interceptor: Interceptor, event: Event) -> Event | None:
        """Run an interceptor; one that raises is reported, and the event goes on as it was."""
        try:
            return _checked(interceptor(event, self.session), interceptor)
        except BaseException as error:  # noqa: BLE001  # a plugin's code: whatever it raises is reported
            self._host.report_failure(handler_name(interceptor), event, reported(error))
            return event

    def _hold(self, event: Event, interceptor: Interceptor) -> None:
        """Remember who ended an event, in case that it is injected later.

        Audio is not kept alive for that; of other events, which are small, the last are kept.
        """
        key, held = id(event), self._held
        try:
            held[key] = ref(event, lambda _: held.pop(key, None)), interceptor
        except TypeError:
            held[key] = (lambda: event), interceptor
            self._kept.put(event, self._host.heavy_bytes)

    def _unhold(self, event: Event) -> None:
        self._held.pop(id(event), None)

    def inject(self, event: Event, behind: Interceptor | None) -> None:
        """Let an event go on behind an interceptor: the one that held it if None is given.

        An event that none has held meets all of them.
        """
        _, holder = self._held.get(id(event), (None, None))
        route = self._routes.get(type(event)) or self._compile(type(event))
        chain, start = route.interceptors, behind or holder
        first = 0
        if start is not None:
            first = chain.index(start) + 1 if start in chain else len(chain)
        self._pass_on(event, narrow(event), chain[first:], route.interceptors_narrowed[first:])

    # --- registration ------------------------------------------------------------------------

    def run_within(self, manager: Callable[[], AbstractContextManager[object]]) -> None:
        """Let handlers that have a context of their own run inside a context manager."""
        self._within = (*self._within, manager)
        for runner in self._runners.values():
            if isinstance(runner, EagerMailbox):
                runner.run_within(manager)

    def observe(self, classes: Iterable[type[Event]], observer: _Put) -> None:
        """Let a part of the session see events before interceptors and handlers."""
        self._observers.append((frozenset(classes), observer))
        self._changed(Selection(frozenset(classes)), +1)

    def intercept(
        self, selector: object, interceptor: Interceptor, *, narrowed: bool = False
    ) -> None:
        """Let a function see events before their handlers do.

        Raises:
            UsageError: It is not a plain function of (event, session).
        """
        selection = select([selector])
        check_interceptor(interceptor)
        self._interceptors.append((selection, interceptor, narrowed))
        self._changed(selection, +1)

    def add(self, subscription: Subscription) -> None:
        """Give a subscription a runner in this session."""
        self._runners[subscription] = self._runner_of(subscription)
        self._changed(subscription.selection, +1)

    def remove(self, subscription: Subscription) -> None:
        """Stop giving a subscription events; what waits in its mailbox is still handled."""
        runner = self._runners.pop(subscription, None)
        if runner is not None:
            runner.retire()
            self._retired.append(runner)
            self._prune()
            self._changed(subscription.selection, -1)

    def off(self, function: object) -> bool:
        """Take out every registration of a handler or interceptor; False if there is none."""
        subscriptions = [known for known in self._runners if known.handler == function]
        intercepting = [entry for entry in self._interceptors if entry[1] == function]
        for subscription in subscriptions:
            self.remove(subscription)
        for entry in intercepting:
            self._interceptors.remove(entry)
            self._changed(entry[0], -1)
        return bool(subscriptions or intercepting)

    def _changed(self, selection: Selection, change: int) -> None:
        """Forget the routes that a registration concerns, and note which frames are wanted."""
        if selection.bases or selection.patterns:
            self._forget_routes()
        for cls in selection.classes:
            self._routes.pop(cls, None)
            self._direct.pop(cls, None)
            self._direct_heavy.pop(cls, None)
            self._wanted[cls] += change
            if cls in _WIRE:
                name = wire_name(cls)  # two protocols may share it
                wanted = any(self._wanted[each] for each in INCOMING[name])
                update = self.skippable.difference_update if wanted else self.skippable.update
                update(frame_heads(name))

    def _forget_routes(self) -> None:
        self._routes.clear()
        for direct in (self._direct, self._direct_heavy):
            direct.clear()
            direct[Drifted] = (self._route_drifted,)

    def _compile(self, cls: type[Event]) -> _Route:
        if self._over:
            return _Route((), (), (), ())
        intercepting = [each for each in self._interceptors if each[0].matches(cls)]
        runners = [
            runner
            for subscription, runner in self._runners.items()
            if subscription.selection.matches(cls)
        ]
        route = self._routes[cls] = _Route(
            tuple(self._contained(see) for classes, see in self._observers if cls in classes),
            tuple(interceptor for _, interceptor, _ in intercepting),
            tuple(self._put_of(runner, runner.put) for runner in runners),
            tuple(
                self._put_of(runner, runner.put if is_light(cls) else runner.put_heavy)
                for runner in runners
            ),
            tuple(narrowed for _, _, narrowed in intercepting),
            tuple(runner.subscription.options.narrowed for runner in runners),
        )
        if not route.observers and not route.interceptors:
            self._direct[cls] = route.puts
            self._direct_heavy[cls] = route.heavy_puts
        return route

    def _contained(self, observe: _Put) -> _Put:
        """Return an observer whose defects do not end the session."""

        def observe_safely(event: Any) -> None:
            try:
                observe(event)
            except Exception as error:  # noqa: BLE001  # a defect of ours: reported like a handler's
                self._host.report_failure(handler_name(observe), event, error)

        return observe_safely

    def _runner_of(self, subscription: Subscription) -> Runner:
        mode = subscription.options.mode
        made = self._make(subscription, self.session)
        if made is not None:
            return made
        if mode == "inline":
            return InlineRunner(subscription, self.session, self._host)
        if mode == "eager" and self._eager:
            eager = EagerMailbox(subscription, self.session, self._host)
            for manager in self._within:
                eager.run_within(manager)
            return eager
        return Mailbox(subscription, self.session, self._host)

    def _put_of(self, runner: Runner, put: _Put) -> _Put:
        """Return what hands a runner its events: those that its predicate wants, or one alone."""
        subscription, host = runner.subscription, self._host
        where = subscription.where

        def put_once(event: Any) -> None:
            if not subscription.spent:
                subscription.spent = True
                put(event)
                host.unsubscribe(subscription)

        put_it = put_once if subscription.once else put
        if where is None:
            return put_it

        def put_if_wanted(event: Any) -> None:
            try:
                wanted = bool(where(event))
            except BaseException as error:  # noqa: BLE001  # the caller's code: whatever it raises is reported
                runner.statistics.failed += 1
                host.report_failure(subscription.name, event, reported(error))
                return
            if wanted:
                put_it(event)

        return put_if_wanted

    # --- figures and the end -----------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether any mailbox still has work."""
        return any(runner.pending for runner in self._every())

    def close(self) -> None:
        """End all runners; what still waits is counted as dropped."""
        for runner in self._every():
            runner.close()

    def add_to_totals(self) -> None:
        """Add every handler's figures to its totals over all sessions; once, at the end.

        From now on, no event meets anybody here.
        """
        self._over = True
        self._forget_routes()
        for runner in self._every():
            runner.subscription.totals.add(runner.statistics)

    def _every(self) -> list[Runner]:
        self._prune()
        return [*self._runners.values(), *self._retired]

    def _prune(self) -> None:
        """Forget removed runners that have finished, but not their figures."""
        for runner in [runner for runner in self._retired if not runner.pending]:
            self._retired.remove(runner)
            runner.subscription.totals.add(runner.statistics)

    def statistics_of(self, subscription: Subscription) -> HandlerStatistics | None:
        """Return one handler's figures, or None if it is not here."""
        runner = self._runners.get(subscription)
        return None if runner is None else _snapshot(runner)

    def statistics(self) -> list[HandlerStatistics]:
        """Return each handler's figures in this session, without the session's own listeners.

        It changes nothing: any thread may ask.
        """
        retired = [runner for runner in [*self._retired] if runner.pending]
        runners = [*self._runners.values(), *retired]
        return [_snapshot(runner) for runner in runners if not runner.subscription.internal]


def _checked(replaced: object, interceptor: Interceptor) -> Event | None:
    if replaced is None or isinstance(replaced, Event):
        return replaced
    raise TypeError(
        f"{handler_name(interceptor)} returned {replaced!r:.80}; an interceptor returns "
        "the event, another event, or None to end it"
    )


def _snapshot(runner: Runner) -> HandlerStatistics:
    return msgspec.structs.replace(
        runner.statistics, pending=runner.pending, pending_bytes=runner.pending_bytes
    )
