"""A client and the local server on a virtual clock, and what a random schedule may do to them."""

from __future__ import annotations

import array
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from typing import Any
from unittest import mock

import msgspec
import trio
import trio.testing

from realtime_bus import Bus, RequestRejected, Session
from realtime_bus import events as ev
from realtime_bus.history import HistoryItem
from realtime_bus.server import (
    EnergyDetector,
    FaultPlan,
    Output,
    RealtimeServer,
    ResponderRequest,
    ServerOptions,
    Speech,
    Text,
    ToolCall,
)
from realtime_bus_plugins.history import History
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted
from realtime_bus_plugins.protocol_check import ProtocolCheck, ProtocolViolation
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools

EXPECTED_ERRORS = {
    "conversation_already_has_active_response",  # a create of ours lost the race to the server's
    "response_cancel_not_active",  # a cancel crossed the response's end
    "input_audio_buffer_commit_empty",  # a commit of what the detector had committed just before
    "item_delete_invalid_item_id",  # the item went while the request was on its way
    "item_retrieve_invalid_item_id",
}
LIMIT_S = 600.0  # virtual seconds in which everything must have come to rest


def _noise(duration_ms: int) -> bytes:
    loud = random.Random(duration_ms)  # noqa: S311  # sound, not secrets
    return array.array("h", [loud.randint(-9000, 9000) for _ in range(24 * duration_ms)]).tobytes()


_SPEECH = {duration_ms: _noise(duration_ms) for duration_ms in (100, 300, 700)}


class Whimsical:
    """Answers at random: speech, text, tool calls, silence, or a failure."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # whims, not secrets
        self._calls = 0

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Write down every turn as other words, and some not at all."""
        return None if turn_index % 5 == 4 else f"turn {turn_index}, {len(audio)} bytes"

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Output, None]:
        """Do something else each time."""
        whim = self._random.random()
        await trio.sleep(self._random.choice((0.0, 0.05, 0.4)))
        if whim < 0.05:
            raise RuntimeError("the model has fallen over")
        if whim < 0.1:
            return
        for piece in range(self._random.randint(1, 6)):
            text = f"word {piece} "
            yield Speech(_SPEECH[700], text) if request.wants_audio else Text(text)
            await trio.sleep(self._random.choice((0.0, 0.1)))
        if whim < 0.3 and request.tools:
            for _ in range(self._random.randint(1, 3)):
                self._calls += 1
                name = self._random.choice(("quick", "slow", "broken", "unheard_of"))
                yield ToolCall(name, '{"n": 1}', f"call_{self._calls}")


def _manners(seed: int) -> ServerOptions:
    """Vary what real servers vary."""
    pick = random.Random(seed)  # noqa: S311  # manners, not secrets
    return ServerOptions(
        late_deltas=pick.choice((0, 3)),
        done_without_created=pick.random() < 0.3,
        announce_conversation=pick.random() < 0.3,
        rate_limits=pick.choice(("after_created", "before_done", "after_done", "none")),
        item_done=pick.choice(("recorded", "conversation", "output")),
        odd_splits=pick.random() < 0.3,
        pace=pick.choice((1.0, 4.0, float("inf"))),
        transcript_ahead_ms=pick.choice((0, 500)),
        omit_nulls=pick.random() < 0.2,
    )


class Quiet:
    """A transport from a server that says less: nothing of our metadata, no ids where it can.

    Args:
        transport: What the server really says.
        seed: Decides what is left out, and whether that is null or absent.
    """

    def __init__(self, transport: Any, seed: int) -> None:
        pick = random.Random(seed)  # noqa: S311  # manners, not secrets
        self._transport = transport
        self._absent = pick.random() < 0.5
        self._nameless = pick.random() < 0.5

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def run(self, deliver: Any) -> Any:
        """Deliver what is left of each frame."""
        return await self._transport.run(lambda frame: deliver(self._quieted(frame)))

    def _quieted(self, frame: bytes) -> bytes:
        try:
            said = msgspec.json.decode(frame)
        except (ValueError, RecursionError):
            return frame
        if not isinstance(said, dict) or "type" not in said:
            return frame
        if said["type"] in {"response.created", "response.done"}:
            said["response"].pop("conversation_id", None)  # nulls may be omitted already
            said["response"]["metadata"] = None
            if self._absent:
                del said["response"]["metadata"]
        elif said["type"] == "error" and self._nameless:
            said["error"]["event_id"] = None
        else:
            return frame
        return msgspec.json.encode(said)


class SpiedServer(RealtimeServer):
    """The local server, and a look inside it at the end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.machine: Any = None
        self._machines: dict[str, Any] = {}

    def _protocol(self, accepted: Any) -> Any:
        self.machine = super()._protocol(accepted)
        self._machines[self.machine.session_id] = self.machine
        return self.machine

    def look_at(self, session_id: str | None) -> None:
        """Look inside this session from now on, not the last one that began."""
        self.machine = self._machines.get(str(session_id), self.machine)

    def items(self) -> list[str]:
        """Return the ids of the conversation's items, in order."""
        return [entry.item_id for entry in self.stored()]

    def stored(self) -> list[Any]:
        """Return the conversation's items as they are kept, in order."""
        return list(self.machine._conversation)

    def answers(self) -> Counter[str]:
        """Return how often each function call was answered."""
        outputs = (entry.item for entry in self.machine._conversation)
        return Counter(
            item.call_id for item in outputs if isinstance(item, ev.FunctionCallOutputItem)
        )

    def calls(self) -> set[str]:
        """Return the function calls in the conversation that are whole."""
        items = (entry.item for entry in self.machine._conversation)
        calls = (item for item in items if isinstance(item, ev.FunctionCallItem))
        return {str(call.call_id) for call in calls if call.status == "completed"}


class World:
    """One conversation under a schedule.

    Attributes:
        errors: The codes of the server's errors.
        late: Items of which audio reached the sink after they had been cut.
        violations: Rules of the protocol that we broke.
        failures: Handlers that raised; tools that fail on purpose are not among them.
        hanging: Requests that were never answered.
        otherwise: Items that the two sides know with other words, or other ends.
        steps: How many steps were taken.
        seen: How often what was meant to be tried came about.
    """

    def __init__(self, seed: int, plan: FaultPlan | None = None) -> None:
        self.server = SpiedServer(
            Whimsical(seed), options=_manners(seed), detector_factory=EnergyDetector, faults=plan
        )
        self.sink = NullSink(clock=trio.current_time)
        self.history = History()
        self.tools = Tools(timeout_s=2.0)
        # a commit by hand may find nothing: the detector is not asked before
        # a request that lost a race is sent again; the checker learns of that by its name alone
        check = ProtocolCheck(ignore={"commit-100-ms", "event-id-once"})
        self.bus = Bus(
            plugins=[check, self.sink, Interruption(self.sink), self.history, self.tools],
            log_errors=False,
        )
        self.errors: list[str | None] = []
        self.late: list[str] = []
        self.failures: list[str] = []
        self.violations: list[str] = []
        self.otherwise: list[str] = []
        self.hanging = 0
        self.steps = 0
        self.quiet = seed if seed % 3 == 0 else None  # no metadata comes back, and no ids
        self.seen: Counter[str] = Counter()
        self._cut: set[str] = set()
        self._deleted: set[str] = set()
        self._register()

    def _register(self) -> None:
        bus = self.bus
        bus.on(ev.Error)(self._refused)
        bus.on(ev.ResponseDone)(self._finished)
        bus.on(PlaybackInterrupted)(self._interrupted)
        bus.on(ev.ResponseOutputAudioDelta)(self._heard)
        bus.on(ev.HandlerFailed)(self._failed)
        bus.on(ProtocolViolation)(lambda event: self.violations.append(event.rule))
        self.tools.tool(quick)
        self.tools.tool(slow)
        self.tools.tool(broken)

    def _refused(self, event: ev.Error) -> None:
        self.errors.append(event.error.code)
        if event.error.code == "conversation_already_has_active_response":
            self.seen["lost races"] += 1

    def _finished(self, event: ev.ResponseDone) -> None:
        self.seen[f"{event.response.status} responses"] += 1
        self.seen["responses out of band"] += event.response.conversation_id is None

    def _interrupted(self, event: PlaybackInterrupted) -> None:
        self._cut |= {item.item_id for item in event.items}
        self._deleted |= {item.item_id for item in event.items if item.action == "deleted"}
        self.seen["interruptions"] += 1

    def _heard(self, event: ev.ResponseOutputAudioDelta) -> None:
        if event.item_id in self._cut:
            self.late.append(event.item_id)

    def lost(self) -> set[str]:
        """Return the items that the server was not given again when it was changed for another."""
        return set()

    def _failed(self, event: ev.HandlerFailed) -> None:
        if "broken" not in event.handler and "broken" not in str(event.error):
            self.failures.append(f"{event.handler}: {event.error!r}")

    async def run(self, schedule: list[tuple[str, int]]) -> None:
        """Take every step of a schedule, and wait until all has come to rest."""
        async with self.server.connect_memory() as transport:
            quieted = transport if self.quiet is None else Quiet(transport, self.quiet)
            async with self.bus.session(quieted) as session:
                await self._live(session, schedule)
                self._compare(session)

    async def _live(self, session: Session, schedule: list[tuple[str, int]]) -> None:
        async with trio.open_nursery() as nursery:
            for name, number in schedule:
                await STEPS[name](self, session, nursery, number)
                self.steps += 1
            with trio.move_on_after(LIMIT_S) as limit:
                await self._rest(session, nursery)
            self.hanging = len(nursery.child_tasks) if limit.cancelled_caught else 0
            nursery.cancel_scope.cancel()

    def _compare(self, session: Session) -> None:
        ours, theirs = list(self.history.of(session)), self.server.stored()
        self.order = [item.id for item in ours]
        self.server_order = self.server.items()
        kept = [item for item in ours if item.id not in self.lost()]
        if len(kept) == len(theirs):
            self.otherwise = [
                f"{item.id}: {told}"
                for item, entry in zip(kept, theirs, strict=True)
                for told in differences(item, entry)
            ]
        here, there = _told(session.config), _told(self.server.machine._config.echo)
        if here != there:
            self.otherwise.append(f"settings are {here} here, {there} there")
        self.calls = self.server.calls()
        self.answers = self.server.answers()
        self.seen["answered calls"] += len(self.answers)

    async def _rest(self, session: Session, nursery: trio.Nursery) -> None:
        """Be silent until nothing is left to do."""
        for _ in range(100):
            await session.append_audio(bytes(48 * 1000))
            await trio.sleep(1.0)
            if not nursery.child_tasks and not self.sink.playing and not session.active_response_id:
                break
        while nursery.child_tasks:  # noqa: ASYNC110  # a virtual clock: it costs nothing
            await trio.sleep(1.0)
        await trio.sleep(30.0)

    async def awaited(self, reply: Any) -> None:
        """Await a response behind the scenes."""
        response = await reply
        assert response.status in {"completed", "cancelled", "failed", "incomplete"}

    async def tolerant(self, function: Any, *arguments: Any) -> None:
        """Send a request; a refusal that the schedule explains is an answer like any other."""
        try:
            await function(*arguments)
        except RequestRejected as error:
            if error.code not in EXPECTED_ERRORS:
                raise

    # --- what a step may be ------------------------------------------------------------------

    async def speak(self, session: Session, _nursery: trio.Nursery, number: int) -> None:
        """Say something for a moment, talking over whatever plays."""
        duration_ms = (100, 300, 700)[number % 3]
        await session.append_audio(_SPEECH[duration_ms])
        await trio.sleep(duration_ms / 1000)

    async def silence(self, session: Session, _nursery: trio.Nursery, number: int) -> None:
        """Say nothing for a moment."""
        duration_ms = (100, 300, 900)[number % 3]
        await session.append_audio(bytes(48 * duration_ms))
        await trio.sleep(duration_ms / 1000)

    async def wait(self, _session: Session, _nursery: trio.Nursery, number: int) -> None:
        """Send nothing for a moment."""
        await trio.sleep((0.0, 0.01, 0.2, 2.0)[number % 4])

    async def respond(self, session: Session, nursery: trio.Nursery, number: int) -> None:
        """Ask for a response, in one of several ways, and await it behind the scenes."""
        options: dict[str, Any] = _WAYS[number % len(_WAYS)]
        if self.quiet is not None and "conversation" in options:
            options = {}  # no such server knows responses out of band
        nursery.start_soon(self.awaited, session.respond(**options, while_speaking=number % 3 > 0))

    async def cancel(self, session: Session, nursery: trio.Nursery, _number: int) -> None:
        """Cancel whatever is active."""
        nursery.start_soon(self.tolerant, session.cancel_response)

    async def text(self, session: Session, nursery: trio.Nursery, number: int) -> None:
        """Write a message."""
        nursery.start_soon(self.tolerant, session.send_text, f"message {number}")

    async def commit(self, session: Session, nursery: trio.Nursery, _number: int) -> None:
        """Commit by hand, though the detector would."""
        nursery.start_soon(self.tolerant, session.commit_input)

    async def update(self, session: Session, nursery: trio.Nursery, number: int) -> None:
        """Change the instructions."""
        nursery.start_soon(self.tolerant, _update, session, number)

    async def delete(self, session: Session, nursery: trio.Nursery, number: int) -> None:
        """Take a message of the person's out of the conversation."""
        items = (item.id for item in self.history.of(session) if item.role == "user")
        found = [item_id for item_id in items if item_id not in self._deleted | self.lost()]
        if found:
            self._deleted.add(found[number % len(found)])
            nursery.start_soon(self.tolerant, session.delete_item, found[number % len(found)])


_WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"output_modalities": ["text"]},
    {"conversation": "none", "output_modalities": ["text"]},
    {"replace": True},
    {"tool_choice": "none"},
)

STEPS: dict[str, Any] = {
    name: getattr(World, name)
    for name in (
        "speak",
        "silence",
        "wait",
        "respond",
        "cancel",
        "text",
        "commit",
        "update",
        "delete",
    )
}


def _told(thing: Any) -> Any:
    """Return settings as plain data, without nulls: some servers leave them out."""
    if isinstance(thing, msgspec.Struct):
        thing = msgspec.to_builtins(thing, enc_hook=repr)
    if isinstance(thing, dict):
        return {name: _told(value) for name, value in thing.items() if value is not None}
    return [_told(each) for each in thing] if isinstance(thing, list) else thing


def differences(ours: HistoryItem, theirs: Any) -> list[str]:
    """Return what a client knows otherwise of an item than its server keeps of it.

    An answer that was given back is there as far as it was heard. Of one that was truncated the
    server knows no words any more, but how much was heard.
    """
    item = theirs.item
    if not isinstance(item, ev.MessageItem):
        names = ("type", "name", "call_id", "arguments", "output")
        return [
            f"{name} is {getattr(ours, name)!r} here, {told!r} there"
            for name in names
            if getattr(ours, name) != (told := getattr(item, name, None))
        ]
    if (ours.type, ours.role) != ("message", item.role):
        return [f"a {ours.type} of {ours.role} here, a message of {item.role} there"]
    heard_ms = {index: p.heard_ms for index, p in enumerate(ours.parts) if p.heard_ms is not None}
    given_back = item.role == "assistant" and not theirs.by_model
    if theirs.truncated:
        kept_ms = {index: audio.length_ms for index, audio in theirs.audio.items()}
        return [] if kept_ms == heard_ms else [f"cut at {heard_ms} here, at {kept_ms} there"]
    if heard_ms and not given_back:
        return [f"cut at {heard_ms} here, whole there"]
    words = (
        getattr(part, "text", None) or getattr(part, "transcript", None) for part in item.content
    )
    told = " ".join(filter(None, words))
    known = ours.estimated_heard_text if given_back else ours.text
    return [] if known == told else [f"{known!r} here, {told!r} there"]


async def _update(session: Session, number: int) -> None:
    await session.update(instructions=f"number {number}")


async def quick(n: int) -> int:
    """Answer at once."""
    return n


async def slow(n: int) -> int:
    """Answer late."""
    await trio.sleep(1.0)
    return n


async def broken(n: int) -> int:
    """Fail."""
    raise ValueError(f"broken by {n}")


@contextlib.contextmanager
def by_seed(seed: int) -> Iterator[None]:
    """Have everything that is left to chance or to the hour go by a seed and a virtual clock."""
    run: Any = trio._core._run  # the one way to have tasks scheduled as before
    state, run._ALLOW_DETERMINISTIC_SCHEDULING = random.getstate(), True
    random.seed(seed)
    run._r.seed(seed)

    async def at_once(function: Any) -> Any:  # in a thread, nobody could tell when
        await trio.lowlevel.checkpoint()
        return function()

    with (
        mock.patch("time.time", side_effect=lambda: 1_700_000_000.0 + trio.current_time()),
        mock.patch("anyio.to_thread.run_sync", at_once),
    ):
        try:
            yield
        finally:
            run._ALLOW_DETERMINISTIC_SCHEDULING = False
            random.setstate(state)


def run(seed: int, schedule: list[tuple[str, int]]) -> World:
    """Run a schedule on a clock that jumps over all waiting."""
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def main() -> World:
        world = World(seed)
        await world.run(schedule)
        return world

    with by_seed(seed):
        return trio.run(main, clock=clock)
