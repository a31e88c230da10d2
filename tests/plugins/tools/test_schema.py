"""What the model is told of a tool, and what becomes of the arguments it gives."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from msgspec import Meta

from realtime_bus import Session, UsageError
from realtime_bus_plugins.tools import Inject, Tools
from realtime_bus_plugins.tools._tool import Tool


class Size(enum.Enum):
    """How large."""

    SMALL = "s"
    LARGE = "l"


class Topping(msgspec.Struct):
    """Something on a pizza.

    Attributes:
        name: What it is.
        grams: How much of it.
    """

    name: str
    grams: Annotated[int, Meta(ge=1)] = 20


class Pizza(msgspec.Struct, forbid_unknown_fields=True):
    """A pizza."""

    toppings: list[Topping]
    size: Size = Size.SMALL


class Node(msgspec.Struct):
    """A tree."""

    value: int
    children: list[Node] = []


class Place(TypedDict):
    """A place."""

    row: int


@dataclass
class Person:
    """A person."""

    name: str
    age: int | None = None


class Kitchen:
    """The application's state."""


SIZE = {"enum": ["l", "s"], "description": "How large."}
TOPPING = {
    "description": "Something on a pizza.",
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "What it is."},
        "grams": {
            "type": "integer",
            "minimum": 1,
            "default": 20,
            "description": "How much of it.",
        },
    },
    "required": ["name"],
}
NODE_REF = {"$ref": "#/$defs/Node"}
_MARKER: Any = object()

PROPERTIES: list[tuple[Any, Any, dict[str, Any]]] = [
    (int, ..., {"type": "integer"}),
    (float, 1.5, {"type": "number", "default": 1.5}),
    (bool, False, {"type": "boolean", "default": False}),
    (str, _MARKER, {"type": "string"}),
    (str, None, {"type": "string"}),
    (str | None, None, {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}),
    (Literal["a", "b"], "a", {"enum": ["a", "b"], "default": "a"}),
    (Size, ..., SIZE),
    (Size, Size.LARGE, {**SIZE, "default": "l"}),
    (Topping, ..., TOPPING),
    (
        Pizza,
        ...,
        {
            "description": "A pizza.",
            "type": "object",
            "properties": {
                "toppings": {"type": "array", "items": TOPPING},
                "size": {**SIZE, "default": "s"},
            },
            "required": ["toppings"],
            "additionalProperties": False,
        },
    ),
    (
        Place,
        ...,
        {
            "description": "A place.",
            "type": "object",
            "properties": {"row": {"type": "integer"}},
            "required": ["row"],
        },
    ),
    (
        Person,
        Person("Al"),
        {
            "description": "A person.",
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "age": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            },
            "required": ["name"],
            "default": {"name": "Al", "age": None},
        },
    ),
    (
        Annotated[int, Meta(ge=1, le=9, description="How many.")],
        3,
        {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many.", "default": 3},
    ),
    (
        Annotated[Topping, Meta(description="The best one.")],
        ...,
        {**TOPPING, "description": "The best one."},
    ),
    (list[int], [1, 2], {"type": "array", "items": {"type": "integer"}, "default": [1, 2]}),
    (dict[str, int], ..., {"type": "object", "additionalProperties": {"type": "integer"}}),
    (dt.date, ..., {"type": "string", "format": "date"}),
    (Any, ..., {}),
    (Node, ..., NODE_REF),
]


def parameters_of(tools: Tools) -> dict[str, Any]:
    """Return the schema of the last tool."""
    plain: dict[str, Any] = msgspec.to_builtins(tools.definitions[-1])["parameters"]
    return plain


def tool_taking(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """Return the schema of a tool with one argument."""
    tools = Tools()

    def tool(x: Any = default) -> None:
        """Do it."""

    tool.__annotations__["x"] = annotation
    if default is ...:
        tool.__defaults__ = ()
    tools.tool(tool)
    return parameters_of(tools)


@pytest.mark.parametrize(("annotation", "default", "expected"), PROPERTIES)
def test_the_schema_of_an_argument(annotation: Any, default: Any, expected: Any) -> None:
    """Every type gives its JSON Schema, in place, with its default and constraints."""
    schema = tool_taking(annotation, default)
    assert schema["properties"] == {"x": expected}
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == (["x"] if default is ... else [])


def test_only_what_contains_itself_is_a_definition() -> None:
    """A recursive type cannot be put in place; nothing else is left in $defs."""
    assert tool_taking(Node)["$defs"] == {
        "Node": {
            "description": "A tree.",
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": NODE_REF, "default": []},
            },
            "required": ["value"],
        }
    }
    assert "$defs" not in tool_taking(Pizza)


def test_a_tagged_union_is_put_in_place() -> None:
    """Variants stand in the schema itself; OpenAPI's discriminator does not."""

    class Cat(msgspec.Struct, tag=True):
        lives: int

    class Dog(msgspec.Struct, tag=True):
        tricks: int

    [animal] = tool_taking(Cat | Dog)["properties"].values()
    assert [list(variant["properties"]) for variant in animal["anyOf"]] == [
        ["type", "lives"],
        ["type", "tricks"],
    ]
    assert "discriminator" not in animal


def test_descriptions_come_from_the_docstring() -> None:
    """The first paragraph describes the tool, the Args section its arguments; Meta comes first."""
    tools = Tools()

    @tools.tool
    def order(  # noqa: D417  # an argument without a line of its own
        dish: str,
        count: Annotated[int, Meta(description="From the annotation.")],
        topping: Topping,
        note: str = "",
    ) -> str:
        """Order a dish
        from the kitchen.

        More that the model does not need.

        Args:
            dish (str): What to order,
                by its name: as on the card.
            count: Not this.
            topping: What goes on it.
            unknown: Nobody.

        Returns:
            note: Not an argument.
        """
        return f"{count} {dish} {topping} {note}"

    [definition] = tools.definitions
    assert definition.name == "order"
    assert definition.description == "Order a dish from the kitchen."
    described = {
        name: schema.get("description")
        for name, schema in parameters_of(tools)["properties"].items()
    }
    assert described == {
        "dish": "What to order, by its name: as on the card.",
        "count": "From the annotation.",
        "topping": "What goes on it.",
        "note": None,
    }


def test_the_example_of_the_readme() -> None:
    """A timer is described as one would by hand."""
    tools = Tools()

    @tools.tool
    async def set_timer(minutes: float, label: str = "timer") -> str:
        """Start a kitchen timer."""
        return f"{label}: {minutes:g} min"

    [definition] = tools.definitions
    assert msgspec.to_builtins(definition) == {
        "type": "function",
        "name": "set_timer",
        "description": "Start a kitchen timer.",
        "parameters": {
            "type": "object",
            "properties": {
                "minutes": {"type": "number"},
                "label": {"type": "string", "default": "timer"},
            },
            "required": ["minutes"],
            "additionalProperties": False,
        },
    }


def test_a_decorated_function_stays_what_it_was() -> None:
    """The decorator returns the very function, bare or with options; options name the tool."""
    tools = Tools()

    def stir(times: int) -> int:
        return times

    assert tools.tool(stir) is stir
    assert tools.tool(name="stir_more", description="Stir.")(stir) is stir
    assert [(tool.name, tool.description) for tool in tools.definitions] == [
        ("stir", None),
        ("stir_more", "Stir."),
    ]


def test_what_the_application_fills_in_is_not_shown() -> None:
    """Session, a class that nobody could describe, and all marked Inject stay out of the schema."""
    tools = Tools()

    @tools.tool
    def cook(
        session: Session,
        kitchen: Kitchen,
        dish: str,
        same: Annotated[Any, Inject],
        again: Annotated[Session, Inject()],
    ) -> None:
        """Cook."""

    assert list(parameters_of(tools)["properties"]) == ["dish"]


def test_a_builtin_state_is_injected_only_where_marked() -> None:
    """A dict parameter is an argument, even where the state is a dict."""

    def cook(dishes: dict[str, int], plain: dict, state: Annotated[dict, Inject]) -> None:  # type: ignore[type-arg]  # a bare class is the point
        """Cook."""

    tool = Tool(cook, {}, timeout_s=1)
    assert list(tool.arguments({}).schema["properties"]) == ["dishes", "plain"]


def test_what_is_called_like_a_keyword_of_json_schema_is_a_field() -> None:
    """Fields named discriminator or $ref, and a default that looks like a reference."""

    class Odd(msgspec.Struct, rename={"ref": "$ref"}):
        ref: int
        discriminator: str = ""
        properties: dict[str, Any] = {}

    default = [Odd(1, properties={"$ref": "#/$defs/Nothing", "discriminator": 1})]
    [odd] = tool_taking(list[Odd], default)["properties"].values()
    assert odd["items"]["properties"] == {
        "$ref": {"type": "integer"},
        "discriminator": {"type": "string", "default": ""},
        "properties": {"type": "object", "default": {}},
    }
    assert odd["default"] == msgspec.to_builtins(default)
    assert "$defs" not in tool_taking(list[Odd])


class Waiter:
    """A waiter."""

    def serve(self, table: int) -> str:
        """Serve a table."""
        return f"served {table}"

    def __call__(self, table: int) -> str:
        """Do anything."""
        return f"called {table}"


def test_methods_and_callable_objects_are_tools() -> None:
    """A bound method shows no self; an object is called."""
    tools = Tools()
    tools.tool(Waiter().serve)
    tools.tool(name="waiter")(Waiter())
    assert [tool.description for tool in tools.definitions] == ["Serve a table.", "Do anything."]
    assert list(parameters_of(tools)["properties"]) == ["table"]


def _untyped(x) -> None:  # type: ignore[no-untyped-def]  # the point
    pass


def _variadic(*x: int) -> None:
    pass


def _positional(x: int, /) -> None:
    pass


def _unsupported(x: Kitchen | int) -> None:
    pass


def _unresolvable(x: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821  # the point
    pass


def _malformed(x: "int |") -> None:  # type: ignore[syntax]  # noqa: F722  # the point
    pass


async def _stream(x: int) -> Any:
    yield x


async def _async(x: int) -> None:
    pass


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (_untyped, {}, "parameter 'x' has no annotation"),
    (_variadic, {}, "is variadic"),
    (_positional, {}, "is positional-only"),
    (_unsupported, {}, r"cannot be described to the model: .*Annotated\[T, Inject\]"),
    (_unresolvable, {}, "'Nowhere' is not defined"),
    (_malformed, {}, "read when it is registered"),
    (max, {}, "wrap it in a function"),
    ("no function", {}, "'no function' cannot be a tool"),
    (Kitchen, {}, "give a function or a method"),
    (_stream, {}, "is a generator"),
    (_async, {"in_thread": True}, "plain functions only"),
    (_async, {"timeout_s": 0}, "timeout_s=0 must be positive"),
    (_async, {"on_interrupt": "ignore"}, "is not 'deliver' or 'cancel'"),
    (_async, {"name": "no spaces"}, "1 to 64 letters"),
    (_async, {"tiemout_s": 1}, "no option 'tiemout_s'"),
    (lambda: None, {}, "give it with name="),
]


@pytest.mark.parametrize(("function", "options", "message"), REFUSED)
def test_what_cannot_be_a_tool_is_refused(function: Any, options: Any, message: str) -> None:
    """Registration says what is wrong, and what to do."""
    with pytest.raises(UsageError, match="(?s)" + message):
        Tools().tool(**options)(function)


def test_names_are_taken_once() -> None:
    """Two tools of one name would be one too many."""
    tools = Tools()
    tools.tool(_async)
    with pytest.raises(UsageError, match="there is a tool '_async' already"):
        tools.tool(_async)
