"""Mistyped names, each on a line marked with what the plugin for mypy says; never run."""

# ruff: noqa: D102, D103, E501  # samples for type checkers, named after what they show
# A mark stands on the line of its mistake:
# fmt: off

from __future__ import annotations

from realtime_bus import Bus, HandlerGroup, Plugin, Session, on, once
from realtime_bus import events as ev

bus = Bus()
handlers = HandlerGroup()


@bus.on("eror")  # E: there is no event 'eror'; did you mean 'error'?
async def plain(event: ev.Error) -> None: ...


@bus.on("eror", mode="latest", timeout_s=1)  # E: there is no event 'eror'; did you mean 'error'?
async def with_options(event: ev.Error, session: Session) -> None: ...


@bus.once("eror", where=lambda event: True)  # E: there is no event 'eror'; did you mean 'error'?
def with_predicate(event: ev.Error) -> None: ...


@handlers.on(ev.ResponseDone, "eror")  # E: there is no event 'eror'; did you mean 'error'?
def second_of_two(event: ev.ResponseDone | ev.Error) -> None: ...


@handlers.on("rate_limit.*")  # E: the pattern 'rate_limit.*' matches no event; did you mean 'rate_limits.updated'?
def by_pattern(event: ev.RateLimitsUpdated) -> None: ...


@handlers.on("res*.done")  # E: only common patterns are known to type checkers; write pattern('res*.done')
def by_odd_pattern(event: ev.ServerEvent) -> None: ...


class Declaring(Plugin):
    """Declares methods for events that there are not."""

    @on("eror")  # E: there is no event 'eror'; did you mean 'error'?
    async def failed(self, event: ev.Error, session: Session) -> None: ...

    @once("order.placed")  # E: there is no event 'order.placed'; give one of your own as its class or pattern('order.placed')
    async def placed(self, event: ev.AppEvent) -> None: ...


async def program(session: Session) -> None:
    await session.wait_for("rate_limits.update")  # E: there is no event 'rate_limits.update'; did you mean 'rate_limits.updated'?
    session.stream("*.dlta")  # E: the pattern '*.dlta' matches no event
