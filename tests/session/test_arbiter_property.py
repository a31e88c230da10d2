"""Any schedule of requests and of a server's doings keeps the arbiter's promises."""

from __future__ import annotations

from collections import deque
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from realtime_bus import events as ev
from realtime_bus.session._arbiter import ANSWER_S, ROUND_TRIP_S, SPEECH_S, STALE_S

from ._arbitration import RACE, Desk, response


class Conversation(RuleBasedStateMachine):
    """A server that keeps the protocol, with both directions delayed as the machine likes."""

    @initialize(
        metadata=st.sampled_from(["echoed", "echoed", "null", "absent"]),
        names_id=st.booleans(),
        names_event=st.booleans(),
        names_conversation=st.booleans(),
        explains=st.booleans(),
    )
    def begin(
        self,
        *,
        metadata: str,
        names_id: bool,
        names_event: bool,
        names_conversation: bool,
        explains: bool,
    ) -> None:
        """Choose the server's habits."""
        self.desk = Desk()
        self.echoes = metadata == "echoed"
        self.nothing: Any = msgspec.UNSET if metadata == "absent" else None
        self.names_id = names_id
        self.names_event = names_event
        self.names_conversation = names_conversation
        self.explains = explains
        self.read = 0  # how many requests the server has taken
        self.to_client: deque[tuple[str, Any, bool]] = deque()  # the last: answers a request
        self.answers = 0  # that the client has heard, to requests for the conversation
        self.active: dict[str, ev.Response] = {}  # by response id
        self.asked_by: dict[str, str | None] = {}  # by response id: whose it is in truth
        self.refused: set[str] = set()
        self.in_conversation: str | None = None
        self.speaking = False
        self.count = 0

    # --- the client ---

    @rule(band=st.sampled_from(["auto", "auto", "none"]), while_speaking=st.booleans())
    def ask(self, band: str, *, while_speaking: bool) -> None:
        """Want a response; no server that echoes nothing knows any out of band."""
        band = band if self.echoes else "auto"
        name = f"q{len(self.desk.tasks)}"
        self.desk.ask(name, while_speaking=while_speaking, conversation=band)

    @rule(which=st.integers(0, 20))
    def give_up(self, which: int) -> None:
        """Lose interest in a request."""
        task = self.desk.tasks.get(f"q{which}")
        if task is not None and not task.settled and not self.desk.arbiter.withdraw(task):
            task.unwanted = True

    @rule()
    def make_way(self) -> None:
        """Replace what is active."""
        self.desk.arbiter.make_way()

    @precondition(lambda self: self.to_client)
    @rule()
    def hear(self) -> None:
        """Receive the server's next event."""
        what, about, answers = self.to_client.popleft()
        self.answers += answers
        if what == "error":
            self.desk.error(about[0], code=about[1], message=about[2])
        else:
            getattr(self.desk, f"hear_{what}")(about)

    @precondition(lambda self: not self.to_client and self.read == len(self.desk.sent))
    @rule(for_s=st.sampled_from([ROUND_TRIP_S, ANSWER_S, SPEECH_S]))
    def wait(self, for_s: float) -> None:
        """Let time pass, of which nothing on its way needs so much."""
        if for_s < STALE_S or not self.active:  # what is active would have shown itself
            self.desk.now_s += for_s
            self.desk.arbiter.advance(self.desk.now_s)

    # --- the server ---

    def _start(self, name: str | None, theirs: dict[str, str] | None = None) -> None:
        self.count += 1
        response_id = f"resp_{self.count}"
        task = None if name is None else self.desk.tasks[name]
        band = task is None or not task.out_of_band
        shown = task.metadata if self.echoes and task is not None else theirs or self.nothing
        found = response(response_id, metadata=shown, band=band)
        if not self.names_conversation:
            found = msgspec.structs.replace(found, conversation_id=msgspec.UNSET)
        self.active[response_id] = found
        self.asked_by[response_id] = name
        if band:
            self.in_conversation = response_id
        self.to_client.append(("created", found, band and task is not None))

    @precondition(lambda self: self.read < len(self.desk.sent))
    @rule(refuses=st.sampled_from([False, False, False, True]))
    def take_request(self, *, refuses: bool) -> None:
        """Take the next request: start it, or refuse it because another one is active."""
        name = self.desk.sent[self.read]
        self.read += 1
        out_of_band = self.desk.tasks[name].out_of_band
        event_id = name if self.names_event else None
        if refuses:
            self.refused.add(name)
            param = "rate_limit_exceeded" if self.explains else None
            self.to_client.append(("error", (event_id, param, "no"), not out_of_band))
        elif out_of_band or self.in_conversation is None:
            self._start(name)
        else:
            message = f"active: {self.in_conversation}" if self.names_id else "busy"
            self.to_client.append(("error", (event_id, RACE, message), True))

    @precondition(lambda self: self.echoes and self.in_conversation is None)
    @rule()
    def speak_for_a_stranger(self) -> None:
        """Start a response that somebody else in the same conversation has asked for."""
        self._start(None, {"theirs": "1"})

    @precondition(lambda self: not self.speaking)
    @rule()
    def hear_speech(self) -> None:
        """Hear somebody begin to speak."""
        self.speaking = True
        self.to_client.append(("speech", ev.InputAudioBufferSpeechStarted, False))

    @precondition(lambda self: self.speaking)
    @rule(answers=st.booleans())
    def hear_silence(self, *, answers: bool) -> None:
        """Hear them stop, and answer; where nothing is echoed, always."""
        self.speaking = False
        self.to_client.append(("speech", ev.InputAudioBufferSpeechStopped, False))
        if self.in_conversation is None and (answers or not self.echoes):
            self._start(None)

    @precondition(lambda self: self.active)
    @rule(which=st.integers(0, 5))
    def finish(self, which: int) -> None:
        """End a response."""
        response_id = sorted(self.active)[which % len(self.active)]
        found = self.active.pop(response_id)
        if response_id == self.in_conversation:
            self.in_conversation = None
        self.to_client.append(("done", found, False))

    # --- what must hold ---

    @invariant()
    def at_most_one_is_on_its_way(self) -> None:
        """Never are two requests for the conversation sent and not answered."""
        asked = [name for name in self.desk.sent if not self.desk.tasks[name].out_of_band]
        assert len(asked) - self.answers <= 1

    @invariant()
    def each_ends_at_most_once(self) -> None:
        """No request is settled twice."""
        assert len(self.desk.settled) == len(set(self.desk.settled))

    @invariant()
    def nobody_is_given_what_is_not_theirs(self) -> None:
        """A response that ends a request is the one that it asked for."""
        for name, task in self.desk.tasks.items():
            if task.response is not None and task.response.id is not None:
                assert self.asked_by[task.response.id] == name

    @invariant()
    def nothing_is_waited_for_in_vain(self) -> None:
        """Whoever is told when to look again is told of a time to come."""
        deadline_s = self.desk.arbiter.next_deadline_s()
        assert deadline_s is None or deadline_s > self.desk.now_s

    def teardown(self) -> None:
        """Whatever has happened: when the server does its part, every request ends."""
        self._run_dry()
        if self.speaking:
            self.hear_silence(answers=True)
            self._run_dry()
        self._wait(ROUND_TRIP_S)
        self._wait(ANSWER_S)
        for _ in self.desk.tasks:  # each has its turn, and the first one ends what is unknown
            self._wait(ROUND_TRIP_S)
        assert sorted(self.desk.settled) == sorted(self.desk.tasks)  # nobody had to wait long
        assert self.desk.arbiter.waiting == 0
        for name, task in self.desk.tasks.items():
            assert isinstance(task.response, ev.Response) or name in self.refused, name

    def _wait(self, for_s: float) -> None:
        self.desk.now_s += for_s
        self.desk.arbiter.advance(self.desk.now_s)
        self._run_dry()

    def _run_dry(self) -> None:
        while self.to_client or self.read < len(self.desk.sent) or self.active:
            if self.read < len(self.desk.sent):
                self.take_request(refuses=False)
            elif self.to_client:
                self.hear()
            else:
                self.finish(0)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
