"""The order of items, by random conversations."""

from __future__ import annotations

from time import thread_time

from hypothesis import given
from hypothesis import strategies as st

from realtime_bus.history import Order


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 99)), max_size=60))
def test_inserting_and_deleting_gives_the_servers_list(steps: list[tuple[bool, int]]) -> None:
    """However items are inserted and deleted, the order is that of the server's list."""
    servers: list[str] = []
    order = Order()
    for number, (insert, at) in enumerate(steps):
        if insert or not servers:
            place = at % (len(servers) + 1)
            order.place(str(number), servers[place - 1] if place else None)
            servers.insert(place, str(number))
        else:
            order.delete(servers.pop(at % len(servers)))
    assert list(order) == servers
    assert len(order) == len(servers)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 99)), max_size=60))
def test_ids_that_come_back(steps: list[tuple[bool, int, int]]) -> None:
    """The same few ids, deleted and added again, stand where they were added last."""
    servers: list[str] = []
    order = Order()
    for insert, which, at in steps:
        item_id = str(which)
        if insert and item_id not in servers:
            place = at % (len(servers) + 1)
            order.place(item_id, servers[place - 1] if place else None)
            servers.insert(place, item_id)
        elif item_id in servers:
            order.delete(item_id)
            servers.remove(item_id)
    assert list(order) == servers


@given(st.permutations(range(12)))
def test_a_chain_is_put_together_from_any_order(arrival: list[int]) -> None:
    """Items that follow one another are in that order, however they arrive."""
    order = Order()
    for number in arrival:
        order.place(str(number), str(number - 1) if number else None)
    assert list(order) == [str(number) for number in range(12)]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(-1, 7)), max_size=30))
def test_nothing_is_lost_whatever_the_links(links: list[tuple[int, int]]) -> None:
    """Links to nowhere, to oneself or in circles lose no item and show none twice."""
    order = Order()
    for number, before in links:
        order.place(str(number), None if before < 0 else str(before))
    assert sorted(order) == sorted({str(number) for number, _ in links})


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(-1, 12)), max_size=60))
def test_a_restored_order_is_the_same(steps: list[tuple[bool, int, int]]) -> None:
    """Links and living ids are all that is needed, missing predecessors included."""
    order = Order()
    for add, number, before in steps:
        if add:
            order.place(str(number), None if before < 0 else str(before))
        else:
            order.delete(str(number))
    restored = Order.restore(order.links(), alive=list(order))
    assert list(restored) == list(order)
    assert restored.links() == order.links()
    restored.place("new", "12")
    order.place("new", "12")
    assert list(restored) == list(order)


@given(
    st.lists(st.tuples(st.sampled_from("pad"), st.integers(0, 9), st.integers(0, 9)), max_size=60)
)
def test_what_is_appended_is_last(steps: list[tuple[str, int, int]]) -> None:
    """Whatever was put, deleted and added again before, an item without a link comes last."""
    order = Order()
    for step, (kind, number, at) in enumerate(steps):
        here = [*order]
        if kind == "p":
            order.place(f"{number}", here[at % len(here)] if here else None)
        elif kind == "d":
            order.delete(f"{number}")
        else:
            order.append(f"new {step}")
            assert [*order] == [*here, f"new {step}"]


def test_appending_takes_no_longer_to_a_long_conversation() -> None:
    """A server that never says what an item follows costs the same for each of 16 000 items."""

    def costs_s(count: int) -> float:
        order = Order()
        started_s = thread_time()
        for number in range(count):
            order.append(str(number))
        assert len(order) == count
        return thread_time() - started_s

    few_s = min(costs_s(1000) for _ in range(5))
    assert min(costs_s(16_000) for _ in range(3)) < 16 * 8 * few_s
