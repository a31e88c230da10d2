"""The demo's plot: a question, an answer, an interruption, and a short answer."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

from realtime_bus import events as ev
from realtime_bus.errors import RealtimeBusError
from realtime_bus.session import Session
from realtime_bus.audio import AudioSink
from realtime_bus_plugins.interruption import PlaybackInterrupted, PlaybackStarted

from ._lines import Lines
from ._person import Person

__all__ = ["DemoFailed", "Speech", "hold_conversation"]

_PATIENCE_S = 20.0
_PAUSE_S = 0.4


class DemoFailed(RealtimeBusError):  # noqa: N818  # it tells what happened, as the others do
    """The conversation did not get to its end; says what was waited for."""


class Speech:
    """What the person says, synthesized: PCM16 at 24 kHz."""

    def __init__(self, question: bytes, interruption: bytes) -> None:
        self.question = question
        self.interruption = interruption


async def hold_conversation(
    session: Session, person: Person, sink: AudioSink, lines: Lines, speech: Speech
) -> None:
    """Play the person's part, in step with what the assistant does.

    Raises:
        DemoFailed: Something that should have happened did not, within 20 s.
    """
    await anyio.sleep(_PAUSE_S)  # a person breathes before speaking
    started = session.wait_for(PlaybackStarted)
    await person.say(speech.question)
    await _expect("the assistant to answer", started)

    await _listen(sink, lines.interrupt_after_s)
    interrupted = session.wait_for(PlaybackInterrupted)
    answered = session.wait_for(ev.ResponseDone, where=_is_complete)
    await person.say(speech.interruption)
    await _expect("the assistant to be interrupted", interrupted)
    await _expect("the assistant to answer again", answered)
    await _hear_out(sink)


def _is_complete(event: ev.ResponseDone) -> bool:
    return event.response.status != "cancelled"


async def _expect(what: str, event: object) -> None:
    try:
        with anyio.fail_after(_PATIENCE_S):
            await event  # type: ignore[misc]  # any awaitable of any event
    except TimeoutError:
        raise DemoFailed(f"waited {_PATIENCE_S:g} s for {what}, in vain") from None


async def _listen(sink: AudioSink, seconds: float) -> None:
    """Listen until so much of the answer has been heard, and cut in."""
    while (heard := sink.positions()) and heard[0].played_ms < seconds * 1000:  # noqa: ASYNC110  # time is the condition
        await anyio.sleep(max(seconds - heard[0].played_ms / 1000, 0.005))
    await checkpoint()


async def _hear_out(sink: AudioSink) -> None:
    """Listen to the end of what is playing."""
    while sink.playing:  # noqa: ASYNC110  # time is the condition
        await anyio.sleep(0.02)
    await anyio.sleep(_PAUSE_S)
