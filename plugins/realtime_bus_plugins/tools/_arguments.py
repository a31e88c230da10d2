"""What a tool takes: which parameters the model fills in, and the reading of what it gives.

The rules:

1. A parameter annotated `Session` gets the session. One annotated ``Annotated[T, Inject]``, or
   with a class that ``session.state`` is an instance of, gets the state. (Not with a builtin class
   such as ``dict``: those are arguments, unless `Inject` says otherwise.) Where the session has no
   such state, the parameter's default applies; without one, the session is refused.
2. All others are arguments. Each needs an annotation that msgspec can turn into JSON Schema; a
   class that it cannot is taken for the state's.
3. The description of an argument is the one in its ``msgspec.Meta``, or else its line in the
   docstring's ``Args:`` section.
4. An argument with a default may be left out; then the function's own default applies.
5. A number without a fraction is an integer, as JSON Schema has it: ``1.0`` is read as 1.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import msgspec

from realtime_bus import Session, UsageError

from ._schema import Schema, schema_at, schemas_of

_Source: TypeAlias = Literal["model", "session", "state"]

_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STEP = re.compile(r"\.([^.\[\]]+)|(\[)")
_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "is variadic",
    inspect.Parameter.VAR_KEYWORD: "is variadic",
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only",
}


class Inject:
    """Marks a parameter that gets ``session.state``: ``kitchen: Annotated[Kitchen, Inject]``."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a tool.

    Attributes:
        name: Its name.
        annotation: Its type, with constraints.
        default: What the function takes without it, or `inspect.Parameter.empty`.
        source: Who fills it in, unless the state is of its class.
        decoder: Reads it, if the model can give it.
    """

    name: str
    annotation: Any
    default: Any
    source: _Source = "model"
    decoder: msgspec.json.Decoder[Any] | None = None

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty

    def takes_state(self, state: object) -> bool:
        """Tell whether it gets the state of a session."""
        if state is None or self.source == "session":
            return False
        if not isinstance(self.annotation, type):
            return self.source == "state"  # marked: whatever the state is
        try:
            builtin = self.annotation.__module__ == "builtins"
            return not builtin and isinstance(state, self.annotation)
        except TypeError:  # a Protocol that cannot be asked; Inject says it
            return False


# signatures


def target_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function itself: without `functools.partial`, or an object's ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def read_parameters(function: Callable[..., Any], *, tool: str) -> tuple[Parameter, ...]:
    """Look at a function's signature.

    Args:
        function: The tool.
        tool: What to call it in messages.

    Raises:
        UsageError: Which parameter cannot be filled in, and what to do about it.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise UsageError(
            f"tool {tool}: {error}; wrap it in a function with annotated parameters"
        ) from error
    try:
        target = inspect.unwrap(target_of(function))
        hints = typing.get_type_hints(target, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise UsageError(
            f"tool {tool}: {error}; a tool's annotations are read when it is registered, so what "
            "they name must be there at run time, in the tool's module"
        ) from error
    found: list[Parameter] = []
    for parameter in parameters:
        if parameter.kind in _KINDS:
            raise UsageError(
                f"tool {tool}: parameter {parameter.name!r} {_KINDS[parameter.kind]}; "
                "a tool is called with named arguments"
            )
        if parameter.name not in hints:
            raise UsageError(
                f"tool {tool}: parameter {parameter.name!r} has no annotation; "
                "annotate it, so that the model can be told what to give"
            )
        found.append(_read_parameter(parameter, hints[parameter.name], tool))
    return tuple(found)


def _read_parameter(parameter: inspect.Parameter, annotation: Any, tool: str) -> Parameter:
    name, default = parameter.name, parameter.default
    marks = getattr(annotation, "__metadata__", ())
    plain = annotation.__origin__ if marks else annotation
    if (typing.get_origin(plain) or plain) is Session:
        return Parameter(name=name, annotation=plain, default=default, source="session")
    if any(mark is Inject or isinstance(mark, Inject) for mark in marks):
        return Parameter(name=name, annotation=annotation, default=default, source="state")
    try:
        schemas_of([annotation])  # first: a decoder alone would take any class for one of ours
        decoder = msgspec.json.Decoder(annotation)
    except TypeError as error:
        if isinstance(annotation, type) and annotation.__module__ != "builtins":
            return Parameter(name=name, annotation=annotation, default=default, source="state")
        raise UsageError(
            f"tool {tool}: parameter {name!r} cannot be described to the model: {error}; use types "
            "that msgspec knows, or mark what the application fills in: Annotated[T, Inject]"
        ) from error
    return Parameter(name=name, annotation=annotation, default=default, decoder=decoder)


# arguments


class InvalidArgument(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with the arguments.

    Attributes:
        path: Which value: ``"pizza.toppings[0]"``; empty for the arguments as a whole.
        message: What is wrong.
        expected: JSON Schema of what is allowed there.
    """

    path: str
    message: str
    expected: Schema | None = None


class ArgumentsError(ValueError):
    """The model's arguments cannot be used.

    Attributes:
        problems: All that is wrong with them, one per argument.
    """

    def __init__(self, problems: list[InvalidArgument]) -> None:
        super().__init__("; ".join(f"{found.path}: {found.message}" for found in problems))
        self.problems = problems


class Arguments:
    """The model's part of a tool's parameters: described by a JSON Schema, and read by it.

    Args:
        parameters: What the model gives; each with a decoder.
        descriptions: What the docstring says of them.

    Attributes:
        schema: JSON Schema of an object with all arguments.
    """

    def __init__(self, parameters: Sequence[Parameter], descriptions: dict[str, str]) -> None:
        self._parameters = {parameter.name: parameter for parameter in parameters}
        schemas, definitions = schemas_of([p.annotation for p in parameters])
        self._schemas = dict(zip(self._parameters, schemas, strict=True))
        for parameter in parameters:
            described = _own_description(parameter) or descriptions.get(parameter.name)
            self._schemas[parameter.name] = {
                **self._schemas[parameter.name],
                **({"description": described} if described else {}),
                **_default(parameter),
            }
        self.schema: Schema = {
            "type": "object",
            "properties": self._schemas,
            "required": [p.name for p in parameters if p.required],
            "additionalProperties": False,
            **({"$defs": definitions} if definitions else {}),
        }

    def read(self, text: str) -> dict[str, Any]:
        """Decode and check what the model gave; no text at all is taken for no arguments.

        Raises:
            ArgumentsError: What is wrong, for the model.
        """
        try:
            raw = _RAW.decode(text.strip() or "{}")
        except msgspec.ValidationError as error:
            raise ArgumentsError([InvalidArgument("", str(error), self.schema)]) from error
        except msgspec.DecodeError as error:
            message = f"invalid JSON: {error}"
            raise ArgumentsError([InvalidArgument("", message, self.schema)]) from error
        problems = list(self._missing_and_unknown(raw))
        values: dict[str, Any] = {}
        for name, value in raw.items():
            if name in self._parameters:
                try:
                    values[name] = _decode(self._parameters[name], value)
                except msgspec.MsgspecError as error:
                    problems.append(self._problem(name, str(error)))
        if problems:
            raise ArgumentsError(problems)
        return values

    def _missing_and_unknown(self, raw: dict[str, msgspec.Raw]) -> Iterable[InvalidArgument]:
        for name, parameter in self._parameters.items():
            if parameter.required and name not in raw:
                yield InvalidArgument(name, "is required", self._schemas[name])
        known = ", ".join(self._parameters) or "none"
        for name in raw.keys() - self._parameters.keys():
            yield InvalidArgument(name, f"there is no such argument; known are: {known}")

    def _problem(self, name: str, text: str) -> InvalidArgument:
        """Turn msgspec's words into a problem: its path begins at the argument."""
        message, _, place = text.partition(" - at ")
        path = place.replace("`", "").replace("$", name, 1) or name
        steps = ["[]" if bracket else step for step, bracket in _STEP.findall(path)]
        field = re.search(r"(?:required|unknown) field `([^`]+)`", message)
        if field is not None:
            path, steps = f"{path}.{field[1]}", [*steps, field[1]]
        return InvalidArgument(path, message, schema_at(self._schemas[name], steps))


def _own_description(parameter: Parameter) -> str | None:
    """Return the description in the parameter's own annotation."""
    for mark in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(mark, msgspec.Meta) and mark.description is not None:
            return mark.description
    return None


def _default(parameter: Parameter) -> Schema:
    """Return the default as JSON Schema has it, if the model could give it itself."""
    if parameter.required or parameter.decoder is None:
        return {}
    try:
        text = msgspec.json.encode(parameter.default)
        parameter.decoder.decode(text)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return {}  # such as a None that stands for nothing given, or a private marker
    return {"default": msgspec.json.decode(text)}


def _decode(parameter: Parameter, value: msgspec.Raw) -> Any:
    decoder = parameter.decoder
    assert decoder is not None  # noqa: S101  # only what the model gives is read
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        if "got `float`" not in str(error):
            raise
    # JSON Schema's integers include 1.0, msgspec's do not
    return decoder.decode(_WITH_DECIMALS.encode(_INTEGRAL.decode(value)))


def _number(text: str) -> int | Decimal:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 1e15 else Decimal(text)


_INTEGRAL = msgspec.json.Decoder(float_hook=_number)
_WITH_DECIMALS = msgspec.json.Encoder(decimal_format="number")
