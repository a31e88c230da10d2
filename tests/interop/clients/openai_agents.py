"""openai-agents: a realtime agent with a tool, interrupted by speech and by hand."""

import asyncio
from typing import Any

from _common import URL, report, say, until
from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner

CALLS: list[str] = []


@function_tool
async def look_up(dish: str) -> str:
    """Look a dish up."""
    CALLS.append(dish)
    return "9 minutes"


async def main() -> None:
    """Hold the conversation."""
    settings: Any = {
        "model_name": "gpt-realtime",
        "voice": "ash",
        "input_audio_transcription": {"model": "gpt-4o-mini-transcribe"},
        "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
    }
    agent = RealtimeAgent(name="cook", instructions="Be brief.", tools=[look_up])
    runner = RealtimeRunner(agent, config={"model_settings": settings})
    events: list[Any] = []
    raw: list[Any] = []

    def of(kind: str) -> list[Any]:
        return [event for event in events if event.type == kind]

    def wire(kind: str) -> list[Any]:
        return [event for event in raw if event["type"] == kind]

    async with await runner.run(model_config={"api_key": "k", "url": URL}) as session:

        async def listen() -> None:
            async for event in session:
                events.append(event)
                if event.type == "raw_model_event" and event.data.type == "raw_server_event":
                    raw.append(event.data.data)

        listening = asyncio.ensure_future(listen())
        await say("hello", session.send_audio)
        await until(lambda: len(wire("response.done")) == 1, "the first answer")
        await say("pasta", session.send_audio)
        await until(lambda: len(of("tool_end")) == 1, "the tool")
        count = len(of("audio"))
        await until(lambda: len(of("audio")) > count, "audio to interrupt")
        await say("stop", session.send_audio)
        await until(lambda: wire("conversation.item.truncated"), "the truncation")
        await until(lambda: len(wire("response.done")) == 4, "the answer after it")
        await session.send_message("Write.")
        await until(lambda: len(wire("response.done")) == 5, "the last answer")
        heard = "conversation.item.input_audio_transcription.completed"
        await until(lambda: len(wire(heard)) == 3, "transcripts")
        listening.cancel()
    report(
        transcripts=[event["transcript"] for event in wire(heard)],
        calls=CALLS,
        audio=sum(len(event.audio.data) for event in of("audio")) > 48_000,
        interrupted=len(of("audio_interrupted")) > 0,
        errors=[event["error"]["message"] for event in wire("error")],
    )


asyncio.run(main())
