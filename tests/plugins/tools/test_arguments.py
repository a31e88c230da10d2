"""What the model is told when its arguments cannot be used."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from realtime_bus_plugins.tools import Tools

from ._model import call, model_with

pytestmark = pytest.mark.anyio


class Topping(msgspec.Struct):
    """Something on a pizza."""

    name: Literal["salami", "basil"]
    grams: Annotated[int, Meta(ge=1)] = 20


def kitchen() -> tuple[Tools, list[Any]]:
    """Return tools, and what one of them was called with."""
    tools, made = Tools(), list[Any]()

    @tools.tool
    async def bake(
        dish: Literal["pizza", "bread"],
        toppings: list[Topping],
        minutes: float = 10,
        notes: dict[str, int] | None = None,
    ) -> None:
        """Bake."""
        made.append((dish, toppings, minutes, notes))

    @tools.tool
    async def wait() -> None:
        """Wait."""
        made.append("waited")

    return tools, made


NAME = {"enum": ["basil", "salami"]}
GRAMS = {"type": "integer", "minimum": 1, "default": 20}
PROBLEMS: list[tuple[str, list[tuple[str, str, Any]]]] = [
    (
        '{"dish": "soup", "toppings": []}',
        [("dish", "Invalid enum value 'soup'", {"enum": ["bread", "pizza"]})],
    ),
    (
        '{"dish": "pizza", "toppings": [{"name": "basil"}, {"name": "tuna"}]}',
        [("toppings[1].name", "Invalid enum value 'tuna'", NAME)],
    ),
    (
        '{"dish": "pizza", "toppings": [{"name": "basil", "grams": 0}]}',
        [("toppings[0].grams", "Expected `int` >= 1", GRAMS)],
    ),
    (
        '{"dish": "pizza", "toppings": [{"grams": 5}]}',
        [("toppings[0].name", "Object missing required field `name`", NAME)],
    ),
    (
        '{"toppings": [], "minutes": "ten"}',
        [
            ("dish", "is required", {"enum": ["bread", "pizza"]}),
            ("minutes", "Expected `float`, got `str`", {"type": "number", "default": 10}),
        ],
    ),
    (
        '{"dish": "pizza", "toppings": [], "oven": 1}',
        [
            (
                "oven",
                "there is no such argument; known are: dish, toppings, minutes, notes",
                None,
            )
        ],
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), PROBLEMS)
async def test_the_model_is_told_what_is_wrong(
    arguments: str, expected: list[tuple[str, str, Any]]
) -> None:
    """Each argument at fault is named with its path, the complaint, and what is allowed there."""
    tools, made = kitchen()
    async with model_with(tools) as (_, model):
        model.respond(call("c", "bake", arguments))
        await model.until(lambda: model.creates == 1)
        error = model.error("c")
    assert error["type"] == "invalid_arguments"
    assert error["message"].startswith("the arguments of bake are not valid: ")
    found = [(p["path"], p["message"], p.get("expected")) for p in error["problems"]]
    assert found == expected
    assert made == []
    assert tools.statistics()[0].invalid == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"dish": "pizza"', "invalid JSON: Input data was truncated"),
        ("make a pizza", "invalid JSON: JSON is malformed: invalid character (byte 0)"),
        ("[1]", "Expected `object`, got `array`"),
        ("null", "Expected `object`, got `null`"),
    ],
)
async def test_what_is_no_object_is_answered_with_the_schema(arguments: str, message: str) -> None:
    """Where nothing can be read, the whole schema says what is wanted."""
    tools, _ = kitchen()
    async with model_with(tools) as (_, model):
        model.respond(call("c", "bake", arguments))
        await model.until(lambda: model.creates == 1)
        [problem] = model.error("c")["problems"]
    assert (problem["path"], problem["message"]) == ("", message)
    assert problem["expected"]["required"] == ["dish", "toppings"]


@pytest.mark.parametrize("arguments", ["{}", "", " \n"])
async def test_no_arguments_may_be_no_text(arguments: str) -> None:
    """A tool that takes nothing runs whether the model wrote an empty object or nothing."""
    tools, made = kitchen()
    async with model_with(tools) as (_, model):
        model.respond(call("c", "wait", arguments))
        await model.until(lambda: model.creates == 1)
        assert model.outputs == [("c", "null")]
    assert made == ["waited"]


async def test_arguments_arrive_as_their_types() -> None:
    """Nested structs are built, and the function's own defaults apply."""
    tools, made = kitchen()
    async with model_with(tools) as (_, model):
        model.respond(
            call("c", "bake", '{"dish": "bread", "toppings": [{"name": "basil"}], "minutes": 3}')
        )
        await model.until(lambda: model.creates == 1)
    assert made == [("bread", [Topping(name="basil", grams=20)], 3.0, None)]


async def test_a_number_without_a_fraction_is_an_integer() -> None:
    """JSON Schema's integers include 1.0; what has a fraction is none."""
    tools, counted = Tools(), list[Any]()

    @tools.tool
    async def count(times: int, toppings: list[Topping], price: Decimal, extra: Any) -> None:
        """Count."""
        counted.append((times, toppings[0].grams, price, extra))

    rest = '"toppings": [{"name": "basil", "grams": 2e1}], "price": 0.10, "extra": [1.5, "1.0"]'
    async with model_with(tools) as (_, model):
        model.respond(
            call("a", "count", f'{{"times": 3.0, {rest}}}'),
            call("b", "count", f'{{"times": 3.5, {rest}}}'),
            call("c", "count", f'{{"times": "3", {rest}}}'),
        )
        await model.until(lambda: model.creates == 1)
        assert [model.error(name)["problems"][0]["path"] for name in "bc"] == ["times", "times"]
    assert counted == [(3, 20, Decimal("0.10"), [1.5, "1.0"])]
