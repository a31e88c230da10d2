"""A responder that answers any client as a recorded session was answered."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus._virtual_time import virtual_time
from realtime_bus.recording import Line
from realtime_bus.server import (
    EnergyDetector,
    RealtimeServer,
    RecordedResponder,
    Responder,
    ResponderRequest,
    ServerOptions,
    Transcriber,
)

from ._agent import Agent, live, recorded, speak
from ._tape import tape

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in virtual time."""
    return virtual_time(request.param)


def answering(lines: list[Line], *, pace: float = float("inf")) -> RealtimeServer:
    """Return a server that answers from a recording."""
    options = ServerOptions(pace=pace)
    responder = RecordedResponder(lines, pace=pace)
    return RealtimeServer(responder, options=options, detector_factory=EnergyDetector)


async def test_a_person_who_interrupts_elsewhere_hears_less() -> None:
    """Tool call, answer and words are the recorded ones; where it is cut is today's."""
    lines, then = await recorded()
    agent, words = Agent(), list[str]()
    earlier = [("silent", 300), ("speaks", 500), ("silent", 1000), ("speaks", 500)]
    async with live(answering(lines, pace=1), agent) as session:
        session.on(ev.ConversationItemInputAudioTranscriptionCompleted)(
            lambda event: words.append(event.transcript)
        )
        await speak(session, [*earlier, ("silent", 1500)])
    assert then.told[1] == agent.told[1] == "timer 9"
    assert agent.told[2].startswith("word0 word1 word2 word3 ")
    assert len(agent.told[2]) < len(then.told[2])
    assert agent.told[3] == "done cancelled"
    assert agent.told[5:] == then.told[5:]
    assert words == ["turn 0", "turn 1"]


def said(number: int, text: str, **fields: Any) -> list[Any]:
    """Return a text response."""
    shown: dict[str, Any] = {"id": f"resp_{number}", "object": "realtime.response", "output": []}
    at = {"response_id": f"resp_{number}", "item_id": f"item_{number}", "content_index": 0}
    return [
        ("s response.created", {"response": {**shown, "status": "in_progress"}}),
        ("s response.output_text.delta", {**at, "output_index": 0, "delta": text}),
        ("s response.done", {"response": {**shown, "status": "completed", **fields}}),
    ]


def asked(text: str, **fields: Any) -> list[Any]:
    """Return what asks for a response."""
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    return [("c conversation.item.create", {"item": item}), ("c response.create", fields)]


FAILED = {"type": "failed", "error": {"type": "server_error", "code": "overloaded"}}
CUT = {"type": "incomplete", "reason": "content_filter"}
TEXTS = tape(
    "s session.created",
    *asked("One?"),
    *said(1, "First."),
    *asked("Two?"),
    *said(2, "Sec", status="incomplete", status_details=CUT),
    ("c response.create", {"response": {"conversation": "none", "metadata": {"for": "title"}}}),
    *said(3, "A title."),
    *asked("Three?"),
    *said(4, "Third", status="failed", status_details=FAILED),
)


async def test_answers_go_by_what_they_followed_and_end_as_they_did() -> None:
    """Asked in another order: the same text has the same answer, unfinished ones stay so."""
    got: list[Any] = []
    async with (
        answering(TEXTS).connect_memory() as transport,
        Bus().session(transport, output_modalities=["text"]) as session,
    ):
        for text in ("Three?", "Two?", "Something else?", "And?"):
            content: list[Any] = [ev.InputText(text=text)]
            await session.create_item(ev.MessageItem(role="user", content=content))
            reply = session.respond()
            words = "".join([piece async for piece in reply.text()])
            got.append((words, (done := await reply).status, done.status_details))
        aside = session.respond(conversation="none", metadata={"for": "title"})
        got.append("".join([piece async for piece in aside.text()]))
    assert [entry[:2] for entry in got[:4]] == [
        ("Third", "failed"),
        ("Sec", "incomplete"),
        ("First.", "completed"),
        ("Third", "failed"),  # all were given: the last one again
    ]
    assert got[0][2].error.code == "overloaded"
    assert got[1][2].reason == "content_filter"
    assert got[4] == "A title."


async def test_it_keeps_the_pace_of_the_recording() -> None:
    """Pieces come as far apart as they came, or faster by a factor."""
    responder = RecordedResponder(TEXTS, pace=2)
    assert isinstance(responder, Responder)
    assert isinstance(responder, Transcriber)
    began_s = anyio.current_time()
    answer = responder.respond(ResponderRequest(items=[]))
    times = [anyio.current_time() - began_s async for _ in answer]
    assert times == [pytest.approx(0.05)]
