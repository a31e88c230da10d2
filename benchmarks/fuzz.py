"""Fuzz the codec and whole sessions with mutated frames, against a plain `json` model of each.

    python -m benchmarks.fuzz --frames 5000000 --processes 2 --seed 7

Rules:

1. A round is 1000 frames to a decoder and to a session with all plugins attached that play, answer
   or keep state. It depends on its own seed only: what goes wrong prints it, ``--only SEED`` runs
   that round again.
2. What `json` cannot read, or what is no object with a text for a type, is an `InvalidFrame`. What
   has a type that nobody knows is an `UnknownEvent` that keeps the frame. All else is the event of
   its type, each of whose fields says what `json` says; a null or a gap may be its default.
3. The session hands over one event for each frame, in order, the same one; no handler fails.
4. Two things are not looked at, and cost only themselves: bytes that are no UTF-8 in a field that
   nobody knows, and what stands in place of base64 in a long audio delta, which then has no audio.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from functools import cache
from time import perf_counter
from typing import Any

import anyio
import msgspec
import pybase64
import structlog
from msgspec import inspect

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.codec import Decoder
from realtime_bus.transport import PushTransport
from realtime_bus_plugins.backchannel import Backchannel
from realtime_bus_plugins.history import History
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.protocol_check import ProtocolCheck
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools
from realtime_bus_plugins.turn_metrics import TurnMetrics

ROUND = 1000
"""Frames of one seed."""

_LIMIT_S = 120.0  # for a round: a hang is a finding
_PROTOCOL = ev.PROTOCOLS["realtime"]
_TYPES: dict[str, type[ev.Event]] = {
    **_PROTOCOL.server,
    **{old: _PROTOCOL.server[new] for old, new in _PROTOCOL.old_names.items()},
}


# Frames as a server might send them


def _made(node: Any, rng: random.Random, name: str = "") -> Any:  # noqa: PLR0911  # a table of types
    """Return plain data of a type; ids are few, so that events are about the same things."""
    kind = type(node)
    if kind is inspect.StructType:
        fields = (field for field in node.fields if field.required or rng.random() < 0.6)
        tag = {node.tag_field: node.tag} if node.tag_field else {}
        return {**tag, **{f.encode_name: _made(f.type, rng, f.encode_name) for f in fields}}
    if kind is inspect.UnionType:
        return _made(rng.choice(node.types), rng, name)
    if kind is inspect.ListType:
        return [_made(node.item_type, rng) for _ in range(rng.randint(0, 3))]
    if kind is inspect.DictType:
        return {f"key_{key}": _made(node.value_type, rng) for key in range(rng.randint(0, 2))}
    if kind is inspect.LiteralType:
        return rng.choice(sorted(node.values, key=str))
    if kind is inspect.StrType and name.endswith("id"):
        return f"{name.removesuffix('_id')}_{rng.randint(1, 3)}"
    return _SCALARS[kind](rng)


_SCALARS: dict[type, Callable[[random.Random], Any]] = {
    inspect.StrType: lambda rng: rng.choice(("", "word ", "naïve 🎧", '"\\\n', "x" * 40)),
    inspect.IntType: lambda rng: rng.choice((0, 1, 2, 300, 5000)),
    inspect.FloatType: lambda rng: rng.choice((0.0, 0.5, 1.0)),
    inspect.BoolType: lambda rng: rng.random() < 0.5,
    inspect.NoneType: lambda _: None,
    inspect.AnyType: lambda rng: rng.choice((None, 1, "any", {"a": [1, {}]})),
    inspect.RawType: lambda rng: pybase64.b64encode(bytes(rng.choice((0, 3, 2400)))).decode(),
}


@cache
def _corpus() -> list[dict[str, Any]]:
    rng = random.Random(0)  # noqa: S311  # frames, not secrets
    made: list[dict[str, Any]] = []
    for name, cls in _TYPES.items():
        node = inspect.type_info(cls)
        made += [{**_made(node, rng), "type": name} for _ in range(8)]
    return made


# What goes wrong with them

_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 2**31, 2**63, 2**64, 10**30, 1e308),
    *(float("inf"), float("nan"), "", "x", " ", "\0", "\ud800", "é", "x" * 600, "AAAA", "A"),
    *([], {}, [None], {"type": None}, {"type": "message"}, [[[[]]]], {"": {"": ""}}),
)
_TOKENS = (
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"null", b"true", b"1e400", b"-", b"0"),
    *(b"NaN", b"\\u0000", b"\\ud800", b"\xff", b"\xed\xa0\x80", b"\xf0\x9f", b" ", b"\n", b"\x00"),
    *(b'"type":"error",', b'"delta":"AAAA",', b'"item_id":null,', b'"x":1e999,', b"\xef\xbb\xbf"),
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place within a value: what holds it, and its key there."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in list(entries):
        yield value, key
        if isinstance(entry, dict | list):
            yield from _places(entry)


def _twist(plain: dict[str, Any], rng: random.Random) -> None:
    """Change one place of a frame."""
    holder, key = rng.choice(list(_places(plain)))
    what = rng.random()
    if what < 0.45:
        holder[key] = deepcopy(rng.choice(_ODD))
    elif what < 0.6:
        del holder[key]
    elif what < 0.7 and isinstance(holder, dict):
        holder[rng.choice(("novelty", "type", "id", key + "s"))] = deepcopy(rng.choice(_ODD))
    elif what < 0.9:
        other, at = rng.choice(list(_places(plain)))
        holder[key] = deepcopy(other[at])
    else:
        holder[key] = [deepcopy(holder[key]) for _ in range(rng.randint(0, 3))]


def _damage(frame: bytes, other: bytes, rng: random.Random) -> bytes:
    """Change some bytes of a frame."""
    at = rng.randint(0, len(frame))
    upto = min(len(frame), at + rng.choice((1, 1, 2, 8, 100)))
    what = rng.randrange(7)
    if what == 0 and frame:
        at = min(at, len(frame) - 1)
        return frame[:at] + bytes((frame[at] ^ 1 << rng.randrange(8),)) + frame[at + 1 :]
    return (
        frame[:at] + rng.choice(_TOKENS) + frame[at:],
        frame[:at] + rng.choice(_TOKENS) + frame[upto:],
        frame[:at] + frame[upto:],
        frame[:at] + frame[at:upto] * 2 + frame[upto:],
        frame[:at],
        frame[:at] + other[rng.randint(0, len(other)) :],
        frame[:at] + rng.randbytes(rng.randint(1, 4)) + frame[at:],
    )[what]


def _frames(rng: random.Random, corpus: list[dict[str, Any]]) -> Iterator[bytes]:
    for _ in range(ROUND):
        plain = json.loads(json.dumps(rng.choice(corpus)))
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            if plain:
                _twist(plain, rng)
        if rng.random() < 0.1:
            plain = dict(rng.sample(list(plain.items()), len(plain)))
        blanks = rng.choice(((",", ":"), (",", ":"), (", ", ": ")))
        text = json.dumps(plain, separators=blanks, ensure_ascii=rng.random() < 0.5)
        frame = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.4:
            other = json.dumps(rng.choice(corpus), separators=(",", ":")).encode()
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                frame = _damage(frame, other, rng)
        yield frame


# The model


class Different(AssertionError):  # noqa: N818  # a finding
    """What was read is not what `json` reads."""


def check(frame: bytes, event: ev.Event) -> str:
    """Hold an event against what plain `json` makes of its frame; return which kind it is.

    Raises:
        Different: They say different things.
    """
    try:
        text = frame.decode("utf-8", "surrogatepass")
    except ValueError:
        text = frame.decode("utf-8", "replace")
        if isinstance(event, ev.InvalidFrame):
            return "no text"
    plain = _parsed(text)
    if plain is None and isinstance(event, ev.ResponseOutputAudioDelta) and not event.delta:
        plain = _parsed(_AUDIO.sub('"delta":"', text, count=1))
    kind = plain.get("type") if isinstance(plain, dict) else None
    if not isinstance(kind, str):
        if not isinstance(event, ev.InvalidFrame):
            raise Different(f"{event!r:.300} of what is no event")
        return "no event"
    if isinstance(event, ev.InvalidFrame):
        raise Different(f"{event.reason!r}, but json reads {plain!r:.300}")
    cls = _TYPES.get(kind.strip())
    if cls is None:
        if not isinstance(event, ev.UnknownEvent) or event.frame != frame:
            raise Different(f"{event!r:.300} of an unknown type")
        return "unknown"
    if type(event) is not cls:
        raise Different(f"{type(event).__name__} for {kind}")
    _compare(event, plain, cls.__name__)
    return "event"


def _parsed(text: str) -> Any:
    """Return what plain `json` makes of a text; None if that is nothing."""
    try:
        return _clean(json.loads(text))
    except (ValueError, RecursionError):
        return None


_AUDIO = re.compile(r'"delta":"[^"]*')


def _clean(value: Any) -> Any:
    """Put U+FFFD in place of what is no Unicode, as printing and encoding want it."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    return value


def _compare(value: Any, plain: Any, path: str) -> None:  # noqa: C901, PLR0912  # a table of types
    if isinstance(value, msgspec.Struct):
        _compare_fields(value, plain, path)
    elif isinstance(value, ev.UnknownObject):
        _compare(value.data, plain, path)
    elif isinstance(value, bytes):
        if value != _audio(plain):
            raise Different(f"{path}: {len(value)} bytes for {plain!r:.100}")
    elif isinstance(value, list) and isinstance(plain, list) and len(value) == len(plain):
        for index, (one, other) in enumerate(zip(value, plain, strict=True)):
            _compare(one, other, f"{path}[{index}]")
    elif isinstance(value, dict) and isinstance(plain, dict) and value.keys() == plain.keys():
        for key, one in value.items():
            _compare(one, plain[key], f"{path}.{key}")
    elif isinstance(value, float) and type(plain) is int and plain.bit_length() < 1000:
        if value != float(plain):
            raise Different(f"{path}: {value!r} for {plain}")
    elif isinstance(value, float) and value != value:  # noqa: PLR0124  # no number
        if not isinstance(plain, float) or plain == plain:  # noqa: PLR0124  # the same
            raise Different(f"{path}: {value!r} for {plain!r:.100}")
    elif value != plain or isinstance(value, bool) is not isinstance(plain, bool):
        raise Different(f"{path}: {value!r:.100} for {plain!r:.100}")


def _compare_fields(value: msgspec.Struct, plain: Any, path: str) -> None:
    if not isinstance(plain, dict):
        raise Different(f"{path}: {type(value).__name__} for {plain!r:.100}")
    for field in _fields(type(value)):
        found = getattr(value, field.name)
        said = plain.get(field.encode_name)
        if said is not None:
            _compare(found, said, f"{path}.{field.name}")
        elif found is not None and found != _default(field):
            raise Different(f"{path}.{field.name}: {found!r:.100} of nothing")


_fields = cache(msgspec.structs.fields)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return b"" if field.default is msgspec.NODEFAULT else field.default


def _audio(plain: Any) -> bytes:
    try:
        return pybase64.b64decode(plain, validate=True)
    except (ValueError, TypeError):
        return b""


# One round


class _Tap:
    """The first plugin: it sees what each frame has become, before any other may end it."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, ev.Event]] = []
        self.failed: list[str] = []

    def attach(self, session: Session) -> None:
        def see(event: Any, session: Session) -> Any:
            self.seen.append((session.frame, event))
            return event

        session.intercept((ev.ServerEvent, ev.UnknownEvent, ev.InvalidFrame), see)
        session.on(ev.HandlerFailed)(self._note)

    def _note(self, event: ev.HandlerFailed) -> None:
        if isinstance(
            event.error, UsageError
        ):  # Backchannel tells of settings it can do nothing with
            return
        self.failed.append("".join(traceback.format_exception(event.error)))


async def _through_a_session(frames: list[bytes]) -> list[ev.Event]:
    """Feed frames to a session with plugins; return what came of each."""
    tap, sink, tools = _Tap(), NullSink(), Tools(timeout_s=1.0)

    @tools.tool
    async def any_tool(n: int = 0) -> int:
        await anyio.lowlevel.checkpoint()
        return n

    plugins: list[Any] = [tap, ProtocolCheck(), Backchannel(sink), sink, Interruption(sink)]
    plugins += [History(), TurnMetrics(), tools]
    bus = Bus(plugins=plugins, log_errors=False, drain_timeout_s=0.0)
    transport = PushTransport(send=len)
    with anyio.fail_after(_LIMIT_S):
        async with bus.session(transport, wait_created=False) as session:
            session.keep_history()
            for number, frame in enumerate(frames):
                transport.feed(frame)
                if number % 50 == 0:
                    await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            if session.close_info is not None:
                raise Different(f"the session has ended: {session.close_info}")
            received = session.statistics().frames_received
    if tap.failed:
        raise Different(f"a handler failed: {tap.failed[0]}")
    if received != len(frames) or len(tap.seen) != len(frames):
        raise Different(f"{len(frames)} frames fed, {received} received, {len(tap.seen)} seen")
    for (of, _), frame in zip(tap.seen, frames, strict=True):
        if of is not frame:
            raise Different(f"an event of {of!r:.100} where {frame!r:.100} was fed")
    return [event for _, event in tap.seen]


def run_round(seed: str) -> tuple[Counter[str], str | None]:
    """Run the frames of one seed; return how many of which kind, and what was found."""
    rng = random.Random(seed)  # noqa: S311  # frames, not secrets
    frames = list(_frames(rng, _corpus()))
    decode = Decoder().decode
    kinds: Counter[str] = Counter()
    number = -1
    try:
        decoded: list[ev.Event] = []
        for number, frame in enumerate(frames):  # noqa: B007  # told in a finding
            decoded.append(event := decode(frame))
            repr(event)
            kinds[check(frame, event)] += 1
        number = -1
        backend = "trio" if rng.random() < 0.5 else "asyncio"
        routed = anyio.run(_through_a_session, frames, backend=backend)
        for number, frame in enumerate(frames):
            if routed[number] != decoded[number]:  # also where it holds what equals nothing
                check(frame, routed[number])
    except Exception as error:
        frame = f"frame {number}: {frames[number]!r:.2000}\n" if number >= 0 else ""
        where = "" if isinstance(error, Different) else traceback.format_exc()
        return kinds, f"seed {seed}, {frame}{error}\n{where}"
    return kinds, None


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, print, and return the exit code: 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz")
    parser.add_argument("--frames", type=int, default=100_000, help="how many; %(default)s")
    parser.add_argument("--seed", default="0", help="of the first round; %(default)s")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", metavar="SEED", help="run one round again")
    options = parser.parse_args(arguments)
    rounds = -(-options.frames // ROUND)
    seeds = [options.only] if options.only else [f"{options.seed}.{n}" for n in range(rounds)]
    total: Counter[str] = Counter()
    begun_s = perf_counter()
    for kinds, found in _outcomes(seeds, options.processes):
        total += kinds
        if found is not None:
            seed = found.split(",", 1)[0].removeprefix("seed ")
            print(f"{found}\nagain: python -m benchmarks.fuzz --only {seed}")
            return 1
        if total.total() % (100 * ROUND) == 0 or sys.stderr.isatty():
            each = (perf_counter() - begun_s) / total.total()
            sys.stderr.write(f"\r{total.total()} frames, {each * 1e6:.0f} us each ")
    shares = ", ".join(f"{count} {kind}" for kind, count in total.most_common())
    took_s = perf_counter() - begun_s
    print(
        f"\n{total.total()} frames, seed {options.seed}: nothing found in {took_s:.0f} s ({shares})"
    )
    return 0


def _outcomes(seeds: list[str], processes: int) -> Iterator[tuple[Counter[str], str | None]]:
    _quiet()
    if processes == 1:
        yield from map(run_round, seeds)
        return
    with ProcessPoolExecutor(processes, initializer=_quiet) as pool:
        for future in as_completed([pool.submit(run_round, seed) for seed in seeds]):
            if future.result()[1] is not None:  # what is not begun need not be
                pool.shutdown(wait=False, cancel_futures=True)
            yield future.result()


if __name__ == "__main__":
    sys.exit(main())
