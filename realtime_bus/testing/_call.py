"""What a test sees of a call: what was heard, said and called, and what it may expect of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import anyio

from realtime_bus.errors import UsageError
from realtime_bus.server import RealtimeServer, ServerSession
from realtime_bus.session import Session

from ._ear import Ear, Utterance
from ._golden import GoldenFile, Outcome, as_lines
from ._model import ScriptedModel
from ._person import Person
from ._story import Story, ToolUse, shown

if TYPE_CHECKING:
    from realtime_bus import events as ev

_SETTLE_TICK_S = 0.05


class CutOff:
    """An utterance that the person cut off.

    Attributes:
        utterance: Which.
        after_s: From the person's first sound to the silence of the assistant.
    """

    def __init__(self, utterance: Utterance, after_s: float) -> None:
        self.utterance = utterance
        self.after_s = after_s

    def __repr__(self) -> str:
        return f"<CutOff into {self.utterance.text!r} after_s={self.after_s:.3f}>"


class Call:
    """A call under test; see `place_call`.

    Attributes:
        session: The agent's session.
        person: Who talks to it.
        model: What answers, if it is scripted.
    """

    def __init__(
        self,
        session: Session[Any],
        person: Person,
        ear: Ear,
        story: Story,
        *,
        model: ScriptedModel | None,
        server: RealtimeServer,
    ) -> None:
        self.session: Session[Any] = session
        self.person: Person = person
        self.model: ScriptedModel | None = model
        self._ear = ear
        self._story = story
        self._server = server

    # --- what happened -----------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """How long the call has taken so far."""
        return self._story.now_s()

    @property
    def server(self) -> ServerSession:
        """The server's side of it: send any event, drop, stall, fail; `ServerSession.inject`.

        Raises:
            UsageError: There is no connection.
        """
        if not self._server.sessions:
            raise UsageError("the server has no session: there is no connection at the moment")
        return self._server.sessions[-1]

    @property
    def heard(self) -> list[str]:
        """What the person heard, utterance by utterance, cut where it was cut; in whole words."""
        return [self._ear.words_of(utterance) for utterance in self.utterances]

    @property
    def utterances(self) -> list[Utterance]:
        """The same, with times, lengths and all the words."""
        return self._ear.heard

    @property
    def tool_calls(self) -> list[ToolUse]:
        """The functions that the model called, in order."""
        return list(self._story.tool_uses)

    @property
    def sent(self) -> list[ev.ClientEvent]:
        """What the agent sent, in order; without the person's audio."""
        return list(self._story.sent)

    @property
    def barge_ins(self) -> list[CutOff]:
        """The utterances that the person cut off, and how long each went on meanwhile."""
        found: list[CutOff] = []
        for utterance in self.utterances:
            ended_s = utterance.ended_s
            if utterance.cut and ended_s is not None:
                spoke = [said.began_s for said in self.person.said if said.began_s <= ended_s]
                if spoke and self._was_speaking(ended_s):
                    found.append(CutOff(utterance, ended_s - spoke[-1]))
        return found

    def _was_speaking(self, at_s: float) -> bool:
        last = [said for said in self.person.said if said.began_s <= at_s][-1]
        return last.ended_s is None or last.ended_s + 1.0 >= at_s  # a short word is over by then

    @property
    def answer_times_s(self) -> list[float]:
        """From each last word of the person to the first sound of what the assistant said next."""
        found: list[float] = []
        said = self.person.said
        for each, following in zip(said, [*said[1:], None], strict=True):
            if each.ended_s is None:
                continue
            until_s = float("inf") if following is None else following.began_s
            heard = [u.began_s for u in self.utterances if u.began_s is not None]
            found += [at_s - each.ended_s for at_s in heard if each.ended_s <= at_s < until_s][:1]
        return found

    @property
    def story(self) -> str:
        """What happened, as a time line."""
        return self._story.render()

    # --- waiting -----------------------------------------------------------------------------

    async def settles(self, *, quiet_s: float = 1.0, within_s: float = 60.0) -> None:
        """Wait until nothing goes on any more.

        That is: the person is silent, nothing plays, no response is active, every function call is
        answered, for a while.

        Args:
            quiet_s: How long it must have been so.
            within_s: How long to wait for it.
        """
        began_s = since_s = self.now_s
        while self.now_s - since_s < quiet_s and self.session.close_info is None:
            await anyio.sleep(_SETTLE_TICK_S)
            if going_on := self._going_on():
                since_s = self.now_s
                if since_s - began_s > within_s:
                    self.fail(f"the call did not come to rest within {within_s:g} s: {going_on}")

    def _going_on(self) -> str:
        """Say what keeps the call from being at rest."""
        said = self.person.said
        if said and said[-1].ended_s is None:
            return "the person speaks"
        if self._ear.busy:
            return "the assistant speaks"
        if self.session.active_response_id is not None:
            return "a response is active"
        unanswered = [use for use in self.tool_calls if use.answered_s is None]
        return f"{unanswered[0]} is not answered" if unanswered else ""

    # --- judging -----------------------------------------------------------------------------

    def fail(self, message: str) -> NoReturn:
        """Fail the test, and show what happened in the call.

        Raises:
            AssertionError: Always.
        """
        __tracebackhide__ = True
        raise self._story.error(message)

    def assert_heard(self, *texts: str) -> None:
        """Check that the person heard these texts, in this order; there may be more between.

        Case and punctuation count for nothing.

        Raises:
            AssertionError: One was not heard, or not there.
        """
        __tracebackhide__ = True
        self._in_order([(_plain(each), each) for each in self.heard], texts, "was not heard")

    def assert_called(self, name: str, /, **arguments: Any) -> ToolUse:
        """Check that the model called a function with these arguments, and no other.

        Returns:
            The call; the last, if there are several.

        Raises:
            AssertionError: It did not.
        """
        __tracebackhide__ = True
        same = [use for use in self.tool_calls if (use.name, use.arguments) == (name, arguments)]
        if not same:
            called = ", ".join(map(repr, self.tool_calls)) or "nothing"
            self.fail(f"{name}({shown(arguments)}) was not called; called was: {called}")
        return same[-1]

    def assert_not_called(self, name: str) -> None:
        """Check that the model did not call a function.

        Raises:
            AssertionError: It did.
        """
        __tracebackhide__ = True
        if found := [use for use in self.tool_calls if use.name == name]:
            self.fail(f"{found[0]} was called")

    def assert_order(self, *happenings: str) -> None:
        """Check that these pieces of text are in lines of `story`, in this order.

        Such as ``"person “How long"``, ``"calls look_up"``, ``"assistant “Nine"``.

        Raises:
            AssertionError: One is missing, or not there.
        """
        __tracebackhide__ = True
        lines = [(_plain(line), line) for line in self.story.splitlines()]
        self._in_order(lines, happenings, "did not happen")

    def _in_order(
        self, found: list[tuple[str, str]], wanted: Iterable[str], complaint: str
    ) -> None:
        __tracebackhide__ = True
        at, before = 0, ""
        for each in wanted:
            hits = [i for i, (text, _) in enumerate(found[at:], at) if _plain(each) in text]
            if not hits:
                anywhere = any(_plain(each) in text for text, _ in found)
                order = f" after {before!r}, but before" if anywhere else ""
                self.fail(f"{each!r} {complaint}{order}")
            at, before = hits[0] + 1, each

    def assert_within(
        self,
        *,
        answer_s: float | None = None,
        silence_s: float | None = None,
        tool_s: float | None = None,
    ) -> None:
        """Check that the agent was fast enough, each time.

        Args:
            answer_s: From the person's last word to the assistant's first sound.
            silence_s: From the person's first sound over the assistant to its silence.
            tool_s: From a function call to its output.

        Raises:
            AssertionError: It took longer, or there was nothing to measure.
        """
        __tracebackhide__ = True
        tools = [
            use.answered_s - use.called_s for use in self.tool_calls if use.answered_s is not None
        ]
        for what, limit_s, times in (
            ("an answer", answer_s, self.answer_times_s),
            ("silence after the person had begun to speak", silence_s, self._silences_s()),
            ("a function's output", tool_s, tools),
        ):
            if limit_s is None:
                continue
            if not times:
                self.fail(f"there was no {what.removeprefix('an ').removeprefix('a ')} to measure")
            if max(times) > limit_s:
                self.fail(f"{what} took {max(times):.3f} s, more than {limit_s:g} s")

    def _silences_s(self) -> list[float]:
        return [barge_in.after_s for barge_in in self.barge_ins]

    def assert_same_as(
        self,
        golden: GoldenFile,
        *,
        within_ms: int = 50,
        ignore_outputs: Collection[str] = (),
    ) -> None:
        """Check that the same came of it as of a recorded call.

        That is: the same tool calls, the same words heard, each interruption at the same place.

        Args:
            golden: The recording.
            within_ms: How far apart interruptions may be.
            ignore_outputs: Functions whose output does not matter.

        Raises:
            AssertionError: Something else did; says what.
            RecordingError: It is no recording.
        """
        __tracebackhide__ = True
        now = Outcome.of_call(self._ear, self.tool_calls)
        then = Outcome.of_recording(golden)
        found = then.differences(now, within_ms=within_ms, ignore_outputs=ignore_outputs)
        if lines := as_lines(found):
            self.fail(f"the call did not come out as in {Path(golden).name}:\n{lines}")

    def assert_fine(self, *, tolerate: Collection[str] = ()) -> None:
        """Check that nothing went wrong; see the rules of `place_call`.

        Args:
            tolerate: What may: ids of rules, codes and types of the server's errors, names of
                handlers, ``"handler_failed"``, ``"unscripted"``.

        Raises:
            AssertionError: Something did.
        """
        __tracebackhide__ = True
        wrong = [each for each in self._story.problems if not each[0] & set(tolerate)]
        found = [f"{what}  [{' or '.join(sorted(names))}]" for names, what in wrong]
        if self.model is not None and self.model.unscripted_s and "unscripted" not in tolerate:
            asked = len(self.model.asked)
            scripted = asked - len(self.model.unscripted_s)
            what = f"the model was asked for {asked} answers, and its script has {scripted}"
            found.append(f"{what}  [unscripted]")
        if found:
            hint = "What is done on purpose is named: place_call(..., tolerate={...})."
            self.fail("\n- ".join(["the call did not go well:", *found]) + f"\n{hint}")


def _plain(text: str) -> str:
    """Return a text without what does not count: case, punctuation, runs of spaces."""
    kept = "".join(c if c.isalnum() or c in "_.-" else " " for c in text.lower())
    return " ".join(word.strip(".-") for word in kept.split())
