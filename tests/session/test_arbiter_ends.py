"""The arbiter's rules about ends: of responses, of requests, of the session."""

from __future__ import annotations

import pytest

from realtime_bus import CloseInfo, RequestRejected, SessionClosed
from realtime_bus.session._arbiter import STALE_S

from ._arbitration import RACE, Desk


@pytest.fixture
def desk() -> Desk:
    """Start with an arbiter that has nothing to do."""
    return Desk()


def test_done_without_created(desk: Desk) -> None:
    """Rule 5: a response whose start was never seen ends its request all the same."""
    desk.ask("a")
    desk.ask("b")
    desk.done("r1", "a")
    assert (desk.settled, desk.tasks["a"].response_id) == (["a"], "r1")
    assert desk.sent == ["a", "b"]


def test_done_twice_is_done_once(desk: Desk) -> None:
    """Rule 5: a second ``done`` of a response is not taken for another request's."""
    desk.ask("a")
    desk.created("r1", "a")
    desk.done("r1", "a")
    desk.ask("b")
    desk.done("r1", echoes=False)
    assert desk.settled == ["a"]


def test_a_done_that_never_comes_wedges_nobody(desk: Desk) -> None:
    """Rule 5: without signs of life an active response counts as ended after a while."""
    desk.ask("a")
    desk.created("r1", "a")
    desk.ask("b")
    assert desk.arbiter.next_deadline_s() == STALE_S
    desk.now_s = STALE_S - 1
    desk.arbiter.signs_of_life("r1", desk.now_s)
    desk.arbiter.signs_of_life("other", STALE_S * 9)
    desk.now_s = STALE_S
    desk.arbiter.advance(desk.now_s)
    assert desk.sent == ["a"]
    desk.now_s = 2 * STALE_S
    desk.arbiter.advance(desk.now_s)
    assert desk.sent == ["a", "b"]
    assert desk.arbiter.next_deadline_s() is None
    desk.done("r1", "a")
    assert desk.settled == ["a"]


def test_a_response_of_which_anything_comes_is_alive(desk: Desk) -> None:
    """Rule 6: only silence lets the next one ask, and what is active stays so until it is told."""
    desk.ask("a")
    desk.created("r1", "a")
    desk.now_s = 3 * STALE_S
    desk.ask("b")  # from now on somebody looks
    for _ in range(5):
        desk.now_s += STALE_S - 1
        desk.arbiter.signs_of_life("r1", desk.now_s)
        desk.arbiter.advance(desk.now_s)
    assert desk.sent == ["a"]
    desk.now_s += STALE_S
    desk.arbiter.advance(desk.now_s)
    assert (desk.sent, desk.arbiter.active_id) == (["a", "b"], "r1")
    desk.ask("c")
    desk.error("b")
    desk.now_s += STALE_S - 1
    desk.arbiter.advance(desk.now_s)
    assert desk.sent == ["a", "b"]
    desk.done("r1", "a")
    assert (desk.sent, desk.settled) == (["a", "b", "b"], ["a"])


def test_a_response_that_only_seemed_lost_is_waited_for_again(desk: Desk) -> None:
    """Rule 5: if the server says that it is still active, nobody asks again and again."""
    desk.ask("a")
    desk.created("resp_1", "a")
    desk.ask("b")
    desk.now_s = STALE_S
    desk.arbiter.advance(desk.now_s)
    assert desk.sent == ["a", "b"]
    desk.error("b", message="active: resp_1")
    assert desk.sent == ["a", "b"]
    desk.done("resp_1", "a")
    assert desk.sent == ["a", "b", "b"]


def test_a_request_that_nothing_answers_stands_aside(desk: Desk) -> None:
    """Rule 5: the next one has its turn, and a late answer still finds the first."""
    desk.ask("a")
    desk.now_s = STALE_S
    desk.ask("b")
    assert desk.sent == ["a", "b"]
    desk.created("r1", "a")
    assert desk.arbiter.active_id == "r1"
    desk.error("b", message="resp_none")
    desk.done("r1", "a")
    assert desk.settled == ["a"]


def test_a_request_can_be_taken_back(desk: Desk) -> None:
    """Rule 6: one that waits leaves the queue and ends as cancelled; one that is sent stays."""
    desk.ask("a")
    desk.ask("b")
    assert desk.arbiter.withdraw(desk.tasks["b"])
    assert not desk.arbiter.withdraw(desk.tasks["a"])
    ended = desk.tasks["b"].response
    assert ended is not None
    assert (ended.status, desk.settled) == ("cancelled", ["b"])
    desk.done("r1", "a")
    assert desk.sent == ["a"]


def test_an_unwanted_request_is_cancelled_when_it_is_created(desk: Desk) -> None:
    """Rule 6: what could not be taken back is cancelled at the first chance."""
    desk.ask("a").unwanted = True
    desk.created("r1", "a")
    assert desk.cancelled == ["r1"]


def test_an_unwanted_request_that_loses_a_race_is_not_sent_again(desk: Desk) -> None:
    """Rule 6: a lost race ends it, and the next one has its turn."""
    desk.ask("a").unwanted = True
    desk.ask("b")
    desk.created("own")
    desk.error("a")
    desk.done("own")
    assert (desk.settled, desk.sent) == (["a"], ["a", "b"])


def test_making_way(desk: Desk) -> None:
    """What is active is cancelled once; what is only asked for, as soon as it is created."""
    desk.arbiter.make_way()
    desk.ask("a")
    desk.arbiter.make_way()
    desk.created("r1", "a")
    assert desk.cancelled == ["r1"]
    desk.created("own")
    desk.arbiter.make_way()
    desk.arbiter.make_way()
    assert desk.cancelled == ["r1", "own"]


@pytest.mark.parametrize("band", ["auto", "none"])
def test_a_refusal_is_final(desk: Desk, band: str) -> None:
    """Rule 7: any error but a lost race fails the request, and the next one has its turn."""
    desk.ask("a", conversation=band)
    desk.ask("b")
    desk.error("a", code="invalid_value")
    assert isinstance(desk.tasks["a"].error, RequestRejected)
    assert desk.sent == ["a", "b"]


def test_a_refusal_without_an_event_id(desk: Desk) -> None:
    """Rule 7: code and param say that a request for a response is meant; the oldest it is."""
    desk.ask("a")
    desk.error(None, code="invalid_value", param="response.instructions")
    assert desk.settled == ["a"]


def test_errors_about_other_things_are_left_alone(desk: Desk) -> None:
    """An error of another request changes nothing here."""
    desk.ask("a")
    desk.error("other")
    desk.error("other", code="invalid_value")
    desk.error(None, code="invalid_value", param="session.audio")
    assert desk.settled == []
    desk.created("r1", "a")
    desk.error("a", code="server_error")
    assert desk.settled == []


def test_an_out_of_band_request_does_not_race(desk: Desk) -> None:
    """Rule 7: even that error code is final for a request out of band."""
    desk.ask("x", conversation="none")
    desk.error("x", code=RACE)
    assert isinstance(desk.tasks["x"].error, RequestRejected)


@pytest.mark.parametrize("band", ["auto", "none"])
def test_what_cannot_be_sent_fails(desk: Desk, band: str) -> None:
    """Rule 7: whatever keeps a request from being sent is its outcome, and wedges nobody."""
    desk.refuse = PermissionError("not today")
    task = desk.ask("a", conversation=band)
    assert task.error is desk.refuse
    desk.refuse = None
    desk.ask("b")
    assert desk.sent == ["b"]


def test_the_end_fails_all(desk: Desk) -> None:
    """Queued, sent, stale, active and out-of-band requests all fail with the session."""
    desk.ask("stale")
    desk.now_s = STALE_S
    desk.ask("a")
    desk.created("r1", "a")
    desk.ask("queued")
    desk.ask("x", conversation="none")
    error = SessionClosed("gone", close=CloseInfo())
    desk.arbiter.close(error)
    assert sorted(desk.settled) == ["a", "queued", "stale", "x"]
    assert all(task.error is error for task in desk.tasks.values())
    desk.arbiter.close(error)
    assert len(desk.settled) == 4
