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
from realtime_bus.session._arbiter import STALE_S

from ._arbitration import Desk, response


class Conversation(RuleBasedStateMachine):
    """A server that keeps the protocol, with both directions delayed as the machine likes."""

    @initialize(echoes=st.booleans(), names_id=st.booleans(), names_event=st.booleans())
    def begin(self, *, echoes: bool, names_id: bool, names_event: bool) -> None:
        """Choose the server's habits."""
        self.desk = Desk()
        self.echoes = echoes
        self.names_id = names_id
        self.names_event = names_event
        self.read = 0  # how many requests the server has taken
        self.to_client: deque[tuple[str, Any, bool]] = deque()  # the last: answers a request
        self.answers = 0  # that the client has heard, to requests for the conversation
        self.active: dict[str, Any] = {}  # by response id: metadata
        self.in_conversation: str | None = None
        self.count = 0

    # --- the client ---

    @rule(band=st.sampled_from(["auto", "auto", "none"]))
    def ask(self, band: str) -> None:
        """Want a response."""
        self.desk.ask(f"q{len(self.desk.tasks)}", conversation=band)

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
            self.desk.error(*about[0], message=about[1])
        else:
            getattr(self.desk, f"hear_{what}")(about)

    # --- the server ---

    def _start(self, metadata: dict[str, str] | None, *, band: bool, asked: bool) -> None:
        self.count += 1
        response_id = f"resp_{self.count}"
        shown = metadata if self.echoes else msgspec.UNSET
        self.active[response_id] = shown
        if band:
            self.in_conversation = response_id
        found = response(response_id, metadata=shown, band=band)
        self.to_client.append(("created", found, asked and band))

    @precondition(lambda self: self.read < len(self.desk.sent))
    @rule()
    def take_request(self) -> None:
        """Take the next request: start it, or refuse it because another one is active."""
        name = self.desk.sent[self.read]
        self.read += 1
        task = self.desk.tasks[name]
        if task.out_of_band or self.in_conversation is None:
            self._start(task.metadata, band=not task.out_of_band, asked=True)
            return
        message = f"active: {self.in_conversation}" if self.names_id else "busy"
        event_id = name if self.names_event else None
        self.to_client.append(("error", ((event_id,), message), True))

    @precondition(lambda self: self.in_conversation is None)
    @rule()
    def speak_first(self) -> None:
        """Start a response by itself, as after a turn of the user."""
        self._start(None, band=True, asked=False)

    @precondition(lambda self: self.active)
    @rule(which=st.integers(0, 5))
    def finish(self, which: int) -> None:
        """End a response."""
        response_id = sorted(self.active)[which % len(self.active)]
        metadata = self.active.pop(response_id)
        if response_id == self.in_conversation:
            self.in_conversation = None
        self.to_client.append(("done", response(response_id, metadata=metadata), False))

    # --- what must hold ---

    @invariant()
    def at_most_one_is_on_its_way(self) -> None:
        """Never are two requests for the conversation sent and not answered.

        Where a server echoes nothing, its own response may be taken for the answer.
        """
        asked = [name for name in self.desk.sent if not self.desk.tasks[name].out_of_band]
        assert not self.echoes or len(asked) - self.answers <= 1

    @invariant()
    def each_ends_at_most_once(self) -> None:
        """No request is settled twice."""
        assert len(self.desk.settled) == len(set(self.desk.settled))

    def teardown(self) -> None:
        """Whatever has happened: when the server does its part, every request ends."""
        self._run_dry()
        if self.echoes:
            assert sorted(self.desk.settled) == sorted(self.desk.tasks)  # nobody had to wait long
        for _ in self.desk.tasks:
            self._run_dry()
            self.desk.now_s += STALE_S
            self.desk.arbiter.advance(self.desk.now_s)
        assert sorted(self.desk.settled) == sorted(self.desk.tasks)
        assert self.desk.arbiter.waiting == 0
        for name, task in self.desk.tasks.items():
            assert task.error is None, name
            assert isinstance(task.response, ev.Response)

    def _run_dry(self) -> None:
        while self.to_client or self.read < len(self.desk.sent) or self.active:
            if self.read < len(self.desk.sent):
                self.take_request()
            elif self.to_client:
                self.hear()
            else:
                self.finish(0)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
