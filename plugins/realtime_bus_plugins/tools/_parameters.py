"""Parameters of a tool: which the model fills in, and which the application does.

The rules:

1. A parameter annotated `Session` gets the session; one annotated ``Annotated[T, Inject]``, or
   with a class that the application's state is an instance of, gets the state. (Not with a
   builtin class such as ``dict``: those are arguments, unless `Inject` says otherwise.)
2. All others are arguments. Each needs an annotation that msgspec can turn into JSON Schema.
3. The description of an argument is the one in its ``msgspec.Meta``, or else its line in the
   docstring's ``Args:`` section.
4. An argument with a default may be left out; then the function's own default applies.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from realtime_bus import RegistrationError, Session

__all__ = ["Inject", "Injected", "Parameter", "Shape", "shape_of", "target_of"]

Injected: TypeAlias = Literal["session", "state"]


class Inject:
    """Marks a parameter that the application fills in: ``kitchen: Annotated[Kitchen, Inject]``."""


class Parameter(NamedTuple):
    """One argument that the model gives.

    Attributes:
        name: Its name.
        annotation: Its type, with constraints.
        default: What the function takes without it, or `inspect.Parameter.empty`.
    """

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether the model must give it."""
        return self.default is inspect.Parameter.empty


class Shape(NamedTuple):
    """What a tool's function takes.

    Attributes:
        parameters: What the model gives.
        injected: What the application gives, by parameter name.
    """

    parameters: tuple[Parameter, ...]
    injected: dict[str, Injected]


def target_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function itself: without `functools.partial`, or an object's ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def shape_of(function: Callable[..., Any], *, name: str, state: object) -> Shape:
    """Look at a function's signature.

    Args:
        function: The tool.
        name: What to call it in messages.
        state: The application's state, or None.

    Raises:
        RegistrationError: Which parameter cannot be filled in, and what to do about it.
    """
    hints = _hints(function, name)
    parameters: list[Parameter] = []
    injected: dict[str, Injected] = {}
    for parameter in inspect.signature(function).parameters.values():
        _check_kind(parameter, name)
        annotation = hints.get(parameter.name, inspect.Parameter.empty)
        source = _source(annotation, state)
        if source is not None:
            injected[parameter.name] = source
            continue
        if annotation is inspect.Parameter.empty:
            raise RegistrationError(
                f"tool {name}: parameter {parameter.name!r} has no annotation; "
                "annotate it, so that the model can be told what to give"
            )
        parameters.append(Parameter(parameter.name, annotation, parameter.default))
    return Shape(tuple(parameters), injected)


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(target_of(function)), include_extras=True)
    except NameError as error:
        raise RegistrationError(
            f"tool {name}: {error}; a tool's annotations are read when it is registered, so what "
            "they name must be there at run time, in the tool's module"
        ) from error


_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "is variadic",
    inspect.Parameter.VAR_KEYWORD: "is variadic",
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only",
}


def _check_kind(parameter: inspect.Parameter, name: str) -> None:
    if parameter.kind in _KINDS:
        raise RegistrationError(
            f"tool {name}: parameter {parameter.name!r} {_KINDS[parameter.kind]}; "
            "a tool is called with named arguments"
        )


def _source(annotation: Any, state: object) -> Injected | None:
    """Tell who fills in a parameter: None is the model."""
    if annotation is Session:
        return "session"
    marks = getattr(annotation, "__metadata__", ())
    if any(mark is Inject or isinstance(mark, Inject) for mark in marks):
        return "session" if annotation.__origin__ is Session else "state"
    return "state" if _is_state(annotation, state) else None


def _is_state(annotation: Any, state: object) -> bool:
    if state is None or not isinstance(annotation, type) or annotation.__module__ == "builtins":
        return False
    try:
        return isinstance(state, annotation)
    except TypeError:  # a Protocol that cannot be asked; Inject says it
        return False
