"""openai-python, every frame validated strictly by its models."""

import asyncio
import base64
from typing import Any

from _common import URL, report, say, until
from openai import AsyncOpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

CHECK = TypeAdapter(RealtimeServerEvent)
TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object"}}


async def main() -> None:
    """Hold the conversation."""
    base = URL.partition("/realtime?")[0]
    client = AsyncOpenAI(api_key="k", websocket_base_url=base)
    events: list[Any] = []

    def all_of(kind: str) -> list[Any]:
        return [event for event in events if event.type == kind]

    async with client.realtime.connect(model="any") as connection:

        async def listen() -> None:
            while True:
                events.append(CHECK.validate_json(await connection.recv_bytes(), strict=True))

        async def send_audio(audio: bytes) -> None:
            await connection.input_audio_buffer.append(audio=base64.b64encode(audio).decode())

        async def done(count: int) -> Any:
            await until(lambda: len(all_of("response.done")) >= count, f"response {count}")
            return all_of("response.done")[-1].response

        listening = asyncio.ensure_future(listen())
        listening.add_done_callback(lambda task: task.cancelled() or print(task.exception()))  # noqa: T201
        audio = {"input": {"transcription": {"model": "gpt-realtime-whisper"}}}
        settings: Any = {
            "type": "realtime",
            "model": "gpt-realtime",
            "tools": [TOOL],
            "audio": audio,
        }
        await connection.session.update(session=settings)
        await until(lambda: all_of("session.updated"), "the update")
        await say("hello", send_audio)
        first = await done(1)
        await say("pasta", send_audio)
        (call,) = (await done(2)).output
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "9"}
        await connection.conversation.item.create(item=output)
        await connection.response.create()
        created = len(events)
        await until(
            lambda: [e for e in events[created:] if e.type == "response.output_audio.delta"],
            "audio to interrupt",
        )
        spoken = next(e for e in events[created:] if e.type == "response.output_audio.delta")
        await say("stop", send_audio)
        cut = await done(3)
        await connection.conversation.item.truncate(
            item_id=spoken.item_id, content_index=0, audio_end_ms=0
        )
        await until(lambda: all_of("conversation.item.truncated"), "the truncation")
        await done(4)
        message: Any = {"type": "message", "role": "user"}
        message["content"] = [{"type": "input_text", "text": "Write."}]
        await connection.conversation.item.create(item=message)
        await connection.response.create(response={"output_modalities": ["text"]})
        written = (await done(5)).output[0].content[0].text
        await connection.response.create(
            response={"conversation": "none", "metadata": {"for": "it"}, "input": []}
        )
        beside = await done(6)
        await until(
            lambda: len(all_of("conversation.item.input_audio_transcription.completed")) == 3,
            "transcripts",
        )
        listening.cancel()
    heard = all_of("conversation.item.input_audio_transcription.completed")
    report(
        transcripts=[event.transcript for event in heard],
        said=first.output[0].content[0].transcript,
        call=call.arguments,
        cut=[cut.status, cut.status_details.reason],
        written=written,
        beside=[beside.conversation_id, beside.metadata],
        errors=[event.error.message for event in all_of("error")],
    )


asyncio.run(main())
