"""A recording as what is expected: the same tool calls, the same words heard, the same cuts.

The rules
---------
1. Tool calls are the same if function, arguments and output are, in the same order.
2. Utterances are the same if their words are, if both were cut off or neither was, and if about as
   much was heard. Of what was cut off, more words may have come in one than in the other.
3. A replay besides has the agent send what it sent then, as `realtime_bus.recording.replay` says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from realtime_bus.audio import AudioSink
from realtime_bus.bus import Bus
from realtime_bus.recording import Recording, Timeline, replay
from realtime_bus.session import Plugin, Session
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink

from ._ear import Ear
from ._story import Story, ToolUse, shown

GoldenFile: TypeAlias = str | os.PathLike[str]


class _Heard(msgspec.Struct, frozen=True):
    """An utterance, as far as it counts."""

    text: str
    cut: bool
    heard_ms: int

    def __str__(self) -> str:
        cut = f" cut after {self.heard_ms} ms" if self.cut else ""
        return f"heard “{self.text}”{cut}"


class _Called(msgspec.Struct, frozen=True):
    """A tool call, as far as it counts."""

    name: str
    arguments: Any
    output: str | None

    def __str__(self) -> str:
        return f"{self.name}({shown(self.arguments)}) → {self.output}"


class Outcome(msgspec.Struct, frozen=True):
    """What came of a call, as far as it is to be the same again."""

    heard: list[_Heard]
    called: list[_Called]

    @classmethod
    def of_recording(cls, path: GoldenFile) -> Outcome:
        """Read it from a recording.

        Raises:
            RecordingError: It is none.
        """
        timeline = Timeline.of(Recording(path))
        texts = {said.item.id: said for said in timeline.said if said.item.role == "assistant"}
        audio = {part.item_id: part for part in timeline.assistant}
        heard: list[tuple[float, _Heard]] = []
        for item_id, said in texts.items():
            part = audio.get(item_id)
            if part is None:
                heard.append((said.at_ms, _Heard(said.text.strip(), cut=False, heard_ms=0)))
            elif part.heard:
                cut = part.silenced_ms is not None and part.discarded_ms > 1
                length = _Heard(said.text.strip(), cut, int(part.heard_ms))
                heard.append((part.heard[0].at_ms, length))
        called = [_called(call.name, call.arguments, call.output) for call in timeline.calls]
        return cls([each for _, each in sorted(heard, key=lambda pair: pair[0])], called)

    @classmethod
    def of_call(cls, ear: Ear, tool_uses: Iterable[ToolUse]) -> Outcome:
        """Read it from what was watched."""
        heard = [_Heard(each.text.strip(), each.cut, each.heard_ms) for each in ear.heard]
        return cls(heard, [_Called(use.name, use.arguments, use.output) for use in tool_uses])

    def differences(
        self, now: Outcome, *, within_ms: int, ignore_outputs: Collection[str] = ()
    ) -> Iterator[str]:
        """Yield what is otherwise now, in words."""
        for then, other in zip_longest(self.heard, now.heard):
            if then is None or other is None or not _same(then, other, within_ms):
                yield f"then: {then or 'nothing was heard'}\n    now: {other or 'nothing is'}"
        for was, called in zip_longest(self.called, now.called):
            if was is None or called is None or not _same_call(was, called, ignore_outputs):
                yield f"then: {was or 'nothing was called'}\n    now: {called or 'nothing is'}"


def _called(name: str, arguments: str, output: str | None) -> _Called:
    try:
        return _Called(name, msgspec.json.decode(arguments or "{}"), output)
    except msgspec.DecodeError:
        return _Called(name, arguments, output)


def _same(then: _Heard, now: _Heard, within_ms: int) -> bool:
    if then.cut != now.cut or abs(then.heard_ms - now.heard_ms) > within_ms:
        return False
    if then.cut:
        return then.text.startswith(now.text) or now.text.startswith(then.text)
    return then.text == now.text


def _same_call(then: _Called, now: _Called, ignore_outputs: Collection[str]) -> bool:
    if then.name in ignore_outputs:
        now = msgspec.structs.replace(now, output=then.output)
    return then == now


def as_lines(differences: Iterable[str]) -> str:
    """Return differences as a list for people."""
    return "\n".join(f"- {each}" for each in differences)


async def assert_replays(
    recording: GoldenFile,
    bus: Bus | Callable[[AudioSink], Bus],
    *,
    within_ms: int = 50,
    ignore_outputs: Collection[str] = (),
    ignore: Sequence[str] = (),
    **options: Any,
) -> None:
    """Replay a recording through an agent, and check that it does the same again.

    The server says what it said then; the agent's handlers, tools and plugins run as they do in a
    call, and what is heard is worked out anew. It needs virtual time.

    Args:
        recording: A file that the plugin `Recorder` has written, with its audio.
        bus: The agent; or a function that makes it with the sink that it is given.
        within_ms: How far apart interruptions may be.
        ignore_outputs: Functions whose output does not matter.
        ignore: Fields of what is sent that do not matter; see `realtime_bus.recording.replay`.
        **options: More for `replay`: ``main``, ``settings``, ``state``, ``outside``, …

    Raises:
        AssertionError: It does not; says what is otherwise.
        RecordingError: It is no recording.
    """
    __tracebackhide__ = True
    sink = NullSink()
    agent = bus if isinstance(bus, Bus) else bus(sink)
    own = next((each for each in agent.plugins if isinstance(each, AudioSink)), None)
    plugins: list[Plugin] = [] if own is not None else [sink, Interruption(sink)]
    watch = _Watch(own or sink)
    report = await replay(
        recording,
        agent,
        plugins=[*plugins, watch],
        audio_within_ms=within_ms,
        ignore=[*ignore, *(["item.output"] if ignore_outputs else [])],
        **options,
    )
    then = Outcome.of_recording(recording)
    now = Outcome.of_call(watch.ear, watch.story.tool_uses)
    found = [
        *then.differences(now, within_ms=within_ms, ignore_outputs=ignore_outputs),
        *map(str, report.differences),
    ]
    if found:
        name = Path(recording).name
        message = f"{name} does not come out as it did:\n{as_lines(found)}"
        raise watch.story.error(message)


class _Watch:
    """A plugin that sees what is heard and called in a replay."""

    ear: Ear
    story: Story

    def __init__(self, sink: AudioSink) -> None:
        self._sink = sink

    def attach(self, session: Session[Any]) -> None:
        """Watch a session."""
        began_s, clock = session.clock(), session.clock

        def now_s() -> float:
            return clock() - began_s

        self.ear = Ear(session, self._sink, clock=now_s, model=None)
        self.story = Story(now_s)
        self.story.sources.append(self.ear.notes)
        self.story.attach(session)
        session.start_soon(self.ear.run)
