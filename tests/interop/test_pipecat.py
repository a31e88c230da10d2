"""Pipecat: a pipeline round its OpenAIRealtimeLLMService, with a loudspeaker at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from realtime_bus import events as ev

from . import _stage as on_stage
from ._stage import Heard, said, speaks_up, stage

pytest.importorskip("pipecat.services.openai.realtime.llm", reason="needs the group interop")

from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    AssistantTurnStoppedMessage,
    LLMContextAggregatorPair,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

pytestmark = on_stage.MARKS

HELLO = "Good evening."


class Loudspeaker(FrameProcessor):
    """Has played each answer when the last of it has come; none while it holds."""

    holds = False

    async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
        """Pass everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSStoppedFrame) and not self.holds:
            await self.push_frame(BotStoppedSpeakingFrame(), FrameDirection.UPSTREAM)
        await self.push_frame(frame, direction)


class Onlooker(BaseObserver):
    """Notes each frame once."""

    def __init__(self, heard: Heard) -> None:
        super().__init__()
        self._heard = heard
        self._seen: set[int] = set()

    async def on_push_frame(self, data: FramePushed) -> None:
        """See a frame on one of its ways."""
        if data.frame.id not in self._seen:
            self._seen.add(data.frame.id)
            self._heard.note(data.frame)


class Apart(events.ClientEvent):
    """A response out of band; Pipecat has no event of its own for it."""

    type: Literal["response.create"] = "response.create"
    response: dict[str, Any] = on_stage.APART


def of(kind: type) -> Any:
    """Return what tells a frame by its class."""
    return lambda frame: isinstance(frame, kind)


@asynccontextmanager
async def running(worker: PipelineWorker) -> AsyncGenerator[None, None]:
    """Run a pipeline until it has ended by itself, or something else has failed."""
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    task = asyncio.create_task(runner.run())
    try:
        yield
    except BaseException:
        await runner.cancel()
        raise
    finally:
        await task


async def test_pipecat_holds_a_whole_conversation() -> None:
    """Settings, speech, transcription, tool, answer, barge-in, text, out of band, close."""
    asked: list[str] = []

    async def look_up(params: FunctionCallParams, dish: str) -> None:
        """Find how long a dish takes.

        Args:
            params: Pipecat's.
            dish: Which.
        """
        asked.append(dish)
        await params.result_callback(on_stage.FOUND)

    heard, loudspeaker = Heard(), Loudspeaker()
    async with stage(greeting=HELLO) as on:
        listening = events.AudioInput(
            transcription=events.InputAudioTranscription(), turn_detection=events.TurnDetection()
        )
        audio = events.AudioConfiguration(
            input=listening, output=events.AudioOutput(voice=on_stage.VOICE)
        )
        service = OpenAIRealtimeLLMService(
            api_key="none",
            base_url=on.url,
            settings=OpenAIRealtimeLLMService.Settings(
                model=on_stage.MODEL,
                system_instruction=on_stage.INSTRUCTIONS,
                session_properties=events.SessionProperties(audio=audio),
            ),
        )
        context = LLMContext(tools=[look_up])
        pair = LLMContextAggregatorPair(context)
        pipeline = Pipeline([pair.user(), service, loudspeaker, pair.assistant()])
        worker = PipelineWorker(pipeline, observers=[Onlooker(heard)], cancel_on_idle_timeout=False)

        async def say(pieces: list[bytes]) -> None:
            for pcm in pieces:
                await worker.queue_frame(InputAudioRawFrame(pcm, 24_000, 1))

        @pair.assistant().event_handler("on_assistant_turn_stopped")
        async def answered(_: Any, message: AssistantTurnStoppedMessage) -> None:
            heard.note(message)

        def answer(words: str) -> Any:
            return lambda report: (
                isinstance(report, AssistantTurnStoppedMessage) and report.content == words
            )

        async with running(worker), on.witness() as witness:
            # settings; the bot begins
            await worker.queue_frame(LLMRunFrame())
            await heard.get(of(BotStoppedSpeakingFrame))
            on_stage.check_settings(witness)

            # speech, and what was said
            await say(said(on_stage.QUESTION))
            assert (await heard.get(of(TranscriptionFrame))).text == on_stage.QUESTION

            # tool
            result = await heard.get(of(FunctionCallResultFrame))
            assert (result.result, asked) == (on_stage.FOUND, ["pasta"])

            # spoken answer
            await heard.get(of(BotStoppedSpeakingFrame), nth=2)
            await heard.get(answer(on_stage.ANSWER))

            # barge-in
            loudspeaker.holds = True
            before = len(heard.of(of(TTSAudioRawFrame)))
            interruptions = len(heard.of(of(InterruptionFrame)))
            await say(said(on_stage.TELL_ALL))
            await heard.get(of(TTSAudioRawFrame), nth=before + on_stage.DELTAS)
            begin, rest = speaks_up()
            await say(begin)
            await heard.get(of(InterruptionFrame), nth=interruptions + 2)
            await witness.get(ev.ConversationItemTruncated)
            loudspeaker.holds = False
            await say(rest)
            await heard.get(answer(on_stage.YES))

            # text
            message = {"role": "user", "content": on_stage.WRITTEN}
            await service.queue_frame(LLMMessagesAppendFrame(messages=[message], run_llm=True))
            await heard.get(answer(on_stage.READ))
            words = [on_stage.QUESTION, on_stage.TELL_ALL, on_stage.STOP, on_stage.WRITTEN]
            assert [each["content"] for each in context.messages if each["role"] == "user"] == words

            # out of band
            await service.send_client_event(Apart())
            await witness.get(ev.ResponseDone, nth=7)
            on_stage.check_conversation(witness)

            # close
            await worker.queue_frame(EndFrame())
            await witness.closed()
        assert not heard.of(of(ErrorFrame))
