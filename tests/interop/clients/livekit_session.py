"""LiveKit's RealtimeSession: settings, a tool round trip, an interruption, its own context."""

import asyncio
from typing import Any

from _common import URL, report, say, until
from livekit import rtc
from livekit.agents import llm
from livekit.plugins.openai import realtime


@llm.function_tool
async def look_up(dish: str) -> str:
    """Look a dish up."""
    return dish


class Heard:
    """What the session tells.

    Args:
        session: LiveKit's.
    """

    def __init__(self, session: Any) -> None:
        self.errors: list[str] = []
        self.transcripts: list[str] = []
        self.calls: list[Any] = []
        self.messages: list[dict[str, Any]] = []
        self._reading: set[asyncio.Future[Any]] = set()
        session.on("error", lambda event: self.errors.append(str(event)))
        session.on("input_audio_transcription_completed", self._transcript)
        session.on("generation_created", self._generation)

    def _transcript(self, event: Any) -> None:
        if event.is_final:
            self.transcripts.append(event.transcript)

    def _generation(self, generation: Any) -> None:
        reading = asyncio.gather(self._read_messages(generation), self._read_calls(generation))
        self._reading.add(reading)

    async def _read_calls(self, generation: Any) -> None:
        self.calls += [call async for call in generation.function_stream]

    async def _read_messages(self, generation: Any) -> None:
        async for message in generation.message_stream:
            noted: dict[str, Any] = {"id": message.message_id, "ms": 0, "text": "", "done": False}
            self.messages.append(noted)
            await asyncio.gather(self._read_audio(message, noted), self._read_text(message, noted))
            noted["done"] = True

    async def _read_audio(self, message: Any, noted: dict[str, Any]) -> None:
        async for frame in message.audio_stream:
            noted["ms"] += frame.samples_per_channel // 24

    async def _read_text(self, message: Any, noted: dict[str, Any]) -> None:
        async for piece in message.text_stream:
            noted["text"] += piece


async def main() -> None:
    """Hold the conversation."""
    model = realtime.RealtimeModel(base_url=URL, api_key="k", model="gpt-realtime", voice="ash")
    session = model.session()
    heard = Heard(session)
    messages, calls, transcripts = heard.messages, heard.calls, heard.transcripts

    async def push(audio: bytes) -> None:
        session.push_audio(rtc.AudioFrame(audio, 24_000, 1, len(audio) // 2))

    await session.update_instructions("Be brief.")
    await session.update_tools([look_up])
    await say("hello", push)
    await until(lambda: messages and messages[0]["done"], "the first answer")
    await say("pasta", push)
    await until(lambda: calls, "the call")
    context = session.chat_ctx.copy()
    call_id = calls[0].call_id
    context.items.append(
        llm.FunctionCallOutput(call_id=call_id, name="look_up", output="9", is_error=False)
    )
    await session.update_chat_ctx(context)
    await session.generate_reply()
    await until(lambda: len(messages) == 2 and messages[1]["ms"], "audio to interrupt")
    await say("stop", push)
    await until(lambda: messages[1]["done"], "the interruption")
    session.truncate(message_id=messages[1]["id"], modalities=["audio"], audio_end_ms=20)
    await until(lambda: len(messages) == 3 and messages[2]["done"], "the answer after it")
    context = session.chat_ctx.copy()
    context.add_message(role="user", content="Write.")
    await session.update_chat_ctx(context)
    await session.generate_reply(instructions="Say it.")
    await until(lambda: len(messages) == 4 and messages[3]["done"], "the last answer")
    await until(lambda: len(transcripts) == 3, "transcripts")
    roles = [getattr(item, "role", item.type) for item in session.chat_ctx.items]
    report(
        transcripts=transcripts,
        call=calls[0].arguments,
        said=messages[0]["text"],
        cut=messages[1]["ms"] < messages[0]["ms"],
        written=messages[3]["text"],
        roles=roles,
        errors=heard.errors,
    )
    await session.aclose()
    await model.aclose()


asyncio.run(main())
