"""Handlers are looked at once, when they are registered: signature and annotations."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from realtime_bus.errors import UsageError

from ._selectors import Selection, select


class HandlerShape(NamedTuple):
    """What a handler looks like."""

    name: str
    is_async: bool
    wants_session: bool


def handler_name(handler: object) -> str:
    """Return what to call a handler in messages, logs and statistics: module and qualified name."""
    named: Any = _innermost(handler)
    if not hasattr(named, "__qualname__"):
        named = cast("Any", type(named))
    return f"{named.__module__}.{named.__qualname__}"


def examine(handler: Callable[..., Any], selection: Selection) -> HandlerShape:
    """Look at a handler, and refuse one that could not be called with these events.

    Raises:
        UsageError: What is wrong with it, and how it should look.
    """
    name = handler_name(handler)
    if not callable(handler):
        raise UsageError(
            f"{handler!r} is not callable; a handler takes (event) or (event, session)"
        )
    if inspect.isclass(handler):
        raise UsageError(f"{name} is a class; register an instance or a function")
    if inspect.isgeneratorfunction(_innermost(handler)) or _is_async_generator(handler):
        raise UsageError(f"{name} is a generator, which nobody would iterate; leave out yield")
    parameters = _positional(handler, name)
    if parameters and parameters[0].name == "self" and inspect.isfunction(handler):
        raise UsageError(
            f"{name} is a method without its object; decorate it with realtime_bus.on and give "
            "the object to the bus as a plugin, or register the bound method"
        )
    if parameters:
        _check_annotation(handler, parameters[0], selection, name)
    wants_session = len(parameters) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return HandlerShape(name, is_async(handler), wants_session)


def check_interceptor(interceptor: Callable[..., Any]) -> None:
    """Refuse an interceptor that could not be called with (event, session).

    Raises:
        UsageError: What is wrong with it, and how it should look.
    """
    name = handler_name(interceptor)
    if not callable(interceptor):
        raise UsageError(f"{interceptor!r} is not callable; give a function of (event, session)")
    if is_async(interceptor):
        raise UsageError(
            f"{name} is async, and nothing may be awaited on an event's way; to delay an event, "
            "keep it, return None and call session.inject(event) later"
        )
    try:
        inspect.signature(interceptor).bind("event", "session")
    except (TypeError, ValueError):
        raise UsageError(f"{name} cannot be called with (event, session)") from None


def _innermost(handler: Any) -> Any:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler


def _is_async_generator(handler: Any) -> bool:
    return inspect.isasyncgenfunction(_innermost(handler))


def is_async(handler: Callable[..., Any]) -> bool:
    """Tell whether a handler must be awaited."""
    target = _innermost(handler)
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        getattr(target, "__call__", None)  # noqa: B004  # its function is wanted, not whether it is callable
    )


def _positional(handler: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        raise UsageError(
            f"{name} has no signature that can be read; wrap it: lambda event: {name}(event)"
        ) from None
    for attempt in (("event", "session"), ("event",)):
        try:
            signature.bind(*attempt)
        except TypeError:
            continue
        return _first_parameters(signature, len(attempt))
    raise UsageError(
        f"{name}{signature} cannot be called with (event) or (event, session); "
        "a handler takes one or both, in this order, and nothing else without a default"
    )


def _first_parameters(signature: inspect.Signature, count: int) -> list[inspect.Parameter]:
    """Return the parameters that the event, and the session if it is wanted, go to.

    A second parameter with a default (`lambda event, n=3: …`) is the handler's own.
    """
    positional = [
        p
        for p in signature.parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
    ]
    taken = positional[:count]
    if (
        len(taken) > 1
        and taken[1].default is not inspect.Parameter.empty
        and taken[1].name != "session"
    ):
        return taken[:1]
    return taken


def _check_annotation(
    handler: Callable[..., Any],
    parameter: inspect.Parameter,
    selection: Selection,
    name: str,
) -> None:
    annotation = _annotation(handler, parameter)
    if annotation in (inspect.Parameter.empty, Any, object) or isinstance(
        annotation, str | typing.TypeVar
    ):
        return
    if _is_wider(annotation, selection):
        return
    try:
        accepted = select([annotation])
    except UsageError as error:
        raise UsageError(
            f"{name}: its parameter {parameter.name!r} is annotated with {error}"
        ) from None
    missing = {cls for cls in {*selection.classes, *selection.bases} if not accepted.matches(cls)}
    if missing:
        names = ", ".join(sorted(cls.__name__ for cls in missing))
        shown = getattr(annotation, "__name__", str(annotation))
        raise UsageError(
            f"{name} is registered for {names}, but its parameter {parameter.name!r} is "
            f"annotated with {shown}; make the two agree"
        )


def _is_wider(annotation: Any, selection: Selection) -> bool:
    """Tell a base of all the events, or a protocol, which only a type checker can judge."""
    if not isinstance(annotation, type):
        return False
    if getattr(annotation, "_is_protocol", False):
        return True
    return all(issubclass(cls, annotation) for cls in {*selection.classes, *selection.bases})


def _annotation(handler: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the annotation as an object; as a string or empty if it cannot be resolved."""
    target = _innermost(handler)
    if not inspect.isroutine(target):
        target = type(target).__call__
    try:
        hints = typing.get_type_hints(inspect.unwrap(target))
    except (NameError, TypeError, AttributeError):
        return parameter.annotation  # a name of TYPE_CHECKING only: the type checker has seen it
    return hints.get(parameter.name, inspect.Parameter.empty)
