"""A recorded session runs again through a bus, and what it does otherwise is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.recording import ReplayReport, ReplayTransport, replay, run_replay
from realtime_bus.testing import Backend, run_virtual
from realtime_bus_plugins.devices import Microphone, Speaker
from realtime_bus_plugins.tools import Tools

from ._tape import SCRIPT, BellRang, kitchen, record, talk

MAIN_PROGRAM = ("response.create", "conversation.item.create")


@pytest.fixture(scope="session")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the recording of a call: two questions, one of which sets a timer."""
    return record(tmp_path_factory.mktemp("tape"), kitchen(), instructions="Help.")


@pytest.fixture
def backend(anyio_backend: Backend) -> Backend:
    """Replay on both backends."""
    return anyio_backend


def kinds(report: ReplayReport) -> list[tuple[str, str]]:
    """Return what is otherwise, in short."""
    return [(each.kind, each.type) for each in report.differences]


def test_the_same_bus_does_the_same(tape: Path, backend: Backend) -> None:
    """Settings, items, responses, tool calls and the application's events: all as they were."""
    report = run_replay(
        tape, kitchen(), backend=backend, main=talk, settings={"instructions": "Help."}
    )
    assert report.differences == []
    assert report.compared == 9
    assert report.left == {}
    assert report.recorded_s == 5.0
    assert "no difference" in str(report)


def test_what_a_bus_does_otherwise_is_shown(tape: Path, backend: Backend) -> None:
    """Another output of a tool is different, later is late, and both say when."""
    report = run_replay(tape, kitchen(answer="no", takes_s=4.0), backend=backend, main=talk)
    assert kinds(report) == [
        ("different", "conversation.item.create"),
        ("late", "app.timer_set"),
        ("late", "response.create"),
    ]
    different, late, _ = report.differences
    [change] = different.changes
    assert (change.path, change.then, change.now) == ("item.output", "timer set", "no")
    assert (late.t_s, late.late_s) == (2.0, 2.0)
    assert "0:02.000  different  conversation.item.create" in str(report)
    assert "item.output: then 'timer set', now 'no'" in str(report)
    assert msgspec.json.decode(msgspec.json.encode(report), type=ReplayReport) == report


def test_what_is_missing_and_what_is_extra_is_told(tape: Path, backend: Backend) -> None:
    """A bus without tools answers no call; one that says more than it did, says too much."""
    bus = Bus()

    @bus.on(ev.ResponseDone)
    async def chat(_event: ev.ResponseDone, session: Session) -> None:
        session.send_nowait(ev.OutputAudioBufferClear())

    report = run_replay(tape, bus, backend=backend, left=["app.*", *MAIN_PROGRAM])
    assert kinds(report) == [("extra", "output_audio_buffer.clear")] * 3
    report = run_replay(tape, Bus(), backend=backend)
    assert {kind for kind, _ in kinds(report)} == {"missing"}
    assert len(report.differences) == 7


def test_the_main_programs_part_can_be_played_by_the_recording(
    tape: Path, backend: Backend
) -> None:
    """What is left to the recording is not missing; the same of a handler's still counts."""

    def is_by_main(command: dict[str, Any]) -> bool:
        return command.get("item", {}).get("role") == "user"

    report = run_replay(tape, kitchen(), backend=backend, left=[is_by_main, "response.create"])
    assert report.differences == []
    assert report.compared == 4
    assert report.left == {
        "conversation.item.create": 2,
        "response.create": 2,
        "session.update": 1,
    }


@pytest.mark.parametrize("takes_s", [0.0, 6.9, 60.0])
def test_an_answer_waits_for_its_question(tape: Path, backend: Backend, takes_s: float) -> None:
    """A slower tool holds up the recording, up to a limit; beyond, it goes on without it."""
    confirmed: list[ev.Event] = []
    bus = kitchen(takes_s=takes_s)
    bus.on(ev.ConversationItemAdded)(confirmed.append)
    report = run_replay(tape, bus, backend=backend, main=talk)
    late = [each.late_s for each in report.differences if each.type == "app.timer_set"]
    if takes_s < 7:
        assert late == ([takes_s - 2] if takes_s else [])
        assert "missing" not in {kind for kind, _ in kinds(report)}
    else:
        assert ("missing", "conversation.item.create") in kinds(report)
    assert len(confirmed) == 7


def test_it_is_the_same_every_time(tape: Path) -> None:
    """Whatever is different, is different again: twice, and on both backends."""
    reports: list[ReplayReport] = []
    for backend in ("asyncio", "trio", "asyncio", "trio"):
        bus = kitchen(takes_s=3.5)
        for number in range(5):

            async def chat(event: ev.ResponseDone, session: Session, number: int = number) -> None:
                await anyio.sleep(0.1)
                item = ev.MessageItem(role="user", content=[ev.InputText(text=f"{number}")])
                await session.create_item(item)

            bus.on(ev.ResponseDone, mode="parallel", limit=4)(chat)
        bus.on(ev.ResponseOutputAudioTranscriptDelta, mode="latest")(_count)
        bus.on(ev.ResponseDone)(_fail)
        reports.append(run_replay(tape, bus, backend=backend, main=talk))
    assert [report.differences for report in reports[1:]] == [reports[0].differences] * 3
    assert {"extra", "late"} <= {kind for kind, _ in kinds(reports[0])}
    assert ("extra", "bus.handler_failed") in kinds(reports[0])


def _fail(_event: ev.ResponseDone) -> None:
    raise ArithmeticError


async def _count(_event: ev.ResponseOutputAudioTranscriptDelta) -> None:
    await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_it_runs_in_a_loop_that_runs_already(tape: Path) -> None:
    """On a real clock it is as fast as the handlers: their sleeps last if they are needed."""
    with anyio.fail_after(60):
        report = await replay(tape, kitchen(takes_s=0.2), main=_ask_at_once)
    assert kinds(report) == []
    assert report.compared == 8


async def _ask_at_once(session: Session) -> None:
    """Talk, but without the pause before good bye: on a real clock it would take three seconds."""
    await session.send_text("Nine minutes, please.")
    await session.respond()
    await session.wait_for(ev.ResponseDone)
    await session.send_text("Good bye.")
    await session.respond()


@pytest.mark.parametrize("speed", [2.0, 0.5])
def test_time_can_be_scaled(tape: Path, backend: Backend, speed: float) -> None:
    """A recording of five seconds takes two and a half, or ten."""

    async def run() -> float:
        began_s = anyio.current_time()
        await replay(tape, Bus(), speed=speed, compare=False)
        return anyio.current_time() - began_s

    assert run_virtual(run, backend=backend) == pytest.approx(5 / speed)


def test_other_handlers_see_an_old_session(tape: Path, backend: Backend) -> None:
    """An analysis is expected to send nothing, and may; no time is lost on what it does not."""
    said: list[str] = []
    bus = Bus()

    @bus.on(ev.ResponseOutputAudioTranscriptDone)
    async def note(event: ev.ResponseOutputAudioTranscriptDone, session: Session) -> None:
        said.append(event.transcript)
        session.send_nowait(ev.OutputAudioBufferClear())

    report = run_replay(tape, bus, backend=backend, compare=False)
    assert said == ["Let me see.", "Nine minutes.", "Good bye."]
    assert report.differences == []
    assert report.sent == {"output_audio_buffer.clear": 3}


def test_ids_are_those_of_now(tape: Path, backend: Backend) -> None:
    """What a session makes up anew is found in the server's old answers: requests are answered."""
    seen: list[str | None] = []

    async def main(session: Session) -> None:
        added = await session.send_text("Nine minutes, please.")
        reply = session.respond()
        response = await reply
        seen.extend([getattr(added.item, "id", None), (response.metadata or {}).popitem()[1]])
        await session.wait_closed()

    report = run_replay(tape, kitchen(), backend=backend, main=main)
    assert kinds(report) == [
        ("missing", "conversation.item.create"),
        ("missing", "response.create"),
    ]
    old = tape.read_text()
    assert all(found is not None and found.strip() and found not in old for found in seen)


def test_a_handler_that_fails_as_it_did_is_no_difference(tmp_path: Path, backend: Backend) -> None:
    """Failures are compared: the same one, another one, none."""

    def bus_that_raises(error: Exception | None) -> Bus:
        bus = Bus()

        @bus.on(ev.ResponseDone)
        async def rate(_event: ev.ResponseDone) -> None:
            if error is not None:
                raise error

        return bus

    async def main(session: Session) -> None:
        await session.respond()

    path = record(tmp_path, bus_that_raises(ValueError("no stars")), main)
    same = run_replay(path, bus_that_raises(ValueError("no stars")), backend=backend, main=main)
    assert same.differences == []
    other = run_replay(path, bus_that_raises(KeyError("stars")), backend=backend, main=main)
    change = other.differences[0].changes[0]
    assert (change.path, change.then, change.now) == ("error.text", "no stars", "'stars'")
    none = run_replay(path, bus_that_raises(None), backend=backend, main=main)
    assert kinds(none) == [("missing", "bus.handler_failed")]


def test_what_came_from_outside_comes_again(tmp_path: Path, backend: Backend) -> None:
    """The door's bell rings again at its time, and the handler does what it did."""

    def bus_with_a_door() -> Bus:
        bus = Bus()

        @bus.on(BellRang)
        async def open_door(event: BellRang, session: Session) -> None:
            await session.send_text(f"The bell rang {event.times} times.")

        return bus

    async def main(session: Session) -> None:
        await anyio.sleep(7)
        session.emit(BellRang(times=3))
        await anyio.sleep(1)

    path = record(tmp_path, bus_with_a_door(), main)
    report = run_replay(path, bus_with_a_door(), backend=backend, outside=[BellRang])
    assert (report.differences, report.compared) == ([], 1)
    report = run_replay(path, bus_with_a_door(), backend=backend)
    assert kinds(report) == [("missing", "app.bell_rang"), ("missing", "conversation.item.create")]
    report = run_replay(path, bus_with_a_door(), backend=backend, outside=["app.gong"])
    assert kinds(report)[0] == ("missing", "app.bell_rang")


def test_an_event_that_nobody_knows_is_left_out_and_told(tmp_path: Path, backend: Backend) -> None:
    """Its module may not have been imported, or its fields may have changed."""
    path = tmp_path / "unknown.jsonl"
    path.write_text(
        '{"kind":"recording","t_us":0}\n'
        '{"kind":"bus","t_us":5,"type":"app.gong","event":{},"application":true}\n'
        '{"kind":"bus","t_us":6,"type":"app.bell_rang","event":{"times":"x"},"application":true}\n'
        '{"kind":"end","t_us":9,"code":1000,"clean":true}\n'
    )
    report = run_replay(path, Bus(), backend=backend, outside=["app.gong", BellRang])
    assert [note.split(" ")[0] for note in report.notes] == ["app.gong", "app.bell_rang"]


def test_what_is_missing_or_named_wrong_is_explained(tape: Path, backend: Backend) -> None:
    """Who forgets the main program is told so, and who mistypes a name."""
    report = run_replay(tape, kitchen(), backend=backend, left=["respons.*", "input_audio*"])
    assert [note.split(":")[0] for note in report.notes] == [
        "what is missing may have been the main program's",
        "input_audio*, respons.*",
    ]
    assert report.notes[0].endswith("left: conversation.item.create, response.create")
    report = run_replay(tape, kitchen(), backend=backend, main=talk, outside=["app.gong"])
    assert report.notes == ["app.gong: nothing in the recording is called so"]


def test_what_two_outputs_say_is_compared_where_they_are_json(
    tmp_path: Path, backend: Backend
) -> None:
    """Field by field, each of which can be ignored; of long texts what is around the difference."""

    def bus(number: int) -> Bus:
        notes = "Rinse it first, " * 10
        return kitchen(answer=f'{{"order": {{"id": "{number}"}}, "notes": "{notes}{number}."}}')

    path = record(tmp_path, bus(1))
    report = run_replay(path, bus(2), backend=backend, main=talk)
    [difference] = report.differences
    assert [line.strip() for line in str(difference).splitlines()[1:]] == [
        "item.output.notes: then '…st, Rinse it first, 1.', now '…st, Rinse it first, 2.'",
        "item.output.order.id: then '1', now '2'",
    ]
    ignored = ["item.output.order.id", "item.output.notes"]
    assert not run_replay(path, bus(2), backend=backend, main=talk, ignore=ignored).differences
    assert not run_replay(path, bus(2), backend=backend, main=talk, ignore=["item.*"]).differences
    report = run_replay(path, kitchen(answer="no"), backend=backend, main=talk)
    assert [change.path for change in report.differences[0].changes] == ["item.output"]


def test_another_order_is_noted(tmp_path: Path, backend: Backend) -> None:
    """Two handlers that do not depend on each other: no difference, and yet worth knowing."""

    def bus(first_s: float, second_s: float) -> Bus:
        bus = Bus()
        for text, takes_s in (("One.", first_s), ("Two.", second_s)):

            async def say(
                event: ev.ResponseDone, session: Session, text: str = text, takes_s: float = takes_s
            ) -> None:
                await anyio.sleep(takes_s)
                await session.send_text(text)

            bus.on(ev.ResponseDone)(say)
        return bus

    async def main(session: Session) -> None:
        await session.respond()
        await anyio.sleep(3)

    path = record(tmp_path, bus(0.5, 0.8), main, script=SCRIPT[1:2])
    for now, notes in ((bus(0.5, 0.8), 0), (bus(0.5, 0.6), 0), (bus(0.7, 0.3), 1)):
        report = run_replay(path, now, backend=backend, main=main)
        assert (report.differences, len(report.notes)) == ([], notes)
    [note] = report.notes
    assert note.startswith(
        "in another order than then: conversation.item.create of 0:00.800 before"
    )


def test_fields_that_do_not_matter_can_be_named(tape: Path, backend: Backend) -> None:
    """An output that has the time of day in it is another one each time."""
    bus = kitchen(answer="it is five past three")
    report = run_replay(tape, bus, backend=backend, main=talk, ignore=["item.output"])
    assert report.differences == []

    async def main(session: Session) -> None:
        await session.send_text("Ten minutes, please.")
        await session.respond()
        await session.wait_closed()

    left = [*MAIN_PROGRAM, "app.*"]
    report = run_replay(tape, Bus(), backend=backend, main=main, left=left)
    path = "item.content[0].text"
    assert [each.path for each in report.differences[0].changes] == [path]
    report = run_replay(tape, Bus(), backend=backend, main=main, left=left, ignore=[path])
    assert report.differences == []


def test_a_thread_is_waited_for(tape: Path, backend: Backend) -> None:
    """A plain function as a tool runs in a thread, and its answer comes in time."""
    bus = kitchen(tools_in_a_thread=True)
    report = run_replay(tape, bus, backend=backend, main=talk, left=["app.*"])
    assert report.differences == []


@pytest.mark.parametrize("device", [Speaker, Microphone])
def test_nothing_is_opened(tape: Path, device: type[Speaker | Microphone]) -> None:
    """A bus with a device is refused, and the message says what to do."""
    with pytest.raises(UsageError, match=rf"this bus has {device.__name__}\(\).*lambda sink: Bus"):
        run_replay(tape, Bus(plugins=[device()]))


@pytest.mark.anyio
async def test_a_transport_alone_is_a_session_too(tape: Path) -> None:
    """Whoever wants to be in charge runs ``bus.session`` on it, once."""
    transport = ReplayTransport(tape, compare=False)
    async with Bus().session(transport) as session:
        assert session.id is not None
        close = await session.wait_closed()
    assert (close.code, close.clean) == (1000, True)
    assert transport.report().frames == 51
    with pytest.raises(UsageError, match="once"):
        await transport.run(lambda _frame: None)


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_that_is_none_is_refused(tape: Path, speed: float) -> None:
    """Options are checked at once."""
    with pytest.raises(UsageError, match="is no speed"):
        ReplayTransport(tape, speed=speed)
    with pytest.raises(UsageError, match="no option 'sped'; known are speed, compare"):
        ReplayTransport(tape, sped=speed)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # what is tested


def test_a_session_that_closes_early_is_told(tape: Path, backend: Backend) -> None:
    """What it did not do behind that is not told one by one."""
    bus = kitchen()

    @bus.on(ev.ResponseCreated)
    async def leave(_event: ev.ResponseCreated, session: Session) -> None:
        await session.aclose()

    report = run_replay(tape, bus, backend=backend, left=MAIN_PROGRAM)
    assert kinds(report) == [("closed", "the session was closed")]


def test_tools_that_are_described_otherwise_are_different(tape: Path, backend: Backend) -> None:
    """What the server is told of tools is compared, also among the first settings."""
    tools = Tools()

    @tools.tool
    async def set_timer(minutes: float) -> str:
        """Set a timer in the kitchen."""
        await anyio.sleep(2)
        return "timer set"

    report = run_replay(tape, Bus(plugins=[tools]), backend=backend, main=talk, left=["app.*"])
    assert kinds(report) == [("different", "session.update")]
    [change] = report.differences[0].changes
    assert change.path == "session.tools[0].description"
