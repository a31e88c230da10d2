"""LiveKit: an AgentSession on its RealtimeModel, with a microphone and a loudspeaker of our own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from realtime_bus import events as ev

from . import _stage as on_stage
from ._stage import Heard, said, speaks_up, stage

pytest.importorskip("livekit.plugins.openai.realtime", reason="needs the group interop")

import aiohttp
from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from livekit.plugins.openai.realtime import RealtimeModel
from openai.types.realtime import AudioTranscription
from openai.types.realtime.realtime_audio_input_turn_detection import ServerVad

pytestmark = on_stage.MARKS

EVENTS = ("user_input_transcribed", "function_tools_executed", "conversation_item_added", "error")


class Microphone(AudioInput):
    """Hears what the person says."""

    def __init__(self) -> None:
        super().__init__(label="person")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    def hear(self, pieces: list[bytes]) -> None:
        """Take what the person says."""
        for pcm in pieces:
            self._frames.put_nowait(rtc.AudioFrame(pcm, 24_000, 1, len(pcm) // 2))

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()


class Loudspeaker(AudioOutput):
    """Plays at once what it gets; while it holds, the first `HEARD_MS` and no more."""

    def __init__(self) -> None:
        super().__init__(
            label="room", capabilities=AudioOutputCapabilities(pause=False), sample_rate=24_000
        )
        self.holds = False
        self.plays = asyncio.Event()
        self._s = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Take audio."""
        await super().capture_frame(frame)
        if not self._s:
            self.on_playback_started(created_at=0.0)
        self._s += frame.duration
        if self._s * 1000 >= on_stage.HEARD_MS:
            self.plays.set()

    def flush(self) -> None:
        """Take an answer for complete."""
        super().flush()
        if self._s and not self.holds:
            self._finish(self._s, interrupted=False)

    def clear_buffer(self) -> None:
        """Fall silent."""
        if self._s:
            self._finish(on_stage.HEARD_MS / 1000, interrupted=True)

    def _finish(self, position_s: float, *, interrupted: bool) -> None:
        self._s = 0.0
        self.on_playback_finished(playback_position=position_s, interrupted=interrupted)


class Cook(Agent):
    """Knows how long dishes take."""

    def __init__(self) -> None:
        super().__init__(instructions=on_stage.INSTRUCTIONS)
        self.asked: list[str] = []

    @function_tool
    async def look_up(self, dish: str) -> str:
        """How long a dish takes."""
        self.asked.append(dish)
        return on_stage.FOUND


def heard_from(who: str, words: str) -> Any:
    """Return what tells that something was said, as the session's history has it."""
    return lambda event: (
        event.type == "conversation_item_added"
        and event.item.type == "message"
        and (event.item.role, event.item.text_content) == (who, words)
    )


async def test_livekit_holds_a_whole_conversation() -> None:
    """Settings, speech, transcription, tool, answer, barge-in, text, out of band, close."""
    heard, microphone, loudspeaker, cook = Heard(), Microphone(), Loudspeaker(), Cook()
    async with stage() as on, aiohttp.ClientSession() as http:
        model = RealtimeModel(
            model=on_stage.MODEL,
            voice=on_stage.VOICE,
            modalities=["audio"],
            input_audio_transcription=AudioTranscription(model="gpt-4o-mini-transcribe"),
            turn_detection=ServerVad(type="server_vad", interrupt_response=True),
            api_key="none",
            base_url=on.url.replace("ws", "http", 1).removesuffix("/realtime"),
            http_session=http,
        )
        session: AgentSession[None] = AgentSession(
            llm=model,
            vad=None,
            turn_handling={"turn_detection": "realtime_llm"},
            aec_warmup_duration=None,
        )
        for name in EVENTS:
            session.on(name, heard.note)
        session.input.audio = microphone
        session.output.audio = loudspeaker
        await session.start(cook, record=False)
        async with on.witness() as witness:
            # speech, and what was said
            microphone.hear(said(on_stage.QUESTION))
            words = await heard.get(lambda e: e.type == "user_input_transcribed" and e.is_final)
            assert words.transcript == on_stage.QUESTION
            on_stage.check_settings(witness)

            # tool
            ran = await heard.get(lambda e: e.type == "function_tools_executed")
            assert ran.function_call_outputs[0].output == on_stage.FOUND
            assert cook.asked == ["pasta"]

            # spoken answer
            await heard.get(heard_from("assistant", on_stage.ANSWER))

            # barge-in
            loudspeaker.holds = True
            loudspeaker.plays.clear()
            microphone.hear(said(on_stage.TELL_ALL))
            await loudspeaker.plays.wait()
            begin, rest = speaks_up()
            microphone.hear(begin)
            cut = await witness.get(ev.ConversationItemTruncated)
            assert cut.audio_end_ms == on_stage.HEARD_MS
            loudspeaker.holds = False
            microphone.hear(rest)
            await heard.get(heard_from("assistant", on_stage.YES))

            # text
            await session.generate_reply(user_input=on_stage.WRITTEN)
            await heard.get(heard_from("assistant", on_stage.READ))

            # out of band
            its = cook.realtime_llm_session
            its.send_event({"type": "response.create", "response": on_stage.APART})
            await witness.get(ev.ResponseDone, nth=6)
            on_stage.check_conversation(witness)
            kept = [getattr(item, "role", item.type) for item in its.chat_ctx.items]
            assert kept == [
                "user", "function_call", "function_call_output", "assistant",
                "user", "assistant", "user", "assistant", "user", "assistant",
            ]  # fmt: skip  # its own copy of the conversation, which both have alike

            # close
            await session.aclose()
            await witness.closed()
        assert not heard.of(lambda event: event.type == "error")
