"""Tools in a session: calls are run, answered once, and the model goes on once."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio
import anyio.lowlevel
import msgspec
import pytest
import sniffio
import structlog.testing
import trio

from realtime_bus import Bus, RequestRejected, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport
from realtime_bus_plugins.tools import Inject, Tools

from ._model import Model, call, model_with

pytestmark = pytest.mark.anyio


async def test_a_call_is_run_answered_and_followed_by_one_response() -> None:
    """The example of the readme: the output, then one response.create."""
    tools = Tools()

    @tools.tool
    async def set_timer(minutes: float, label: str = "timer") -> str:
        """Start a kitchen timer."""
        return f"{label}: {minutes:g} min"

    async with model_with(tools) as (_, model):
        model.respond(call("c", "set_timer", '{"minutes": 3}'))
        await model.until(lambda: model.creates == 1)
        assert model.outputs == [("c", "timer: 3 min")]
        assert model.order() == ["c", "create"]
    [figures] = tools.statistics()
    assert (figures.tool, figures.succeeded, figures.running) == ("set_timer", 1, 0)
    assert figures.slowest_s == figures.total_s > 0


@pytest.mark.parametrize("last", ["a", "b", "done"])
async def test_calls_run_in_parallel_and_the_model_goes_on_when_all_is_there(last: str) -> None:
    """Two calls run at once; whichever of outputs and response.done is last, one create follows."""
    tools = Tools()
    gates = {"a": anyio.Event(), "b": anyio.Event()}
    both = anyio.Event()
    started: list[str] = []

    @tools.tool
    async def wait_for(gate: str) -> str:
        started.append(gate)
        if len(started) == 2:
            both.set()
        await gates[gate].wait()
        return gate

    calls = [call(name, "wait_for", f'{{"gate": "{name}"}}') for name in ("a", "b")]
    order = [name for name in ("a", "b", "done") if name != last] + [last]
    async with model_with(tools) as (_, model):
        model.created()
        model.item_done(*calls)
        with anyio.fail_after(60):
            await both.wait()
        for step in order:
            assert model.creates == 0
            if step == "done":
                model.done(*calls)
            else:
                gates[step].set()
                await model.until(lambda step=step: (step, step) in model.outputs)  # type: ignore[misc]  # mypy: the default binds
        await model.until(lambda: model.creates == 1)
        assert model.order()[-1] == "create"
        assert sorted(model.outputs) == [("a", "a"), ("b", "b")]


async def test_hearing_of_a_call_again_does_not_run_it_again() -> None:
    """Duplicates of output_item.done and response.done change nothing."""
    tools, runs = Tools(), list[int]()

    @tools.tool
    async def count() -> int:
        runs.append(1)
        return len(runs)

    async with model_with(tools) as (_, model):
        item = call("c", "count")
        model.created()
        model.item_done(item, item)
        model.done(item)
        model.done(item)
        model.item_done(item)
        await model.until(lambda: model.creates == 1)
        model.respond(call("d", "count"), response_id="r2")
        await model.until(lambda: len(model.outputs) == 2)
        assert model.outputs == [("c", "1"), ("d", "2")]


@pytest.mark.breaks_rules("output-for-known-call")
async def test_calls_are_found_in_response_done_alone() -> None:
    """A server that leaves out the item's event is answered all the same, at the end."""
    tools = Tools()

    @tools.tool
    async def ping() -> str:
        return "pong"

    async with model_with(tools) as (_, model):
        model.done(call("c", "ping", status=None))
        await model.until(lambda: model.creates == 1)
        assert model.outputs == [("c", "pong")]


RESULTS: list[tuple[Any, str]] = [
    ("text", "text"),
    ("", ""),
    (None, "null"),
    (7, "7"),
    ({"a": [1, 2]}, '{"a":[1,2]}'),
    (msgspec.json.decode(b'{"x": 1}'), '{"x":1}'),
]


@pytest.mark.parametrize(("result", "output"), RESULTS)
async def test_results_become_text(result: Any, output: str) -> None:
    """A string goes as it is, anything else as JSON."""
    tools = Tools()

    @tools.tool
    async def give() -> Any:
        return result

    async with model_with(tools) as (_, model):
        model.respond(call("c", "give"))
        await model.until(lambda: model.creates == 1)
        assert model.output("c") == output


async def test_a_raising_tool_is_answered_and_reported() -> None:
    """The model gets type and text; handlers get the exception, the log its traceback."""
    tools, failures = Tools(), list[ev.HandlerFailed]()

    @tools.tool
    async def burn() -> None:
        msg = "the oven is cold"
        raise ValueError(msg)

    @tools.tool
    async def odd() -> object:
        return object()

    with structlog.testing.capture_logs() as logs:
        async with model_with(tools) as (session, model):
            session.on(ev.HandlerFailed)(failures.append)
            model.respond(call("c", "burn"), call("d", "odd"))
            await model.until(lambda: model.creates == 1)
            assert model.error("c") == {
                "type": "tool_failed",
                "message": "ValueError: the oven is cold",
            }
            assert model.error("d")["message"].startswith("TypeError: Encoding objects of type")
    reported = {failure.handler: failure.error for failure in failures}
    assert reported.keys() == {"tool burn", "tool odd"}
    assert isinstance(reported["tool burn"], ValueError)
    [burnt] = [line for line in logs if line.get("tool") == "burn"]
    assert burnt["error"] == "ValueError: the oven is cold"
    assert "in burn\n" in burnt["traceback"]
    assert "exc_info" not in burnt, "a renderer would show the local variables"
    assert [figures.failed for figures in tools.statistics()] == [1, 1]


async def _await_something_cancelled() -> None:
    """Raise what awaiting something cancelled raises."""
    if sniffio.current_async_library() == "asyncio":
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
    raise trio.Cancelled._create(source="unknown")


async def _cancel_myself() -> None:
    if sniffio.current_async_library() == "asyncio":
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.lowlevel.checkpoint()
    await _await_something_cancelled()


async def _group_of_cancellations() -> None:
    try:
        await _await_something_cancelled()
    except BaseException as error:  # noqa: BLE001  # a cancellation is none other
        raise BaseExceptionGroup("several", [error]) from None


class UnprintableError(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError


async def _unprintable() -> None:
    raise UnprintableError


async def _half_a_pair() -> str:
    return "\ud83d"


async def _complain_in_half_a_pair() -> None:
    raise ValueError("\ud83d")


ODD_ENDS: list[tuple[Any, str]] = [
    (_await_something_cancelled, "RuntimeError: it awaited something that was cancelled"),
    (_cancel_myself, "RuntimeError: it awaited something that was cancelled"),
    (_group_of_cancellations, "RuntimeError: it awaited something that was cancelled"),
    (_half_a_pair, "UnicodeEncodeError: 'utf-8' codec can't encode"),
    (_complain_in_half_a_pair, "ValueError: ?"),
    (_unprintable, "UnprintableError"),
]


@pytest.mark.parametrize(("function", "message"), ODD_ENDS)
async def test_however_a_tool_ends_it_is_answered(function: Any, message: str) -> None:
    """Cancellations that nobody asked for, and text that cannot be sent: told, and reported."""
    tools, failures = Tools(max_parallel=1), list[ev.HandlerFailed]()
    tools.tool(name="odd")(function)
    tools.tool(name="fine", in_thread=False)(lambda: "fine")
    async with model_with(tools) as (session, model):
        session.on(ev.HandlerFailed)(failures.append)
        model.respond(call("a", "odd"), call("b", "fine"))
        await model.until(lambda: model.creates == 1)
        assert model.error("a")["type"] == "tool_failed"
        assert model.error("a")["message"].startswith(message)
        assert model.output("b") == "fine", "the slot of the other is free again"
    assert [failure.handler for failure in failures] == ["tool odd"]
    assert (tools.statistics()[0].failed, tools.statistics()[0].running) == (1, 0)


async def test_a_plain_wrapper_of_an_async_function_is_a_tool() -> None:
    """It runs in the event loop, and what it returns is awaited; so is any other awaitable."""
    tools = Tools()

    def traced(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            assert sniffio.current_async_library()
            return function(*args, **options)

        return wrapper

    @tools.tool
    @traced
    async def double(number: int) -> int:
        """Double a number."""
        await anyio.lowlevel.checkpoint()
        return 2 * number

    def lazy() -> Any:
        """Return something to be awaited, out of a thread."""
        return anyio.lowlevel.checkpoint()

    tools.tool(lazy)
    async with model_with(tools) as (_, model):
        model.respond(call("a", "double", '{"number": 2}'), call("b", "lazy"))
        await model.until(lambda: model.creates == 1)
        assert sorted(model.outputs) == [("a", "4"), ("b", "null")]


async def test_arguments_are_not_logged() -> None:
    """Above debug a line says which call came to nothing, and not what was in it."""
    tools = Tools(timeout_s=0.001)
    tools.tool(name="pay")(_pay)
    with structlog.testing.capture_logs() as logs:
        async with model_with(tools) as (_, model):
            model.respond(
                call("a", "pay", '{"card": "4111", "cents": 100, "currency": "4111"}'),
                call("b", "pay", '{"card": "4111", "cents": 100}'),
                call("c", "4111"),
            )
            await model.until(lambda: model.creates == 1)
    shown = [line for line in logs if line["log_level"] != "debug"]
    assert [line.get("reason") for line in shown if line.get("tool") == "pay"] == [
        "invalid",
        "timed_out",
    ]
    assert "4111" not in str([line for line in shown if line.get("call_id") != "c"])


async def _pay(card: str, cents: int, currency: Literal["eur"] = "eur") -> None:
    await anyio.sleep_forever()


async def test_an_unknown_tool_is_answered_with_those_there_are() -> None:
    """A made-up name gets the list, and the model may try again."""
    tools = Tools()
    tools.tool(name="real")(lambda: None)
    async with model_with(tools) as (_, model):
        model.respond(call("c", "imaginary"))
        await model.until(lambda: model.creates == 1)
        assert model.error("c") == {
            "type": "unknown_tool",
            "message": "there is no tool 'imaginary'; known are: real",
        }


async def test_a_slow_tool_is_stopped() -> None:
    """After its timeout the model is told, and the tool cancelled."""
    tools, stopped = Tools(timeout_s=math.inf), list[str]()

    @tools.tool(timeout_s=0.01)
    async def sleep() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append("sleep")

    @tools.tool
    async def own() -> None:
        raise TimeoutError

    async with model_with(tools) as (_, model):
        model.respond(call("c", "sleep"), call("d", "own"))
        await model.until(lambda: model.creates == 1)
        assert model.error("c") == {
            "type": "timeout",
            "message": "sleep took longer than 0.01 s and was stopped",
        }
        assert model.error("d") == {"type": "tool_failed", "message": "TimeoutError"}
    assert stopped == ["sleep"]
    assert [figures.timed_out for figures in tools.statistics()] == [1, 0]


async def test_plain_functions_run_in_threads() -> None:
    """A blocking function blocks nobody; in_thread=False runs it in the event loop."""
    tools, release = Tools(), threading.Event()

    @tools.tool
    def block() -> bool:
        release.wait(5)
        return threading.current_thread() is threading.main_thread()

    @tools.tool(in_thread=False)
    def here() -> bool:
        return threading.current_thread() is threading.main_thread()

    async with model_with(tools) as (_, model):
        model.respond(call("a", "block"), call("b", "here"))
        await model.until(lambda: model.outputs == [("b", "true")])
        release.set()
        await model.until(lambda: model.creates == 1)
        assert model.output("a") == "false"


async def test_a_hanging_thread_is_abandoned() -> None:
    """A timeout answers for a thread that does not come back."""
    tools, release = Tools(timeout_s=0.01), threading.Event()
    tools.tool(name="hang")(lambda: release.wait(30))
    async with model_with(tools) as (_, model):
        model.respond(call("c", "hang"))
        await model.until(lambda: model.creates == 1)
        assert model.error("c")["type"] == "timeout"
        release.set()


@dataclass
class Guest:
    """Somebody."""

    name: str


class Kitchen:
    """The application's state."""

    def __init__(self, name: str = "big") -> None:
        self.name = name


async def test_session_and_state_are_injected() -> None:
    """A tool gets the session that calls it, and the application's own object of that call."""
    tools = Tools()

    @tools.tool
    async def where(
        session: Session, room: str, kitchen: Kitchen, same: Annotated[Any, Inject]
    ) -> str:
        assert same is kitchen is session.state
        return f"{session.id} {room} {kitchen.name}"

    for name in ("big", "small"):
        async with model_with(tools, state=Kitchen(name)) as (_, model):
            model.respond(call("c", "where", '{"room": "left"}'))
            await model.until(lambda: model.creates == 1)
            assert model.output("c") == f"sess left {name}"


async def test_a_state_that_could_be_an_argument_is_not_shown() -> None:
    """Whether a dataclass is an argument or the state is seen for each session."""
    tools = Tools()

    @tools.tool
    async def serve(guest: Guest) -> str:
        return guest.name

    def properties(model: Model) -> Any:
        return model.heard[0].session.tools[0].parameters["properties"]

    async with model_with(tools, state=Guest("Al")) as (_, model):
        assert properties(model) == {}
        model.respond(call("c", "serve"))
        await model.until(lambda: model.creates == 1)
        assert model.output("c") == "Al"
    async with model_with(tools) as (_, model):
        assert list(properties(model)) == ["guest"]


async def test_a_state_that_is_missing_is_told_before_anything_is_sent() -> None:
    """A session that cannot call a tool is refused; so is a tool that an open one cannot call."""
    tools = Tools()

    @tools.tool
    async def cook(kitchen: Kitchen) -> str:
        return kitchen.name

    for state, found in ((None, "there is none"), (Guest("Al"), "it is a Guest")):
        wanted = rf"'cook': parameter 'kitchen' gets a Kitchen from session.state, and {found}"
        with pytest.raises(UsageError, match=wanted):
            async with Bus(plugins=[tools]).session(PushTransport(send=print), state=state):
                pass
    tools.remove("cook")

    def optional(kitchen: Annotated[Kitchen | None, Inject] = None) -> bool:
        return kitchen is None

    async with model_with(tools) as (_, model):
        tools.tool(optional)
        with pytest.raises(UsageError, match=r"connect\(state=\.\.\.\)"):
            tools.tool(cook)
        model.respond(call("c", "optional"))
        await model.until(lambda: model.creates == 1)
        assert model.output("c") == "true"


async def test_the_server_is_told_of_tools_and_of_those_that_come_later() -> None:
    """session.update carries functions and hosted tools, and comes again when the list changes."""
    tools = Tools(hosted=[ev.McpTool(server_label="docs", server_url="https://docs.test")])
    tools.tool(name="first")(lambda: None)
    async with model_with(tools) as (_, model):
        assert model.tool_lists == [["first", "docs"]]
        [update] = model.heard
        assert update.to_dict()["session"].keys() == {"type", "tools"}
        tools.tool(name="second")(lambda: "late")
        tools.remove("first")
        assert model.tool_lists[1:] == [["first", "second", "docs"], ["second", "docs"]]
        model.respond(call("a", "first"), call("b", "second"))
        await model.until(lambda: model.creates == 1)
        assert model.error("a")["type"] == "unknown_tool"
        assert model.output("b") == "late"
    tools.tool(name="third")(lambda: None)
    assert len(model.tool_lists) == 3, "a session that is over is told nothing"


async def test_the_update_with_the_tools_confirms_nobody_elses() -> None:
    """The first session.updated answers it; a setting that is refused afterwards raises."""
    tools = Tools()
    tools.tool(name="first")(lambda: None)
    async with model_with(tools) as (session, model):
        failures: list[str] = []

        async def configure() -> None:
            try:
                await session.update(speed=1.5)
            except RequestRejected as error:
                failures.append(str(error.code))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(configure)
            await model.until(lambda: len(model.heard) == 2)
            model.say(ev.SessionUpdated(session=ev.RealtimeSession(id="sess")))
            await anyio.wait_all_tasks_blocked()
            assert failures == []
            model.say(
                ev.Error(
                    error=ev.ErrorDetails(
                        type="invalid_request_error",
                        code="invalid_value",
                        param="session.audio.output.speed",
                        message="No.",
                    )
                )
            )
        assert failures == ["invalid_value"]


async def test_a_session_without_tools_is_told_nothing() -> None:
    """Neither is one that only transcribes."""
    async with model_with(Tools()) as (_, model):
        assert model.heard == []
    tools = Tools()
    tools.tool(name="tool")(lambda: None)
    async with model_with(tools, opened=ev.TranscriptionSession(id="sess")) as (_, model):
        assert model.heard == []


async def test_taking_the_tools_away_is_warned_of() -> None:
    """An update with other tools goes out as it is, and the log says what it does."""
    tools = Tools()
    tools.tool(name="mine")(lambda: None)
    async with model_with(tools) as (session, model):
        with structlog.testing.capture_logs() as logs:
            for settings in ({"tools": []}, {"instructions": "Be brief."}):
                request = ev.RealtimeSessionRequest(**settings)  # type: ignore[arg-type]  # of two kinds
                session.send_nowait(ev.SessionUpdate(session=request))
        assert [line["lost"] for line in logs] == [["mine"]]
        assert len(model.heard) == 3


async def test_mcp_calls_are_the_servers() -> None:
    """An mcp_call is neither run nor answered, and nobody is asked to go on."""
    tools, runs = Tools(), list[int]()
    tools.tool(name="search")(lambda: runs.append(1))
    item = ev.McpCallItem(id="m", server_label="docs", name="search", arguments="{}")
    async with model_with(tools) as (_, model):
        model.respond(item)
        model.respond(call("c", "search"), response_id="r2")
        await model.until(lambda: model.creates == 1)
        assert model.order() == ["c", "create"]
    assert runs == [1]


async def test_calls_out_of_band_are_left_to_whoever_asked() -> None:
    """They are not run by themselves; `call` runs one by hand and sends nothing."""
    tools, runs = Tools(), list[int]()

    @tools.tool
    async def note(text: str) -> str:
        runs.append(1)
        return text.upper()

    item = call("c", "note", '{"text": "hi"}')
    async with model_with(tools) as (session, model):
        model.created("first")
        model.done(response_id="first")
        model.created(conversation_id=None)
        model.item_done(item)
        model.done(item, conversation_id=None)
        answer = await tools.call(item, session)
        assert answer == ev.FunctionCallOutputItem(call_id="c", output="HI")
        assert model.order() == []
    assert runs == [1]
    with pytest.raises(UsageError, match=r"this session is over, or does not have these tools"):
        await tools.call(item, session)
    with pytest.raises(UsageError, match=r"no tool 'nope' to remove; there are: note"):
        tools.remove("nope")


@pytest.mark.parametrize("everywhere", [True, False])
async def test_the_model_need_not_go_on(everywhere: bool) -> None:
    """follow_up=False answers and stops there; one call that wants it is enough to go on."""
    tools = Tools(follow_up=not everywhere)
    quiet = tools.tool(name="quiet", follow_up=False)(lambda: None)
    tools.tool(name="loud")(quiet)
    async with model_with(tools) as (_, model):
        model.respond(call("a", "quiet"))
        await model.until(lambda: len(model.outputs) == 1)
        model.respond(call("b", "quiet"), call("c", "loud"), response_id="r2")
        await model.until(lambda: len(model.outputs) == 3)
        if not everywhere:
            await model.until(lambda: model.creates == 1)
    assert model.creates == (0 if everywhere else 1)


async def test_only_so_many_calls_run_at_once() -> None:
    """Others wait for their turn, and all are answered."""
    tools, running, most = Tools(max_parallel=2), list[int](), list[int]()

    @tools.tool
    async def work(n: int) -> int:
        running.append(n)
        most.append(len(running))
        await anyio.lowlevel.checkpoint()
        running.remove(n)
        return n

    async with model_with(tools) as (_, model):
        model.respond(*(call(f"c{n}", "work", f'{{"n": {n}}}') for n in range(6)))
        await model.until(lambda: model.creates == 1)
        assert sorted(model.outputs) == [(f"c{n}", str(n)) for n in range(6)]
    assert max(most) == 2


async def test_a_follow_up_waits_for_the_response_that_is_active() -> None:
    """The server's own response comes first; the arbiter keeps ours until it is done."""
    tools, gate = Tools(), anyio.Event()

    @tools.tool
    async def slow() -> str:
        await gate.wait()
        return "at last"

    async with model_with(tools) as (_, model):
        model.respond(call("c", "slow"))
        model.created("vad")
        gate.set()
        await model.until(lambda: model.outputs == [("c", "at last")])
        assert model.creates == 0
        model.done(response_id="vad")
        await model.until(lambda: model.creates == 1)


async def test_a_session_that_ends_takes_its_calls_along() -> None:
    """A running tool is cancelled with the session, and no answer fails for want of a reader."""
    tools, ends, started = Tools(), list[str](), anyio.Event()

    @tools.tool
    async def endless() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cancelled")

    @tools.tool
    async def after_the_end(session: Session) -> None:
        await session.wait_closed()

    with structlog.testing.capture_logs() as logs:
        async with model_with(tools) as (session, model):
            model.respond(call("a", "endless"), call("b", "after_the_end"))
            await started.wait()
            await session.aclose()
    assert ends == ["cancelled"]
    assert [line for line in logs if line["log_level"] in ("warning", "error")] == []
    assert model.outputs == []


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"hosted": [ev.FunctionTool(name="f")]}, "'f' is a function; use @tools.tool"),
    ({"max_parallel": 0}, "max_parallel=0 must be at least 1"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    """Each says what to write instead."""
    with pytest.raises(UsageError, match=message):
        Tools(**options)
