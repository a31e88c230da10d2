"""A plugin for mypy: of a mistyped wire name it prints the near misses.

::

    [tool.mypy]
    plugins = ["realtime_bus.mypy"]

Without it mypy finds the same mistakes, but cannot say what was meant. Nothing else imports this.

Rules:

1. What `on`, `once`, `wait_for` and `stream` would refuse at run time is refused in the same words.
2. Patterns are right only as type checkers without the plugin know them: `pattern()` marks others.
3. One mistake, one message: the call then counts as one for events of any kind.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

from mypy.errorcodes import ARG_TYPE
from mypy.nodes import ARG_POS, ARG_STAR, StrExpr
from mypy.plugin import MethodSigContext, Plugin
from mypy.types import AnyType, FunctionLike, TypeOfAny, UnionType, get_proper_type

from .errors import UsageError
from .routing import CommonPattern, OnFor, OnMethod, StreamFor, WaitForFor, select

__all__ = ["WireNamePlugin", "plugin"]

_CALLS = frozenset(
    f"{protocol.__module__}.{protocol.__qualname__}.__call__"
    for protocol in (OnFor, OnMethod, StreamFor, WaitForFor)
)
_COMMON = frozenset(typing.get_args(CommonPattern))


class WireNamePlugin(Plugin):
    """Checks the wire names that events are selected by."""

    def get_method_signature_hook(
        self, fullname: str
    ) -> Callable[[MethodSigContext], FunctionLike] | None:
        """Look at calls of what selects events."""
        return _check if fullname in _CALLS else None


def plugin(_version: str) -> type[Plugin]:
    """Return the plugin; mypy calls this."""
    return WireNamePlugin


def _check(context: MethodSigContext) -> FunctionLike:
    """Report wrong names, and let the overloads for several kinds of events take them."""
    signature = context.default_signature
    types = list(signature.arg_types)
    for index, text in _texts(context):
        complaint = _complaint(text.value)
        if complaint is not None and isinstance(get_proper_type(types[index]), UnionType):
            context.api.fail(complaint, text, code=ARG_TYPE)  # mypy prints repeated ones once
            types[index] = AnyType(TypeOfAny.from_error)
    # pyright knows its parameters in part alone: mypy has them of a type that hides from mypyc
    return signature.copy_modified(arg_types=types)  # pyright: ignore[reportUnknownMemberType]  # mypy's own types


def _texts(context: MethodSigContext) -> Iterator[tuple[int, StrExpr]]:
    """Yield the selectors that are literal text, and which parameter each goes to."""
    for index, kind in enumerate(context.default_signature.arg_kinds):
        if kind in (ARG_POS, ARG_STAR):
            for argument in context.args[index]:
                if isinstance(argument, StrExpr):
                    yield index, argument


def _complaint(text: str) -> str | None:
    """Return what is wrong with a selector, or None."""
    try:
        select([text])
    except UsageError as error:
        if "*" in text or "did you mean" in str(error):
            return str(error)
        return f"{error}; give one of your own as its class or pattern({text!r})"
    if "*" in text and text not in _COMMON:
        return f"only common patterns are known to type checkers; write pattern({text!r})"
    return None
