"""Names into subjects and back: pure text.

Rules:

1. An event of a session is published as ``<app>.<session>.<side>.<wire name>``: sides are
   ``server``, ``client`` and ``bus``. A wire name keeps its dots: so ``app.*.server.response.>``
   is a subscription.
2. The stream stores it as ``<app>.<partition>.<session>.<side>.<wire name>``: the broker hashes the
   session's id itself (a subject transform), so nobody else needs to.
3. What comes from outside is escaped: every byte but letters, digits, ``-`` and ``_`` becomes
   ``=XX``. So no id can reach into another subject, or into another key of a bucket, which allow
   the same characters. An id that is too long for a subject is named by its hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Final, Literal, NamedTuple

import msgspec

from realtime_bus import UsageError
from realtime_bus import events as ev

Side = Literal["server", "client", "bus"]

SIDES: Final[tuple[Side, ...]] = ("server", "client", "bus")

LIFECYCLE: Final = frozenset({"bus.connected", "bus.closed"})
"""Always published: workers keep a session from one to the other."""

AUDIO: Final = frozenset(
    {
        "response.output_audio.delta",
        "response.audio.delta",
        "input_audio_buffer.append",
        "session.output_audio.delta",
        "session.input_audio_buffer.append",
    }
)
"""Wire names of what is audio and little else."""

_PLAIN: Final = re.compile(rb"[A-Za-z0-9_-]")
_MAX_TOKEN: Final = 160
_MAX_PARTS: Final = 12
_APP: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_HEAD: Final = b'{"type":"'


def escape(text: str) -> str:
    """Return any text as one token of a subject, or as a key."""
    raw = text.encode("utf-8", "surrogatepass")
    token = "".join(chr(byte) if _PLAIN.match(bytes((byte,))) else f"={byte:02X}" for byte in raw)
    if len(token) > _MAX_TOKEN:
        return f"=_{sha256(raw).hexdigest()}"
    return token or "=_"


def unescape(token: str) -> str:
    """Return the text behind a token; of one that is a hash, the token."""
    if token.startswith("=_"):
        return "" if token == "=_" else token  # noqa: S105  # a part of a subject, no password
    raw = re.sub(
        rb"=([0-9A-F]{2})",
        lambda found: bytes((int(found[1], 16),)),
        token.encode("utf-8", "surrogatepass"),
    )
    return raw.decode("utf-8", "replace")


def name_tokens(wire_name: str) -> str:
    """Return a wire name as the last tokens of a subject, whatever a server calls its events."""
    parts = wire_name.split(".", _MAX_PARTS)
    if len(wire_name) > _MAX_TOKEN:
        return escape(wire_name)
    return ".".join(escape(part) for part in parts)


class Names:
    """Subjects, streams and buckets of one application.

    Args:
        app: Its name: letters, digits, ``-`` and ``_``, at most 32.

    Raises:
        UsageError: It cannot be part of a subject.
    """

    def __init__(self, app: str) -> None:
        if not _APP.fullmatch(str(app)):
            raise UsageError(
                f"app={app!r:.80} cannot be part of a subject: give letters, digits, - and _, "
                "at most 32"
            )
        self.app: str = app
        self.stream: str = app
        self.dead_stream: str = f"{app}_dead"
        self.sessions_bucket: str = f"{app}_sessions"
        self.leases_bucket: str = f"{app}_leases"
        self.groups_bucket: str = f"{app}_groups"

    @property
    def published(self) -> list[str]:
        """What the stream takes."""
        return [f"{self.app}.*.{side}.>" for side in SIDES]

    @property
    def dead(self) -> str:
        """What the stream of dead letters takes."""
        return f"{self.app}.*.dead.>"

    def transform(self, partitions: int) -> tuple[str, str]:
        """Return how a published subject becomes a stored one."""
        return (
            f"{self.app}.*.>",
            f"{self.app}.{{{{partition({partitions},1)}}}}.{{{{wildcard(1)}}}}.>",
        )

    def event(self, token: str, side: Side, wire_name: str) -> str:
        """Return the subject that an event is published to."""
        return f"{self.app}.{token}.{side}.{name_tokens(wire_name)}"

    def handled(self, partition: int | Literal["*"]) -> list[str]:
        """Return the stored subjects that workers handle: all but what clients have sent."""
        return [f"{self.app}.{partition}.*.{side}.>" for side in ("server", "bus")]

    def stored(self, token: str = "*") -> str:  # noqa: S107  # a part of a subject, no password
        """Return the stored subjects of a session."""
        return f"{self.app}.*.{token}.>"

    def live(self, token: str = "*", side: str = "*") -> str:  # noqa: S107  # the same
        """Return the subjects that a session's events are published to."""
        return f"{self.app}.{token}.{side}.>"

    def command(self, token: str) -> str:
        """Return where the process that holds a session takes commands."""
        return f"{self.app}.{token}.command"

    def dead_letter(self, token: str, group: str, handler: str) -> str:
        """Return where an event goes that a handler could not handle."""
        return f"{self.app}.{token}.dead.{escape(group)}.{escape(handler)}"


class Stored(NamedTuple):
    """What a stored subject says.

    Attributes:
        partition: Of the session.
        token: The session's id, escaped.
        side: Who sent it, or ``bus``.
    """

    partition: int
    token: str
    side: str


def read_stored(subject: str) -> Stored | None:
    """Read a stored subject; None if it is none."""
    parts = subject.split(".", 4)
    if len(parts) != 5 or not parts[1].isdigit():
        return None
    return Stored(int(parts[1]), parts[2], parts[3])


class _Type(msgspec.Struct):
    type: str


_TYPE: Final = msgspec.json.Decoder(_Type)


def wire_name_of(frame: bytes) -> str:
    """Return a frame's type; empty if it has none."""
    if frame.startswith(_HEAD):
        end = frame.find(b'"', len(_HEAD), len(_HEAD) + _MAX_TOKEN)
        if end > 0 and b"\\" not in frame[:end]:
            return frame[len(_HEAD) : end].decode("utf-8", "replace")
    try:
        return _TYPE.decode(frame).type
    except (ValueError, RecursionError):
        return ""


class Choice:
    """Which events are published.

    Args:
        events: Classes, wire names, or patterns of them in which ``*`` stands for any characters.
        without: Those that are not, though `events` has them.
        audio: Whether audio is, where `events` has it.

    Raises:
        UsageError: One of them stands for nothing.
    """

    def __init__(
        self, events: Iterable[object], *, without: Iterable[object] = (), audio: bool
    ) -> None:
        self._patterns = _patterns(events)
        self._without = _patterns(without)
        self._audio = audio
        self._known: dict[str, bool] = {}

    def wants(self, wire_name: str) -> bool:
        """Tell whether events of a name are published."""
        known = self._known.get(wire_name)
        if known is None:
            known = wire_name in LIFECYCLE or (
                (self._audio or wire_name not in AUDIO)
                and any(fnmatchcase(wire_name, pattern) for pattern in self._patterns)
                and not any(fnmatchcase(wire_name, pattern) for pattern in self._without)
            )
            if len(self._known) < 1000:  # a server that makes up names must not fill the memory
                self._known[wire_name] = known
        return known


def _patterns(selectors: Iterable[object]) -> list[str]:
    given = [selectors] if isinstance(selectors, str) else selectors
    return [_pattern(each) for each in given]


def _pattern(selector: object) -> str:
    if isinstance(selector, type) and issubclass(selector, ev.Event):
        tag = selector.__struct_config__.tag
        if isinstance(tag, str):
            return tag
    if isinstance(selector, str) and selector:
        known = {
            *(name for each in ev.PROTOCOLS.values() for name in (*each.server, *each.client)),
            *(str(cls.__struct_config__.tag) for cls in ev.own_events()),
        }
        own = selector.startswith("app.")  # may be defined later, or elsewhere
        if own or any(fnmatchcase(name, selector) for name in known):
            return selector
    raise UsageError(
        f"events has {selector!r:.80}, which stands for no event; give classes, wire names such as "
        "'response.done', or patterns such as 'response.*'"
    )
