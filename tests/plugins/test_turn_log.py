"""Turns and their times, on sequences of happenings with given times."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_bus import events as ev
from realtime_bus_plugins._turns import TurnCompleted, TurnLog


def response(status: str = "completed", *, calls: bool = False, **fields: Any) -> ev.Response:
    """Return a finished response."""
    call = ev.FunctionCallItem(id="f", name="time", arguments="{}", call_id="c")
    return ev.Response(
        id="r",
        status=status,
        conversation_id="conv",
        output=[call] if calls else [],
        **fields,  # type: ignore[arg-type]  # the test knows the fields
    )


CUT = response(
    "cancelled", status_details=ev.StatusDetails(type="cancelled", reason="turn_detected")
)


def answered(log: TurnLog, at_s: float, response_id: str = "r", *, audio_s: float = 2.0) -> None:
    """Let a response say something."""
    log.response_created(response_id, at_s)
    log.audio(response_id, f"item_{response_id}", audio_s / 2, at_s)
    log.audio(response_id, f"item_{response_id}", audio_s / 2, at_s + 0.1)
    log.response_done(response_id, response(), at_s + 0.2)


def only(turns: list[TurnCompleted]) -> TurnCompleted:
    """Return the one turn."""
    [turn] = turns
    return turn


def test_a_spoken_turn_has_its_times() -> None:
    """From the end of speech to the first audio, to its being heard, until it was played."""
    log = TurnLog()
    log.input_ended("speech", 10.0, "u")
    answered(log, 10.5)
    log.heard("r", 10.75)
    log.heard("r", 11.0)
    assert log.next_end_s() == pytest.approx(12.75)
    assert log.settle(12.5) == []
    turn = only(log.settle(12.75))
    assert (turn.origin, turn.item_id, turn.response_ids) == ("speech", "u", ["r"])
    assert turn.first_audio_s == pytest.approx(0.5)
    assert turn.audio_to_heard_s == pytest.approx(0.25)
    assert turn.heard_s == pytest.approx(0.75)
    assert (turn.interrupted, turn.status, turn.tool_round_trips) == (False, "completed", 0)
    assert log.settle(99.0) == []
    assert log.next_end_s() is None


def test_audio_plays_from_its_arrival_if_nobody_says_when() -> None:
    """Without a sink's word the turn is over when its audio would have been played."""
    log = TurnLog()
    log.input_ended("speech", 0.0)
    answered(log, 1.0)
    assert log.next_end_s() == pytest.approx(3.0)
    turn = only(log.settle(3.0))
    assert (turn.heard_s, turn.audio_to_heard_s) == (None, None)


def test_a_written_turn_ends_with_its_response() -> None:
    """Nothing plays, so nothing is waited for."""
    log = TurnLog()
    log.input_ended("text", 1.0, "u")
    log.asked(1.1)
    log.response_created("r", 1.2)
    log.text("r", 1.5)
    log.text("r", 1.75)
    assert log.settle(1.8) == []
    log.response_done("r", response(), 2.0)
    turn = only(log.settle(2.0))
    assert (turn.origin, turn.first_text_s, turn.first_audio_s) == ("text", 0.5, None)


def test_an_interruption_ends_a_turn() -> None:
    """It is interrupted, and over as soon as its response is done; late audio counts nothing."""
    log = TurnLog()
    log.input_ended("speech", 0.0)
    log.response_created("r", 0.5)
    log.audio("r", "a", 5.0, 0.5)
    log.interrupted({"a": 0.5, "jingle": 1.0}, 0.002, 1.0)
    log.audio("r", "a", 5.0, 1.1)
    assert log.settle(1.1) == []
    log.response_done("r", CUT, 1.2)
    turn = only(log.settle(1.2))
    assert (turn.interrupted, turn.barge_in_latency_s, turn.status) == (True, 0.002, "cancelled")
    assert (turn.generated_audio_s, turn.heard_audio_s) == (10.0, 4.5)


def test_what_was_heard_of_an_answer() -> None:
    """All of it, what was played until the session ended, or nobody knows."""
    log = TurnLog()
    for number, heard in enumerate((True, False)):
        log.input_ended("speech", 10.0 * number)
        answered(log, 10.0 * number, f"r{number}", audio_s=4.0)
        if heard:
            log.heard(f"r{number}", 10.0 * number)
    played, unknown = log.settle(50.0)
    assert (played.generated_audio_s, played.heard_audio_s) == (4.0, 4.0)
    assert (unknown.generated_audio_s, unknown.heard_audio_s) == (4.0, None)
    log.input_ended("speech", 60.0)
    answered(log, 60.0, "r3", audio_s=4.0)
    log.heard("r3", 60.0)
    assert only(log.close(61.0)).heard_audio_s == 1.0


def test_an_interruption_after_the_end_of_generation() -> None:
    """The response is long done, and its turn still open: it plays."""
    log = TurnLog()
    log.input_ended("speech", 0.0)
    answered(log, 0.5, audio_s=10.0)
    assert log.settle(2.0) == []
    log.interrupted({"item_r": 0.0}, 0.001, 2.0)
    assert only(log.settle(2.0)).interrupted


def test_a_server_that_cancels_for_speech_says_so() -> None:
    """Without anybody who plays, the response's end tells of the interruption."""
    log = TurnLog()
    log.input_ended("speech", 0.0)
    log.response_created("r", 0.5)
    log.audio("r", "a", 5.0, 0.5)
    log.response_done("r", CUT, 1.0)
    turn = only(log.settle(1.0))
    assert (turn.interrupted, turn.barge_in_latency_s) == (True, None)


def test_a_response_killed_before_it_was_seen() -> None:
    """It counts for the turn that waits for it, if it is the conversation's."""
    log = TurnLog()
    log.input_ended("speech", 0.0)
    log.response_done("other", response(), 0.5)
    log.response_done("r", CUT, 0.6, in_conversation=True)
    assert only(log.settle(0.6)).response_ids == ["r"]


def test_tool_calls_are_part_of_the_turn() -> None:
    """The answer after the tools' outputs is the same turn's; tokens add up."""
    usage = ev.Usage(
        total_tokens=10, input_tokens=10, input_token_details=ev.InputTokenDetails(text_tokens=10)
    )
    more = ev.Usage(
        total_tokens=5,
        input_tokens=4,
        output_tokens=1,
        input_token_details=ev.InputTokenDetails(text_tokens=3, audio_tokens=1),
    )
    log = TurnLog()
    log.input_ended("speech", 0.0)
    log.response_created("r1", 0.1)
    log.response_done("r1", response(calls=True, usage=usage), 0.2)
    assert log.settle(5.0) == []
    log.asked(5.0)
    log.response_created("r2", 5.1)
    log.response_done("r2", response(usage=more), 5.2)
    turn = only(log.settle(5.2))
    assert (turn.response_ids, turn.tool_round_trips) == (["r1", "r2"], 1)
    assert turn.usage == ev.Usage(
        total_tokens=15,
        input_tokens=14,
        output_tokens=1,
        input_token_details=ev.InputTokenDetails(text_tokens=13, audio_tokens=1),
    )


def test_calls_that_nobody_answers_hold_no_turn_open() -> None:
    """The next turn's beginning ends the wait, whichever comes first."""
    log = TurnLog()
    log.input_ended("text", 0.0)
    log.response_created("r1", 0.1)
    log.response_done("r1", response(calls=True), 0.2)
    log.input_ended("text", 1.0)
    assert only(log.settle(1.0)).response_ids == ["r1"]
    log.response_created("r2", 1.1)
    log.input_ended("text", 1.2)
    log.response_done("r2", response(calls=True), 1.3)
    assert only(log.settle(1.3)).response_ids == ["r2"]


def test_a_request_of_ones_own_is_a_turn() -> None:
    """A greeting is asked for by nobody's input; it counts from the request."""
    log = TurnLog()
    log.asked(3.0)
    log.response_created("r", 3.5)
    log.audio("r", "a", 0.1, 3.75)
    log.response_done("r", response(), 4.0)
    turn = only(log.settle(4.0))
    assert (turn.origin, turn.first_audio_s) == ("request", 0.75)


def test_a_response_that_nobody_asked_for() -> None:
    """It makes a turn of its own, from its beginning."""
    log = TurnLog()
    log.response_created("r", 3.0)
    log.response_done("r", response(), 4.0)
    assert only(log.settle(4.0)).origin == "request"


def test_a_commit_by_hand() -> None:
    """It counts from the commit; the item's id comes later."""
    log = TurnLog()
    log.input_ended("commit", 1.0)
    log.asked(1.0)
    log.committed("u")
    log.committed("other")
    log.response_created("r", 1.5)
    log.response_done("r", response(), 2.0)
    turn = only(log.settle(2.0))
    assert (turn.origin, turn.item_id) == ("commit", "u")


def test_the_last_input_counts() -> None:
    """Turns without any response are forgotten: of several messages, the last one counts."""
    log = TurnLog()
    for number in range(3):
        log.input_ended("text", float(number), f"u{number}")
    log.response_created("r", 3.0)
    log.response_done("r", response(), 4.0)
    turn = only(log.close(9.0))
    assert turn.item_id == "u2"
    log.input_ended("text", 5.0)
    assert log.close(9.0) == []


def test_turns_may_overlap() -> None:
    """While one still plays, the next may begin and be over first."""
    log = TurnLog()
    log.input_ended("speech", 0.0, "u1")
    answered(log, 0.5, audio_s=10.0)
    log.input_ended("text", 1.0, "u2")
    log.response_created("r2", 1.1)
    log.response_done("r2", response(), 1.2)
    assert only(log.settle(1.2)).item_id == "u2"
    assert only(log.settle(11.0)).item_id == "u1"


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_server_that_plays_by_itself(interrupted: bool) -> None:
    """In calls the server tells when it plays and when it stops."""
    log = TurnLog()
    log.input_ended("speech", 0.0)
    log.response_created("r", 0.1)
    log.plays("r", 0.5)
    log.response_done("r", response(), 0.6)
    assert log.next_end_s() is None
    assert log.settle(100.0) == []
    log.silenced("r", 101.0, interrupted=interrupted)
    turn = only(log.settle(101.0))
    assert (turn.heard_s, turn.interrupted) == (0.5, interrupted)


def test_what_is_not_known_is_ignored() -> None:
    """Responses out of band are in no turn."""
    log = TurnLog()
    log.audio("x", "a", 1.0, 0.0)
    log.text("x", 0.0)
    log.heard("x", 0.0)
    log.plays("x", 0.0)
    log.silenced("x", 0.0, interrupted=True)
    log.response_done("x", response(), 0.0)
    log.interrupted({"a": 0.0}, 0.0, 0.0)
    log.committed("u")
    assert log.close(9.0) == []


def test_memory_is_bounded() -> None:
    """Turns whose responses never end are given up after a while."""
    log = TurnLog()
    for number in range(40):
        log.input_ended("speech", 0.0)
        log.response_created(str(number), 0.0)
    assert [turn.response_ids for turn in log.settle(0.0)] == [[str(n)] for n in range(8)]
