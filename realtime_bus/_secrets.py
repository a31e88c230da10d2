"""What nobody may see: keys are carried wrapped, and taken out of every text.

Rules:

1. A key is wrapped where it enters the library and unwrapped where its bytes are written. In
   between it is in no ``repr`` and in no local variable of a frame that an exception may show: an
   application's own log may print locals (rich, structlog, Sentry). A string of a class of our own
   would not do, for those tools cut strings and look into mappings.
2. While a secret lives, it is taken out of what the library logs, and of what a server says where
   that becomes an exception's text: a server may repeat the key.
3. Words of less than `_SHORTEST` characters are not looked for in logs: ``none`` is everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from re import compile as pattern
from typing import Final, ParamSpec, TypeVar
from urllib.parse import parse_qsl
from weakref import finalize

from realtime_bus.errors import RealtimeBusError

_SECRET_NAME: Final = pattern(r"(?i).*(authorization|key|token|secret|cookie|password|sig\b).*")
_SHORTEST: Final = 8
_HIDDEN: Final = "***"
_known: Final[dict[int, str]] = {}  # by the identity of each `Secret` that lives
_changes = 0  # of them
_in_use: tuple[int, list[str]] = (0, [])  # after how many changes

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Secret:
    """A word that shows itself to nobody who does not ask for it by name."""

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        if len(value) >= _SHORTEST:
            _note(id(self), value)
            finalize(self, _note, id(self), None).atexit = False

    def reveal(self) -> str:
        """Return the word."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('…')"


def redact(text: str) -> str:
    """Return a text without the secrets that are in use."""
    for word in in_use():
        text = text.replace(word, _HIDDEN)
    return text


def in_use() -> list[str]:
    """Return the secrets that are in use, longest first: no part of a longer one stays.

    The same list, as long as they are the same ones.
    """
    global _in_use  # noqa: PLW0603  # one for the process, as what it is made of
    changes, words = _in_use
    if changes != _changes:
        changes = _changes  # first: what changes meanwhile is seen the next time
        words = sorted(set(_known.copy().values()), key=len, reverse=True)
        _in_use = changes, words
    return words


def _note(identity: int, value: str | None) -> None:
    global _changes  # noqa: PLW0603  # see above
    if value is None:
        _known.pop(identity, None)
    else:
        _known[identity] = value
    _changes += 1


class Secrets:
    """The secrets of one connection; they are in use as long as this lives.

    Args:
        headers: Values of those whose name sounds secret count, with and without their scheme.
        subprotocols: ``name.value`` pairs that name a key count with and without the name.
        query: Of the address; values whose name sounds secret count.
    """

    __slots__ = ("_secrets",)

    def __init__(
        self, headers: Mapping[str, str], subprotocols: Iterable[str] = (), query: str = ""
    ) -> None:
        words = {value for name, value in parse_qsl(query) if _SECRET_NAME.fullmatch(name)}
        for name, value in headers.items():
            if _SECRET_NAME.fullmatch(name):
                whole = str(value).strip()
                words |= {whole, whole.rpartition(" ")[2]}
        for name in subprotocols:
            if "key" in name.lower() and "." in name:
                words |= {name, name.partition(".")[2]}
        # Longest first, as above. Very short ones would hide all.
        longest_first = sorted((word for word in words if len(word) > 3), key=len, reverse=True)
        self._secrets = tuple(map(Secret, longest_first))

    def clean(self, text: str) -> str:
        """Return a text of the peer with every secret replaced, however short."""
        for secret in self._secrets:
            text = text.replace(secret.reveal(), _HIDDEN)
        return text


def unseen(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let the errors of a function that handles secrets come out without its frames."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except RealtimeBusError as error:
            error.__context__ = None  # that has frames, too
            raise error.with_traceback(None) from error.__cause__
        finally:
            del args, kwargs

    return call
