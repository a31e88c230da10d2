"""The live view: what can be seen, at every moment, on terminals of any size."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from rich.console import Console, Group

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink
from realtime_bus.cli import _demo
from realtime_bus.cli._demo._conversation import Person, Utterance
from realtime_bus.cli._demo._record import Record
from realtime_bus.cli._demo._screen import Scene, folded, screen
from realtime_bus.cli._demo._view import LiveView, PlainView, Terminal, show
from realtime_bus.server import Spoken
from realtime_bus_plugins.devices import DeviceLost, DeviceReopened
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink, WavSink

from ..plugins._wire import Clock, Wire, session_on  # noqa: TID252  # tests are no package with a name of its own

pytestmark = pytest.mark.anyio

SIZES = [(80, 24), (60, 20), (120, 40), (40, 10), (200, 60)]
QUESTION = "Hello. How do I cook a risotto for four people?"
ANSWER = "Warm one litre of stock in a small pot, and keep it hot. " * 12
REPLY = "Three hundred and twenty grams."


class Somebody:
    """A person who stands still in the middle of a word."""

    speaking = False
    level = 0.0
    words = ""
    note = ""


class Call:
    """A conversation that a test leads, step by step, and what can be seen of it."""

    def __init__(
        self, session: Session, wire: Wire, clock: Clock, scene: Scene, person: Somebody
    ) -> None:
        self.session = session
        self.wire = wire
        self.clock = clock
        self.scene = scene
        self.person = person

    def says(self, words: str, item_id: str = "question") -> None:
        """Let the person say something, to its end."""
        self.person.words = words
        self.wire.feed(
            ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id=item_id),
            ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id=item_id),
            ev.InputAudioBufferCommitted(item_id=item_id, previous_item_id=None),
            ev.ConversationItemInputAudioTranscriptionCompleted(
                item_id=item_id, content_index=0, transcript=words
            ),
        )

    def answers(self, words: str, response_id: str, item_id: str, seconds: int) -> None:
        """Let the assistant answer, faster than anybody can hear it."""
        place = {
            "response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0,
        }  # fmt: skip  # two lines
        self.wire.respond(response_id, item_id)
        for at in range(seconds):
            share = words[len(words) * at // seconds : len(words) * (at + 1) // seconds]
            self.wire.feed(
                ev.ResponseOutputAudioTranscriptDelta(**place, delta=share),
                ev.ResponseOutputAudioDelta(**place, delta=bytes(48_000)),
            )

    def is_interrupted(self, after_s: float) -> None:
        """Let the person speak up, and the server end the response."""
        self.clock.now_s += after_s
        self.person.speaking, self.person.level, self.person.words = True, 0.5, "Wait, so"
        self.wire.feed(ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="stop"))

    def lines(self, width: int, height: int) -> list[str]:
        """Return the screen as it is drawn on a terminal of that size."""
        console = Console(
            file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
        )
        console.print(Group(*screen(self.scene, console)))
        drawn: str = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
        return drawn.split("\n")[:-1]


@asynccontextmanager
async def calling() -> AsyncGenerator[Call, None]:
    """Open a session, and give the call."""
    wire, clock, person = Wire(), Clock(), Somebody()
    sink = NullSink(clock=clock)
    bus = Bus(plugins=[sink, Interruption(sink)], raise_handler_errors=True)
    record = Record(bus)
    wire.begin()
    async with bus.session(wire.transport) as session:
        yield Call(session, wire, clock, Scene("test", record, person, sink), person)


@pytest.mark.parametrize(("width", "height"), SIZES, ids=str)
async def test_the_interruption_is_on_every_screen_from_then_on(width: int, height: int) -> None:
    """Whatever is said before and after it, and however little room there is."""
    async with calling() as call:
        call.says(QUESTION)
        call.answers(ANSWER, "r", "a", 20)
        assert "nobody has interrupted yet" in "\n".join(call.lines(width, height))
        call.is_interrupted(after_s=3.2)
        screens = [call.lines(width, height)]
        call.wire.finish("r", "a")
        screens.append(call.lines(width, height))
        call.person.speaking = False
        call.says("Wait, sorry. How much rice do I need?", "stop")
        for turn in range(8):
            call.answers(REPLY * 9, f"r{turn}", f"a{turn}", 2)
            screens.append(call.lines(width, height))
            call.wire.finish(f"r{turn}", f"a{turn}")
            screens.append(call.lines(width, height))
            call.clock.now_s += 5
            call.says("Thank you.", f"thanks{turn}")
        assert all(lines[3].startswith("✂ interrupted at 3.2 s") for lines in screens)
        assert width < 60 or all(" · silent in " in lines[3] for lines in screens)


@pytest.mark.parametrize(("width", "height"), SIZES, ids=str)
async def test_a_screen_has_the_terminals_size(width: int, height: int) -> None:
    """As many lines as rows, none too wide, and no frame around anything."""
    async with calling() as call:
        for _ in range(3):
            call.says(QUESTION)
            call.answers(ANSWER, "r", "a", 3)
            lines = call.lines(width, height)
            assert len(lines) == height
            assert all(len(line) <= width for line in lines)
            assert not set("".join(lines)) & set("╭╮│┌┐")


async def test_a_long_conversation_is_clipped_from_its_top() -> None:
    """The end of what was said is there, in wrapped lines, and the beginning is not."""
    async with calling() as call:
        call.says(QUESTION)
        call.answers(ANSWER, "r", "a", 20)
        call.is_interrupted(after_s=3.2)
        lines = call.lines(60, 20)
        talk = lines[lines.index(next(line for line in lines if "conversation" in line)) + 1 :]
    assert QUESTION not in "\n".join(talk)
    assert "person: Wait, so …" in talk


async def test_meters_can_be_read_without_colours() -> None:
    """At 60 columns: who speaks, how loud, and how much of the answer was heard."""
    async with calling() as call:
        call.answers(ANSWER, "r", "a", 4)
        call.clock.now_s += 1
        person, assistant = call.lines(60, 20)[1:3]
        assert person.startswith("person    ○ silent   ░░░░")
        assert assistant.startswith("assistant ● speaking █████")
        assert assistant.count("█") * 3 == pytest.approx(assistant.count("░"), abs=3)
        assert assistant.endswith(" 1.0 of 4.0 s")
        call.is_interrupted(after_s=1)
        person, assistant = call.lines(60, 20)[1:3]
        assert person.startswith("person    ● speaking █████")
        assert person.endswith(" heard as speech")
        assert assistant.startswith("assistant ○ silent   ░░░░")


async def test_the_persons_words_are_shown_while_they_are_said() -> None:
    """From this side before anybody has heard them, then until they are written down."""
    async with calling() as call:
        call.person.speaking, call.person.words = True, "Hello. How "
        assert "person: Hello. How …" in call.lines(60, 20)
        call.wire.feed(
            ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="question"),
            ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="question"),
            ev.InputAudioBufferCommitted(item_id="question", previous_item_id=None),
        )
        call.person.speaking, call.person.words = False, "Hello. How do I cook?"
        lines = call.lines(60, 20)
        assert [line for line in lines if "person: " in line] == ["person: Hello. How do I cook? …"]
        for delta in ("How ", "are you?"):
            call.wire.feed(
                ev.ConversationItemInputAudioTranscriptionDelta(
                    item_id="question", content_index=0, delta=delta
                )
            )
        assert "person: How are you?" in call.lines(60, 20)


async def test_what_was_interrupted_before_it_was_heard_is_unheard_from_its_first_word() -> None:
    """Nothing stands before the scissors then."""
    async with calling() as call:
        call.answers("Hello, I can hear you.", "r", "a", 2)
        call.is_interrupted(after_s=0)
        talk = call.lines(120, 40)
        assert "assistant: ✂ interrupted after 0.0 s; unheard: Hello, I can hear you." in talk


async def test_a_muted_person_and_a_lost_device_are_seen() -> None:
    """In place of silence, for silence is no trouble; until they are back."""
    async with calling() as call:
        call.person.note = "muted"
        person, assistant = call.lines(60, 20)[1:3]
        assert person.startswith("person    ○ muted    ░")
        for kind in ("microphone", "speaker"):
            call.session.emit(DeviceLost(kind=kind, device=None))
        call.answers(ANSWER, "r", "a", 4)
        person, assistant = call.lines(60, 20)[1:3]
        assert person.startswith("person    ○ lost     ░")
        assert assistant.startswith("assistant ○ lost     ")
        for kind in ("microphone", "speaker"):
            call.session.emit(DeviceReopened(kind=kind, device=None, after_s=1.0))
        person, assistant = call.lines(60, 20)[1:3]
        assert person.startswith("person    ○ muted ")
        assert assistant.startswith("assistant ● speaking ")


@pytest.mark.parametrize(("width", "height"), SIZES, ids=str)
async def test_the_keys_stand_above_the_conversation(width: int, height: int) -> None:
    """As far as there is room for them."""
    async with calling() as call:
        call.scene = call.scene._replace(keys="space interrupts, m mutes, q ends")
        line = call.lines(width, height)[4]
        assert "space interrupts, m mutes, q ends" in line
        assert width < 60 or line.startswith("── conversation ──")


async def test_runs_of_events_are_one_line_each() -> None:
    """Deltas and what ends a response are folded, and how it ended is not."""
    async with calling() as call:
        call.answers(ANSWER, "r", "a", 20)
        call.wire.finish("r", "a")
        rows = [(row.name, row.detail) for row in folded(call.scene.record.lines)]
        assert ("*.delta x40", "output_audio_transcript x20, output_audio x20") in rows
        assert [name for name, _ in rows][-2:] == ["response.output_audio.done", "response.done"]
        item = ev.MessageItem(id="a", role="assistant", content=[])
        call.wire.feed(
            ev.ResponseOutputItemDone(response_id="r", output_index=0, item=item),
            ev.ConversationItemDone(item=item),
        )
        assert folded(call.scene.record.lines)[-1].name == "*.done x2"


async def test_the_live_view_has_a_screen_of_its_own() -> None:
    """It is entered once and left again: nothing of it stays in the terminal's history."""
    console = Console(file=io.StringIO(), width=60, height=20, force_terminal=True)
    drawn = console.file
    assert isinstance(drawn, io.StringIO)
    async with calling() as call, anyio.create_task_group() as tasks:
        tasks.start_soon(LiveView(console).run, call.scene)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    written = drawn.getvalue()
    assert written.count("\x1b[?1049h") == written.count("\x1b[?1049l") == 1
    assert written.index("realtime-bus demo") < written.index("\x1b[?1049l")


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str, /) -> int:
        """Fail."""
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("view", [LiveView, PlainView])
async def test_a_terminal_that_breaks_is_noted(view: type[LiveView | PlainView]) -> None:
    """The view ends; whoever shows it goes on."""
    notes: list[str] = []
    async with calling() as call:
        call.says(QUESTION)
        await show(view(Terminal(file=Gone(), force_terminal=True)), call.scene, notes)
    assert notes == ["The view broke off: [Errno 32] Broken pipe"]


async def test_the_person_is_heard_in_the_room_and_in_the_session() -> None:
    """With a loudspeaker both voices are played; what is said goes to the server all the same."""
    pieces = [Spoken("Hello. ", b"\1\2" * 480), Spoken("How are you?", b"\3\4" * 960)]
    wire, room = Wire(), WavSink()
    wire.begin()
    async with Bus(raise_handler_errors=True).session(wire.transport) as session:
        person = Person(session, aloud=room)
        session.start_soon(person.run)
        await person.say(Utterance(pieces))
        assert person.words == "Hello. How are you?"
    sent = b"".join(e.audio for e in wire.sent if isinstance(e, ev.InputAudioBufferAppend))
    said = b"".join(piece.pcm for piece in pieces)
    assert said in sent
    assert room.heard
    assert said.startswith(room.heard)


def test_words_come_as_they_are_said() -> None:
    """Clause by clause, and within a clause word by word."""
    said = Utterance([Spoken("Wait, ", bytes(100)), Spoken("how much rice?", bytes(300))])
    heard = [said.words_until(at) for at in (0, 100, 200, 300, 400)]
    assert heard == ["", "Wait, ", "Wait, how", "Wait, how much", "Wait, how much rice?"]
    assert Utterance().words_until(0) == ""


async def test_a_room_plays_both_voices_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a stream of its own; an interruption silences the assistant's alone."""
    clock = Clock()
    opened: list[NullSink] = []

    class Loudspeaker(NullSink):
        def __init__(self) -> None:
            super().__init__(clock=clock)

        async def prepare(self, session: Session) -> None:
            self.open()

        def open(self) -> None:
            opened.append(self)

    monkeypatch.setattr(_demo, "Speaker", Loudspeaker)
    record = WavSink(clock=clock)
    room = _demo._Room(record)
    assert isinstance(room, AudioSink)
    async with session_on(room, Interruption(room)) as (_, wire):
        assert opened == [room._device, room.person]
        wire.respond()
        wire.speak(b"\1\2" * 24_000)
        room.person.write(b"\3\4" * 24_000, item_id="person_0")
        clock.now_s += 0.25
        assert room.playing
        wire.interrupt()
        assert not room.playing
        assert room.person.playing
        assert record.heard == b"\1\2" * 6_000
    assert not room.person.playing
