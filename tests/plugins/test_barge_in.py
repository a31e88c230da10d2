"""What an interruption tells the server: the decisions, without a session."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus import ConversationState
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, bytes_per_ms
from realtime_bus.events import AudioFormat, AudioPCMA, AudioPCMU
from realtime_bus_plugins._barge_in import BargeIn, Cut, Verdict


class Server:
    """Shows a machine what a server would send, as a session does."""

    def __init__(self, conversation: ConversationState, machine: BargeIn) -> None:
        self.conversation = conversation
        self.machine = machine
        self.first: list[str] = []
        """The items whose first audio was delivered."""

    def see(self, event: ev.ServerEvent) -> None:
        """Send an event that the conversation is known by."""
        self.conversation.see(event)

    def formats(self, audio_format: AudioFormat) -> None:
        """Change the session's output format."""
        audio = ev.AudioConfig(output=ev.AudioOutputConfig(format=audio_format))
        self.see(ev.SessionUpdated(session=ev.RealtimeSession(audio=audio)))

    def response(
        self, response_id: str = "r", *, conversation_id: str | None = "conv", **fields: Any
    ) -> None:
        """Start a response."""
        response = ev.Response(id=response_id, conversation_id=conversation_id, **fields)
        self.see(ev.ResponseCreated(response=response))

    def item(self, item_id: str = "a", response_id: str = "r", *, known: bool = True) -> None:
        """Start an assistant's item, in the conversation or out of band."""
        item = ev.MessageItem(id=item_id, role="assistant", content=[])
        self.see(ev.ResponseOutputItemAdded(response_id=response_id, output_index=0, item=item))
        if known:
            self.see(ev.ConversationItemAdded(item=item))

    def audio(self, duration_ms: int, item_id: str = "a", response_id: str = "r") -> Verdict:
        """Send audio, which reaches the handlers unless it is late."""
        length = duration_ms * bytes_per_ms(self.conversation.audio_format_of(response_id))
        return self.deliver(delta(bytes(length), item_id, response_id))

    def deliver(self, event: Any) -> Verdict:
        """Send a delta, which reaches the handlers unless it is late."""
        verdict = self.machine.received(event)
        if not verdict.late and self.machine.delivered(event):
            self.first.append(event.item_id)
        return verdict

    def audio_done(self, item_id: str = "a", response_id: str = "r") -> None:
        """Say that the item's audio is complete."""
        self.machine.ended(
            ev.ResponseOutputAudioDone(
                response_id=response_id, item_id=item_id, output_index=0, content_index=0
            )
        )

    def done(self, response_id: str = "r", status: str | None = None) -> None:
        """End a response."""
        self.see(ev.ResponseDone(response=ev.Response(id=response_id, status=status)))

    def speak(self, duration_ms: int, item_id: str = "a", response_id: str = "r") -> None:
        """Send all of a response of one item with audio."""
        self.response(response_id)
        self.item(item_id, response_id)
        self.audio(duration_ms, item_id, response_id)
        self.audio_done(item_id, response_id)
        self.done(response_id)


def delta(audio: bytes, item_id: str = "a", response_id: str = "r") -> Any:
    """Return a delta with audio."""
    return ev.ResponseOutputAudioDelta(
        response_id=response_id, item_id=item_id, output_index=0, content_index=0, delta=audio
    )


def interrupt(machine: BargeIn, played: list[PlayedItem] | None, *, server_cancels: bool) -> Cut:
    """Take both steps of an interruption."""
    machine.silence()
    return machine.cut(played, server_cancels=server_cancels)


@pytest.fixture
def conversation() -> ConversationState:
    """Return a view of a conversation that has not begun."""
    return ConversationState()


@pytest.fixture
def machine(conversation: ConversationState) -> BargeIn:
    """Return a machine that has seen nothing."""
    return BargeIn(conversation)


@pytest.fixture
def server(conversation: ConversationState, machine: BargeIn) -> Server:
    """Return a server that the machine listens to."""
    return Server(conversation, machine)


def played(item_id: str, played_ms: int, written_ms: int) -> PlayedItem:
    """Return a sink's word on an item."""
    return PlayedItem(item_id=item_id, played_ms=played_ms, written_ms=written_ms)


def truncate(item_id: str, audio_end_ms: int) -> ev.ConversationItemTruncate:
    """Return the event that cuts an item."""
    return ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=audio_end_ms)


def test_the_audible_item_is_truncated_at_what_was_heard(machine: BargeIn, server: Server) -> None:
    """While the server speaks, the item is cut where the listener was, and nothing is cancelled."""
    server.response()
    server.item()
    server.audio(2000)
    cut = interrupt(machine, [played("a", 700, 2000)], server_cancels=True)
    assert cut.send == [truncate("a", 700)]
    assert [msgspec.to_builtins(item) for item in cut.items] == [
        {
            "item_id": "a",
            "content_index": 0,
            "played_ms": 700,
            "received_ms": 2000,
            "discarded_ms": 1300,
            "action": "truncated",
        }
    ]


def test_of_two_queued_items_the_first_is_truncated_and_the_second_deleted(
    machine: BargeIn, server: Server
) -> None:
    """What was queued and never heard leaves the conversation."""
    server.speak(1000, "a", "r1")
    server.speak(500, "b", "r2")
    cut = interrupt(machine, [played("a", 300, 1000), played("b", 0, 500)], server_cancels=True)
    assert cut.send == [truncate("a", 300), ev.ConversationItemDelete(item_id="b")]
    assert [item.action for item in cut.items] == ["truncated", "deleted"]


def test_an_interruption_before_the_first_sample_deletes(machine: BargeIn, server: Server) -> None:
    """Nothing heard means no truncation, which would be refused, but a deletion."""
    server.response()
    server.item()
    server.audio(1000)
    cut = interrupt(machine, [played("a", 0, 1000)], server_cancels=True)
    assert cut.send == [ev.ConversationItemDelete(item_id="a")]


def test_a_finished_response_that_still_plays_is_truncated_without_a_cancel(
    machine: BargeIn, server: Server
) -> None:
    """Speaking means playing: the response is done, the item is cut all the same."""
    server.speak(3000)
    cut = interrupt(machine, [played("a", 1234, 3000)], server_cancels=False)
    assert cut.send == [truncate("a", 1234)]


def test_where_the_server_does_not_cancel_we_do_by_id_and_first(
    machine: BargeIn, server: Server
) -> None:
    """With interrupt_response false the active response is cancelled, then the item cut."""
    server.response()
    server.item()
    server.audio(1000)
    cut = interrupt(machine, [played("a", 100, 1000)], server_cancels=False)
    assert cut.send == [ev.ResponseCancel(response_id="r"), truncate("a", 100)]


def test_a_second_interruption_does_nothing(machine: BargeIn, server: Server) -> None:
    """Until something new is heard or generated there is nothing more to say."""
    server.response()
    server.item()
    server.audio(1000)
    interrupt(machine, [played("a", 100, 1000)], server_cancels=False)
    cut = interrupt(machine, [], server_cancels=False)
    assert (cut.items, cut.send) == ([], [])


def test_late_audio_of_an_interrupted_response_is_dropped(machine: BargeIn, server: Server) -> None:
    """What the server had already sent when it heard the person is not played."""
    server.response()
    server.item()
    assert server.audio(1000) == Verdict()
    assert server.audio(1000) == Verdict()
    assert server.first == ["a"]
    interrupt(machine, [played("a", 100, 2000)], server_cancels=True)
    assert server.audio(1000) == Verdict(late=True)
    assert machine.is_late("r")


def test_what_comes_after_a_cancel_is_late(machine: BargeIn, server: Server) -> None:
    """The application has cancelled: what was received plays on, and nothing behind its end.

    A response that was completed may still send what it likes.
    """
    for response_id, item_id, status in (("r", "a", "cancelled"), ("s", "b", "completed")):
        server.response(response_id)
        server.item(item_id, response_id)
        server.audio(100, item_id, response_id)
        server.done(response_id, status)
        assert server.audio(100, item_id, response_id).late == (status == "cancelled")
    cut = interrupt(machine, [played("a", 100, 100)], server_cancels=True)
    assert [item.received_ms for item in cut.items if item.item_id == "a"] == [100]


def test_the_next_response_is_heard(machine: BargeIn, server: Server) -> None:
    """A response that was created after the interruption belongs to the new generation."""
    server.response("old")
    interrupt(machine, [], server_cancels=True)
    server.response("new")
    server.item("b", "new")
    assert server.audio(100, "b", "new") == Verdict()
    assert server.first == ["b"]
    assert not machine.is_late("new")
    assert machine.is_late("old")


def test_a_response_that_has_not_spoken_yet_is_silenced_without_a_truncation(
    machine: BargeIn, server: Server
) -> None:
    """Nothing plays, but a response is being made: its audio is late, and nothing is sent."""
    server.response()
    cut = interrupt(machine, [], server_cancels=True)
    assert (cut.items, cut.send) == ([], [])
    server.item(known=False)
    assert server.audio(100) == Verdict(late=True)


def test_an_item_of_which_only_late_audio_came_is_deleted_once(
    machine: BargeIn, server: Server
) -> None:
    """The model must not believe that it said what nobody heard."""
    server.response()
    server.item()
    interrupt(machine, [], server_cancels=True)
    assert server.audio(100) == Verdict(late=True, send=[ev.ConversationItemDelete(item_id="a")])
    assert server.audio(100) == Verdict(late=True)


def test_out_of_band_audio_is_silenced_and_nothing_is_sent_about_it(
    machine: BargeIn, server: Server
) -> None:
    """Out-of-band items can be neither truncated nor deleted, and nobody cancels them."""
    server.response(conversation_id=None, metadata={"for": "a summary"})
    server.item(known=False)
    server.audio(1000)
    cut = interrupt(machine, [played("a", 500, 1000)], server_cancels=False)
    assert cut.send == []
    assert [item.action for item in cut.items] == ["left"]
    assert server.audio(1000) == Verdict(late=True)


def test_a_server_that_names_no_conversation_is_judged_by_its_items(
    machine: BargeIn, server: Server
) -> None:
    """An item that the conversation has makes its response one of the conversation."""
    server.response(conversation_id=None)
    server.item()
    server.audio(1000)
    cut = interrupt(machine, [played("a", 500, 1000)], server_cancels=False)
    assert cut.send == [ev.ResponseCancel(response_id="r"), truncate("a", 500)]


def test_an_item_that_the_conversation_has_not_shown_is_truncated_but_never_deleted(
    machine: BargeIn, server: Server
) -> None:
    """With the response known, audio proves that the item exists; deletion needs more."""
    server.response()
    server.item("a", known=False)
    server.audio(1000)
    server.item("b", known=False)
    server.audio(1000, "b")
    cut = interrupt(machine, [played("a", 500, 1000), played("b", 0, 1000)], server_cancels=True)
    assert cut.send == [truncate("a", 500)]
    assert [item.action for item in cut.items] == ["truncated", "left"]


def test_a_response_without_a_created_event_counts_from_its_first_audio(
    machine: BargeIn, server: Server
) -> None:
    """Some servers leave response.created out."""
    server.item()
    server.audio(1000)
    cut = interrupt(machine, [played("a", 10, 1000)], server_cancels=False)
    assert cut.send == [ev.ResponseCancel(response_id="r"), truncate("a", 10)]


def test_an_item_heard_to_its_end_is_left_alone(machine: BargeIn, server: Server) -> None:
    """The person waited until the last sample: nothing is missing."""
    server.speak(1000)
    assert interrupt(machine, [], server_cancels=True).items == []
    server.speak(1000, "b", "r2")
    cut = interrupt(machine, [played("b", 1000, 1000)], server_cancels=True)
    assert cut.send == []


def test_an_unfinished_item_that_ran_dry_is_truncated_at_what_came(
    machine: BargeIn, server: Server
) -> None:
    """The sink has played all it had, but the server had more: it must know where we stopped."""
    server.response()
    server.item()
    server.audio(800)
    cut = interrupt(machine, [], server_cancels=True)
    assert cut.send == [truncate("a", 800)]
    assert interrupt(machine, [], server_cancels=True).send == []


def test_a_cut_never_exceeds_what_was_received(machine: BargeIn, server: Server) -> None:
    """A sink that claims more than the server sent is not believed."""
    server.response()
    server.item()
    server.audio(500)
    cut = interrupt(machine, [played("a", 900, 1000)], server_cancels=True)
    assert cut.send == [truncate("a", 500)]


@pytest.mark.parametrize("audio_format", [AudioPCMU(), AudioPCMA()])
def test_g711_lengths(machine: BargeIn, server: Server, audio_format: AudioFormat) -> None:
    """Eight bytes are a millisecond, and a part of one does not count."""
    server.formats(audio_format)
    server.response()
    server.item()
    server.deliver(delta(bytes(8 * 500 + 7)))
    cut = interrupt(machine, [played("a", 501, 501)], server_cancels=True)
    assert cut.send == [truncate("a", 500)]


def test_an_applications_own_sound_is_left_alone(machine: BargeIn) -> None:
    """What the sink plays and no server sent is none of the server's business."""
    cut = interrupt(machine, [played("beep", 10, 100)], server_cancels=True)
    assert cut.send == []
    assert [item.action for item in cut.items] == ["left"]


@pytest.mark.parametrize(
    "gone",
    [
        ev.ConversationItemDeleted(item_id="a"),
        ev.ConversationItemTruncated(item_id="a", content_index=0, audio_end_ms=10),
    ],
)
def test_an_item_that_is_gone_or_truncated_is_not_cut(
    machine: BargeIn, server: Server, gone: ev.ServerEvent
) -> None:
    """Some servers truncate by themselves, and an application may delete."""
    server.speak(1000)
    server.see(gone)
    assert interrupt(machine, [played("a", 500, 1000)], server_cancels=True).send == []


def test_a_margin_keeps_the_cut_before_the_end(conversation: ConversationState) -> None:
    """A server that counts its audio short does not refuse the truncation."""
    machine = BargeIn(conversation, margin_ms=100)
    server = Server(conversation, machine)
    server.speak(1000)
    cut = interrupt(machine, [played("a", 950, 1000)], server_cancels=True)
    assert cut.send == [truncate("a", 900)]
    assert cut.items[0].played_ms == 950


def test_an_item_is_not_deleted_for_its_second_part(machine: BargeIn, server: Server) -> None:
    """One part was heard, the next was queued: the item stays, cut where it was heard."""
    server.response()
    server.item()
    server.audio(500)
    server.deliver(msgspec.structs.replace(delta(bytes(480)), content_index=1))
    second = PlayedItem(item_id="a", content_index=1, played_ms=0, written_ms=10)
    cut = interrupt(machine, [played("a", 200, 500), second], server_cancels=True)
    assert cut.send == [truncate("a", 200)]


def test_a_function_call_is_never_deleted(machine: BargeIn, server: Server) -> None:
    """Items without audio are not followed."""
    server.response()
    call = ev.FunctionCallItem(id="f", call_id="c", name="n", arguments="")
    server.see(ev.ResponseOutputItemAdded(response_id="r", output_index=0, item=call))
    server.see(ev.ConversationItemAdded(item=call))
    assert interrupt(machine, [], server_cancels=True).send == []


def test_memory_is_bounded(machine: BargeIn, server: Server) -> None:
    """An hour of short replies does not add up."""
    for number in range(1000):
        server.speak(10, f"item{number}", f"resp{number}")
    assert len(machine._items) == 128
    machine.silence()
    assert len(machine._silenced) == 128


@given(st.data())
def test_no_truncation_is_ever_out_of_range(data: st.DataObject) -> None:
    """Whatever the sink reports, each cut is above zero, within what came, and made once."""
    conversation = ConversationState()
    machine = BargeIn(conversation, margin_ms=data.draw(st.sampled_from([0, 85])))
    server = Server(conversation, machine)
    received: dict[str, int] = {}
    sent: list[ev.ClientEvent] = []
    for number in range(data.draw(st.integers(1, 6))):
        item_id, response_id = f"i{number}", f"r{number}"
        received[item_id] = data.draw(st.integers(0, 400))
        server.response(response_id)
        server.item(item_id, response_id)
        server.audio(received[item_id], item_id, response_id)
        if data.draw(st.booleans()):
            server.audio_done(item_id, response_id)
            server.done(response_id)
        if data.draw(st.booleans()):
            reported = [
                played(known, data.draw(st.integers(0, 500)), length)
                for known, length in received.items()
                if data.draw(st.booleans())
            ]
            sent += interrupt(machine, reported, server_cancels=data.draw(st.booleans())).send
            assert interrupt(machine, [], server_cancels=False).items == []
    touched = [event for event in sent if not isinstance(event, ev.ResponseCancel)]
    ids = [getattr(event, "item_id") for event in touched]  # noqa: B009 - of two classes
    assert len(ids) == len(set(ids))
    for event in touched:
        if isinstance(event, ev.ConversationItemTruncate):
            assert 0 < event.audio_end_ms <= received[event.item_id]
