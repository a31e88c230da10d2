"""The arbiter's rules about whose turn it is and which response is whose."""

from __future__ import annotations

import pytest

from realtime_bus.session._arbiter import AT_ONCE, MARK, STALE_S

from ._arbitration import Desk, response


@pytest.fixture
def desk() -> Desk:
    """Start with an arbiter that has nothing to do."""
    return Desk()


def test_requests_are_sent_one_at_a_time(desk: Desk) -> None:
    """Rule 1: the next request is sent when the response before it is done."""
    desk.ask("a")
    desk.ask("b")
    desk.ask("c")
    assert desk.sent == ["a"]
    desk.created("r1", "a")
    assert (desk.sent, desk.arbiter.active_id) == (["a"], "r1")
    desk.done("r1", "a")
    assert (desk.sent, desk.settled) == (["a", "b"], ["a"])
    assert desk.arbiter.waiting == 1
    assert desk.tasks["a"].response_id == "r1"


def test_out_of_band_requests_are_free(desk: Desk) -> None:
    """Rule 2: out-of-band requests are sent at once, and hold up nobody."""
    desk.ask("a")
    desk.ask("x", conversation="none")
    desk.ask("y", conversation="none")
    assert desk.sent == ["a", "x", "y"]
    desk.created("r2", "y", band=False)
    desk.created("r1", "a")
    desk.created("r3", "x", band=False)
    assert desk.arbiter.active_id == "r1"
    desk.done("r3", "x")
    desk.done("r2", "y")
    assert desk.settled == ["x", "y"]
    assert desk.arbiter.active_id == "r1"
    assert desk.tasks["y"].response_id == "r2"


def test_an_out_of_band_response_of_another_peer_is_not_active(desk: Desk) -> None:
    """Rule 2: a response with metadata and no conversation, not ours, is somebody else's."""
    desk.hear_created(response("r9", metadata={"theirs": "1"}, band=False))
    assert desk.arbiter.active_id is None


def test_a_request_is_recognised_by_its_mark(desk: Desk) -> None:
    """Rule 3: the server's own response in between is not taken for the request's."""
    desk.ask("a")
    desk.created("own")
    assert desk.tasks["a"].response_id is None
    assert desk.arbiter.active_id == "own"


def test_a_request_without_room_for_the_mark(desk: Desk) -> None:
    """Rule 3: sixteen pairs of metadata leave no room, and are a mark themselves."""
    full = {f"k{number}": "v" for number in range(16)}
    task = desk.ask("a", metadata=full)
    assert MARK not in task.metadata
    desk.created("own")
    desk.created("r1", "a")
    assert task.response_id == "r1"


def test_without_echo_the_oldest_is_meant(desk: Desk) -> None:
    """Rule 3: a server that echoes nothing answers in order."""
    desk.ask("x", conversation="none")
    desk.ask("a")
    desk.created("r1", echoes=False, band=False)
    desk.created("r2", echoes=False)
    assert [desk.tasks[name].response_id for name in ("x", "a")] == ["r1", "r2"]
    desk.created("r3", echoes=False)
    assert desk.arbiter.active_id == "r3"


def test_a_server_that_has_echoed_once_echoes(desk: Desk) -> None:
    """Rule 3: after a mark has come back, a response without metadata is the server's own."""
    desk.ask("a")
    desk.created("r1", "a")
    desk.done("r1", "a")
    desk.ask("b")
    desk.created("own", echoes=False)
    assert desk.tasks["b"].response_id is None


def test_a_response_that_was_given_to_the_wrong_request_is_taken_back(desk: Desk) -> None:
    """Rule 3 and 4: a refusal shows that the response taken by order was the server's own."""
    desk.ask("a")
    desk.created("own", echoes=False)
    assert desk.tasks["a"].response_id == "own"
    desk.error("a", message="already has resp_x")
    assert desk.tasks["a"].response_id is None
    desk.done("own", echoes=False)
    assert (desk.sent, desk.settled) == (["a", "a"], [])


def test_a_lost_race_is_tried_again_after_the_winner(desk: Desk) -> None:
    """Rule 4: a request that lost to the server's own response is sent after that one's end."""
    desk.ask("a")
    desk.ask("b")
    desk.created("own")
    desk.error("a", message="Conversation already has an active response: own")
    assert desk.sent == ["a"]
    desk.done("own")
    assert (desk.sent, desk.tasks["a"].retries) == (["a", "a"], 1)
    desk.created("r1", "a")
    desk.done("r1", "a")
    assert (desk.sent, desk.settled) == (["a", "a", "b"], ["a"])


def test_a_lost_race_without_an_event_id(desk: Desk) -> None:
    """Rule 4: a server that leaves the ``event_id`` null means the request on its way."""
    desk.ask("x", conversation="none")
    desk.ask("a")
    desk.created("own")
    desk.error(None)
    desk.done("own")
    assert desk.sent == ["x", "a", "a"]


def test_the_winner_is_known_from_the_message_alone(desk: Desk) -> None:
    """Rule 4: where the winner's ``created`` was not seen, its id is read off the error."""
    desk.ask("a")
    desk.error("a", message="active response resp_Win-1. Wait until it is done")
    assert (desk.sent, desk.arbiter.active_id) == (["a"], "resp_Win-1")
    desk.done("resp_Win-1")
    assert desk.sent == ["a", "a"]


def test_an_unwanted_request_that_lost_leaves_the_winner_active(desk: Desk) -> None:
    """A request given up on loses its race: the next one waits for the winner all the same."""
    desk.ask("first")
    desk.arbiter.make_way()
    desk.ask("second")
    desk.error("first", message="Conversation has an active response: resp_winner. Wait.")
    assert desk.sent == ["first"]
    assert desk.settled == ["first"]
    desk.done("resp_winner")
    assert desk.sent == ["first", "second"]


def test_the_winner_was_done_already(desk: Desk) -> None:
    """Rule 4: if the winner's ``done`` is already there, the request is sent again at once."""
    desk.ask("a")
    desk.created("resp_win")
    desk.done("resp_win")
    desk.error("a", message="already has an active response resp_win")
    assert desk.sent == ["a", "a"]


def test_a_server_that_refuses_for_ever_is_not_flooded(desk: Desk) -> None:
    """Rule 4: after some tries at once, the next waits for a ``done`` or for the long wait."""
    desk.ask("a")
    for _ in range(AT_ONCE + 1):
        desk.error("a")
    assert len(desk.sent) == AT_ONCE + 1
    assert desk.arbiter.waiting == 1
    desk.done("whatever")
    assert len(desk.sent) == AT_ONCE + 2
    desk.error("a")
    desk.now_s += STALE_S
    desk.arbiter.advance(desk.now_s)
    assert len(desk.sent) == AT_ONCE + 3


def test_an_unknown_winner_that_shows_itself(desk: Desk) -> None:
    """Rule 4: when what is in the way is created after all, its end is waited for."""
    desk.ask("a")
    for _ in range(AT_ONCE + 1):
        desk.error("a")
    desk.created("own")
    assert desk.arbiter.active_id == "own"
    desk.done("own")
    assert len(desk.sent) == AT_ONCE + 2
