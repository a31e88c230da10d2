"""Ways in which other frameworks receive events over a socket, with their public classes.

Each does to an event what the library itself does: what it cannot switch off is its price. Their
handlers are those of every row: `Tally` and `Backlog`. The frameworks and the floors keep to
one rule: audio is bytes at the end, and every frame that they tell their users of is counted.
"""

# ruff: noqa: C901  # they are several small functions in one
# ruff: noqa: PLC0415  # peers need not be installed: each is imported where it is run

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from realtime_bus.cli import bench
from realtime_bus.cli.bench import Backlog, DecodeRow, Row, Tally, playing_taker, tallying_taker

AGENTS, LIVEKIT, PIPECAT, AZURE = "openai-agents", "LiveKit", "Pipecat", "azure-ai-voicelive"
PICOWS = "floor: picows + msgspec + dict"
_NO_STAMP = ""
_TEXT, _AUDIO = "response.output_audio_transcript.delta", "response.output_audio.delta"
_SPEECH = "input_audio_buffer.speech_started"


@asynccontextmanager
async def _picows(url: str, take) -> AsyncGenerator[None]:
    from picows import WSListener, ws_connect

    class Listener(WSListener):
        def on_ws_frame(self, transport, frame):  # noqa: ARG002  # picows calls it so
            take(frame.get_payload_as_bytes())

    transport, _ = await ws_connect(Listener, url)
    yield
    transport.disconnect()


@asynccontextmanager
async def picows(url: str, tally: Tally) -> AsyncGenerator[None]:
    async with _picows(url, tallying_taker(tally)):
        yield


@asynccontextmanager
async def picows_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    async with playing_taker(backlog) as take, _picows(url, take):
        yield


@asynccontextmanager
async def _agents(url: str, listener) -> AsyncGenerator[None]:
    from agents.realtime.openai_realtime import OpenAIRealtimeWebSocketModel

    model = OpenAIRealtimeWebSocketModel()
    model.add_listener(listener)
    await model.connect({"api_key": "none", "url": url, "initial_model_settings": {}})
    yield
    await model.close()


@asynccontextmanager
async def agents(url: str, tally: Tally) -> AsyncGenerator[None]:
    # a raw event comes before the audio event of the same frame, which has no event id
    class Listener:
        stamp = ""

        async def on_event(self, event) -> None:
            if event.type == "raw_server_event":
                self.stamp = event.data["event_id"]
                if event.data["type"] == _TEXT:
                    tally.text(self.stamp)
            elif event.type == "audio":
                tally.audio(event.data, self.stamp)

    async with _agents(url, Listener()):
        yield


@asynccontextmanager
async def agents_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    class Listener:
        async def on_event(self, event) -> None:
            if event.type == "audio":
                await backlog.audio(event.data)
            elif event.type == "raw_server_event" and event.data["type"] == _SPEECH:
                backlog.speech(event.data["event_id"])

    async with _agents(url, Listener()):
        yield


@asynccontextmanager
async def _livekit(url: str, on_raw, on_frame) -> AsyncGenerator[None]:
    import aiohttp
    from livekit.plugins.openai.realtime import RealtimeModel

    async with aiohttp.ClientSession() as http:
        model = RealtimeModel(
            api_key="none", base_url=url.replace("ws", "http", 1), http_session=http
        )
        session = model.session()
        created = asyncio.Event()
        tasks = []

        async def play(message) -> None:
            async for frame in message.audio_stream:
                await on_frame(frame)

        async def read(message) -> None:
            async for _ in message.text_stream:
                pass

        async def messages(generation) -> None:
            async for message in generation.message_stream:
                tasks.append(asyncio.create_task(play(message)))
                tasks.append(asyncio.create_task(read(message)))

        def raw(event) -> None:
            if event["type"] == "session.created":
                created.set()
            on_raw(event)

        def generation(event) -> None:
            tasks.append(asyncio.create_task(messages(event)))

        session.on("openai_server_event_received", raw)
        session.on("generation_created", generation)
        await created.wait()
        yield
        for task in tasks:
            task.cancel()
        await session.aclose()


@asynccontextmanager
async def livekit(url: str, tally: Tally) -> AsyncGenerator[None]:
    stamps = deque()  # of the audio frames, which have none themselves

    def raw(event) -> None:
        if event["type"] == _TEXT:
            tally.text(event["event_id"])
        elif event["type"] == _AUDIO:
            stamps.append(event["event_id"])

    async def frame(frame) -> None:
        tally.audio(frame.data.cast("B"), stamps.popleft())

    async with _livekit(url, raw, frame):
        yield


@asynccontextmanager
async def livekit_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    def raw(event) -> None:
        if event["type"] == _SPEECH:
            backlog.speech(event["event_id"])

    async def frame(frame) -> None:
        await backlog.audio(frame.data.cast("B"))

    async with _livekit(url, raw, frame):
        yield


@asynccontextmanager
async def _pipecat(url: str, on_audio, on_text, on_speech) -> AsyncGenerator[None]:
    from loguru import logger
    from pipecat.frames.frames import TTSAudioRawFrame, TTSTextFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineTask
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

    class Service(OpenAIRealtimeLLMService):
        stamp = ""  # of the last speech: Pipecat's frames have no event id
        ready = asyncio.Event()

        async def _handle_evt_speech_started(self, evt) -> None:
            self.stamp = evt.event_id
            await super()._handle_evt_speech_started(evt)

        async def _handle_evt_session_updated(self, evt) -> None:
            await super()._handle_evt_session_updated(evt)
            self.ready.set()

    class Player(FrameProcessor):
        async def process_frame(self, frame, direction) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, TTSAudioRawFrame):
                await on_audio(frame.audio)
            elif isinstance(frame, TTSTextFrame):
                on_text()
            elif type(frame).__name__ == "ProposedUserStartedSpeakingFrame":
                on_speech(service.stamp)
            await self.push_frame(frame, direction)

    logger.remove()
    service = Service(api_key="none", base_url=url)
    task = PipelineTask(Pipeline([service, Player()]), cancel_on_idle_timeout=False)
    runner = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    await service.ready.wait()
    yield
    await task.cancel()
    await runner


@asynccontextmanager
async def pipecat(url: str, tally: Tally) -> AsyncGenerator[None]:
    async def audio(data: bytes) -> None:
        tally.audio(data, _NO_STAMP)

    async with _pipecat(url, audio, lambda: tally.text(_NO_STAMP), lambda _: None):
        yield


@asynccontextmanager
async def pipecat_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    async with _pipecat(url, backlog.audio, lambda: None, backlog.speech):
        yield


@asynccontextmanager
async def azure_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    from azure.ai.voicelive.aio import connect
    from azure.core.credentials import AzureKeyCredential

    endpoint = url.removesuffix("/v1/realtime")
    async with connect(credential=AzureKeyCredential("none"), endpoint=endpoint) as connection:

        async def read() -> None:
            async for event in connection:
                if event.type in {_AUDIO, "response.audio.delta"}:
                    delta = event["delta"]
                    is_text = isinstance(delta, str)
                    await backlog.audio(base64.b64decode(delta) if is_text else delta)
                elif event.type == _SPEECH:
                    backlog.speech(event.event_id)

        task = asyncio.create_task(read())
        yield
        task.cancel()


def _pipecat_reader():
    from pipecat.services.openai.realtime.events import parse_server_event

    def read(frame: bytes) -> object:
        event = parse_server_event(frame)
        return base64.b64decode(event.delta) if event.type == _AUDIO else event

    return read


def decode_rows() -> list[DecodeRow]:
    """Return every way to decode, ours and theirs: only Pipecat's stands by itself."""
    rule = "parse_server_event; audio by base64.b64decode"
    needs = "pipecat.services.openai.realtime.events"
    return [*bench.decode_rows(), DecodeRow(PIPECAT, rule, needs, _pipecat_reader)]


def rows() -> list[Row]:
    """Return every row, ours and theirs."""
    return [
        *bench.rows(),
        Row(
            PICOWS,
            "picows' listener, 46 plain structs, pybase64; no pings, no back-pressure, no session",
            "picows",
            picows,
            picows_slow,
        ),
        Row(
            AGENTS,
            "OpenAIRealtimeWebSocketModel with a listener: text by the raw event, audio by its own",
            "agents",
            agents,
            agents_slow,
        ),
        Row(
            LIVEKIT,
            "RealtimeModel.session: text by the raw event, audio by the stream of AudioFrames",
            "livekit.plugins.openai",
            livekit,
            livekit_slow,
        ),
        Row(
            PIPECAT,
            "OpenAIRealtimeLLMService and a processor in a pipeline; frames have no event id",
            "pipecat",
            pipecat,
            pipecat_slow,
        ),
        Row(
            AZURE,
            "VoiceLiveConnection, async for; its names of events are the beta's, so only barge-in",
            "azure.ai.voicelive",
            None,
            azure_slow,
        ),
    ]
