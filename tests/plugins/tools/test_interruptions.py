"""What becomes of calls whose response was cut off: no call stays open."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus_plugins.tools import Tools

from ._model import Model, call, model_with

pytestmark = pytest.mark.anyio


class Oven:
    """A tool that takes until it is told, in two kinds."""

    def __init__(self, **options: Any) -> None:
        self.tools = Tools(**options)
        self.hot = anyio.Event()
        self.started = anyio.Event()
        self.tools.tool(self.bake)
        self.tools.tool(name="broil", on_interrupt="cancel")(self.bake)

    async def bake(self) -> str:
        """Bake."""
        self.started.set()
        await self.hot.wait()
        return "baked"


async def settle(model: Model) -> None:
    """Let a later round pass: whatever was to be sent before has been sent then."""
    creates = model.creates
    model.respond(call("last", "no_such_tool"), response_id="last")
    await model.until(lambda: model.creates > creates)


async def test_a_running_call_is_delivered_without_going_on() -> None:
    """By default it finishes, the model gets its output, and nobody asks for a response."""
    oven = Oven()
    async with model_with(oven.tools) as (_, model):
        item = call("c", "bake")
        model.created()
        model.item_done(item)
        await oven.started.wait()
        model.done(item, status="cancelled")
        oven.hot.set()
        await model.until(lambda: model.outputs == [("c", "baked")])
        await settle(model)
        assert model.order() == ["c", "last", "create"]


async def test_a_running_call_is_cancelled_where_it_should_be() -> None:
    """on_interrupt="cancel" stops the tool and says so; the call is closed."""
    oven = Oven()
    async with model_with(oven.tools) as (_, model):
        item = call("c", "broil")
        model.created()
        model.item_done(item)
        await oven.started.wait()
        model.done(item, status="cancelled")
        await model.until(lambda: len(model.outputs) == 1)
        assert model.error("c") == {
            "type": "interrupted",
            "message": "broil was stopped: the response was interrupted",
        }
        await settle(model)
        assert model.order() == ["c", "last", "create"]
    assert [figures.interrupted for figures in oven.tools.statistics()] == [0, 1]


async def test_a_call_that_is_interrupted_before_its_first_step_does_nothing() -> None:
    """Events that come at once: the tool does not begin."""
    oven = Oven()
    async with model_with(oven.tools) as (_, model):
        item = call("c", "broil")
        model.respond(item, status="cancelled")
        await model.until(lambda: len(model.outputs) == 1)
        assert model.error("c")["type"] == "interrupted"
    assert not oven.started.is_set()


@pytest.mark.breaks_rules("output-for-known-call")
@pytest.mark.parametrize("status", ["cancelled", "failed"])
async def test_calls_of_an_aborted_response_do_not_start(status: Any) -> None:
    """Those heard of at the end, and those that wait for their turn, are answered unrun."""
    oven = Oven(max_parallel=1)
    async with model_with(oven.tools) as (_, model):
        model.created()
        model.item_done(call("a", "bake"), call("b", "bake"))
        model.done(call("c", "bake"), status=status)
        assert [model.error(name)["type"] for name in ("b", "c")] == ["cancelled", "cancelled"]
        assert "interrupted before the call began" in model.error("b")["message"]
        oven.hot.set()
        await model.until(lambda: ("a", "baked") in model.outputs)
        await settle(model)
        assert model.creates == 1, "the last round's alone"
    assert oven.tools.statistics()[0].not_run == 2


@pytest.mark.parametrize("status", ["incomplete", "cancelled", "failed", "completed"])
async def test_incomplete_arguments_are_never_run(status: Any) -> None:
    """A call that was cut off is answered as such, even if its arguments can be read."""
    oven = Oven()
    async with model_with(oven.tools) as (_, model):
        item = call("c", "bake", "{}", status="incomplete")
        model.respond(item, status=status)
        assert model.error("c")["type"] == "cut_off"
        assert model.creates == (1 if status == "completed" else 0)
    assert not oven.started.is_set()


@pytest.mark.parametrize("status", ["cancelled", "failed", "incomplete"])
async def test_a_call_without_status_waits_for_the_end(status: Any) -> None:
    """Where the server does not say that a call is complete, only a completed response does."""
    oven = Oven()
    async with model_with(oven.tools) as (_, model):
        item = call("c", "bake", "", status=None)
        model.created()
        model.item_done(item)
        assert model.outputs == []
        model.done(item, status=status)
        assert model.error("c")["type"] == ("cut_off" if status == "incomplete" else "cancelled")
    assert not oven.started.is_set()


async def test_a_complete_call_of_an_incomplete_response_counts() -> None:
    """The model hit its limit after one whole call: that one is run, and the model goes on."""
    oven = Oven()
    oven.hot.set()
    async with model_with(oven.tools) as (_, model):
        model.respond(
            call("a", "bake"), call("b", "bake", '{"x', status="incomplete"), status="incomplete"
        )
        await model.until(lambda: model.creates == 1)
        assert model.output("a") == "baked"
        assert model.error("b")["type"] == "cut_off"


@pytest.mark.breaks_rules("one-active-response")
async def test_a_response_whose_end_never_comes_holds_up_nobody() -> None:
    """The next response ends it: its calls are answered, and the model goes on already."""
    oven = Oven()
    async with model_with(oven.tools) as (_, model):
        model.created("lost")
        model.item_done(call("a", "bake"), call("b", "bake", status=None), response_id="lost")
        await oven.started.wait()
        model.created("next")
        assert model.error("b")["type"] == "cancelled"
        oven.hot.set()
        await model.until(lambda: ("a", "baked") in model.outputs)
        model.done(response_id="next")
        await settle(model)
        assert model.creates == 1, "the last round's alone"
