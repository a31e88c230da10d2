"""Pipecat's service in a pipeline: its own context, a tool, an interruption."""

import asyncio
import warnings
from typing import Any

from _common import URL, report, say, until
from loguru import logger

warnings.simplefilter("ignore")  # what is deprecated here works in all its versions
logger.remove()

from pipecat.adapters.schemas.function_schema import FunctionSchema  # noqa: E402
from pipecat.adapters.schemas.tools_schema import ToolsSchema  # noqa: E402
from pipecat.frames.frames import (  # noqa: E402
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMRunFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # noqa: E402
from pipecat.pipeline.runner import PipelineRunner  # noqa: E402
from pipecat.pipeline.task import PipelineParams, PipelineTask  # noqa: E402
from pipecat.processors.aggregators.llm_context import LLMContext  # noqa: E402
from pipecat.processors.aggregators.llm_response_universal import (  # noqa: E402
    LLMContextAggregatorPair,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor  # noqa: E402
from pipecat.services.openai.realtime import events  # noqa: E402
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService  # noqa: E402

FRAMES: list[Frame] = []
CALLS: list[Any] = []


class Watch(FrameProcessor):
    """Note what passes."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Note it and pass it on."""
        await super().process_frame(frame, direction)
        FRAMES.append(frame)
        await self.push_frame(frame, direction)


def of(kind: type[Frame]) -> list[Any]:
    """Return the frames of a class."""
    return [frame for frame in FRAMES if isinstance(frame, kind)]


async def look_up(params: Any) -> None:
    """Answer the call."""
    CALLS.append(params.arguments)
    await params.result_callback({"minutes": 9})


async def main() -> None:
    """Hold the conversation."""
    settings = OpenAIRealtimeLLMService.Settings(
        model="any",
        system_instruction="Be brief.",
        session_properties=events.SessionProperties(
            audio=events.AudioConfiguration(
                input=events.AudioInput(
                    transcription=events.InputAudioTranscription(),
                    turn_detection=events.TurnDetection(),
                )
            )
        ),
    )
    service = OpenAIRealtimeLLMService(
        api_key="k", base_url=URL.partition("?")[0], settings=settings
    )
    service.register_function("look_up", look_up)
    dish = {"dish": {"type": "string"}}
    schema = FunctionSchema(name="look_up", description="", properties=dish, required=["dish"])
    context = LLMContext(
        [{"role": "user", "content": "Say hello."}], ToolsSchema(standard_tools=[schema])
    )
    pair = LLMContextAggregatorPair(context)
    rate = PipelineParams(audio_in_sample_rate=24_000, audio_out_sample_rate=24_000)
    pipeline = Pipeline([pair.user(), Watch(), service, Watch(), pair.assistant()])
    task = PipelineTask(pipeline, params=rate, cancel_on_idle_timeout=False)
    running = asyncio.ensure_future(PipelineRunner(handle_sigint=False).run(task))

    async def push(audio: bytes) -> None:
        await task.queue_frame(InputAudioRawFrame(audio=audio, sample_rate=24_000, num_channels=1))

    await task.queue_frame(LLMRunFrame())
    await until(lambda: of(TTSStoppedFrame), "the first answer")
    await say("pasta", push)
    await until(lambda: CALLS, "the call")
    count = len(of(TTSAudioRawFrame))
    await until(lambda: len(of(TTSAudioRawFrame)) > count, "audio to interrupt")
    await say("stop", push)
    await until(lambda: len(of(InterruptionFrame)) > 1, "the interruption")
    count = len(of(TTSAudioRawFrame))
    await until(lambda: len(of(TTSAudioRawFrame)) > count, "the answer after it")
    await until(lambda: len(of(TranscriptionFrame)) > 1, "transcripts")
    report(
        transcripts=[frame.text for frame in of(TranscriptionFrame)],
        calls=CALLS,
        errors=[str(frame) for frame in of(ErrorFrame)],
    )
    await task.cancel()
    await running


asyncio.run(main())
