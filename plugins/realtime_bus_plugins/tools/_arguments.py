"""Reading the model's arguments, and telling the model what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from realtime_bus import RegistrationError

from ._parameters import Parameter
from ._schema import Schema, schema_at, schemas_of

__all__ = ["Arguments", "ArgumentsError", "Problem"]

_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STEP = re.compile(r"\.(\w+)|(\[)")


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
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

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{found.path}: {found.message}" for found in problems))
        self.problems = problems


class Arguments:
    """What a tool takes: the JSON Schema, and the reading of arguments by it.

    Args:
        parameters: What the model gives.
        descriptions: What the docstring says of them.
        name: What to call the tool in messages.

    Attributes:
        schema: JSON Schema of an object with all arguments.

    Raises:
        RegistrationError: A parameter's type has no JSON Schema.
    """

    def __init__(
        self, parameters: tuple[Parameter, ...], descriptions: dict[str, str], *, name: str
    ) -> None:
        self._parameters = {parameter.name: parameter for parameter in parameters}
        self._decoders = {p.name: _decoder(p, name) for p in parameters}
        flat, self._defs = schemas_of([p.annotation for p in parameters])
        self._schemas = dict(zip(self._parameters, flat, strict=True))
        for parameter in parameters:
            self._describe(parameter, descriptions)
        self.schema = self._whole()

    def _describe(self, parameter: Parameter, descriptions: dict[str, str]) -> None:
        said = _own_description(parameter) or descriptions.get(parameter.name)
        description = {"description": said} if said else {}
        schema = {**self._schemas[parameter.name], **description, **self._default(parameter)}
        self._schemas[parameter.name] = schema

    def _default(self, parameter: Parameter) -> Schema:
        """Return the default as JSON Schema has it, if the model could give it itself."""
        if parameter.required:
            return {}
        try:
            text = msgspec.json.encode(parameter.default)
            self._decoders[parameter.name].decode(text)
        except (TypeError, ValueError, msgspec.MsgspecError):
            return {}  # such as a None that stands for nothing given, or a private marker
        return {"default": msgspec.json.decode(text)}

    def _whole(self) -> Schema:
        whole: Schema = {
            "type": "object",
            "properties": self._schemas,
            "required": [p.name for p in self._parameters.values() if p.required],
            "additionalProperties": False,
        }
        return {**whole, "$defs": self._defs} if self._defs else whole

    def read(self, text: str) -> dict[str, Any]:
        """Decode and check what the model gave; no text at all is taken for no arguments.

        Raises:
            ArgumentsError: What is wrong, for the model.
        """
        raw = self._split(text)
        problems = [*self._missing(raw), *self._unknown(raw)]
        values: dict[str, Any] = {}
        for name, value in raw.items():
            if name in self._decoders:
                try:
                    values[name] = self._decoders[name].decode(value)
                except msgspec.MsgspecError as error:
                    problems.append(self._problem(name, str(error)))
        if problems:
            raise ArgumentsError(problems)
        return values

    def _split(self, text: str) -> dict[str, msgspec.Raw]:
        try:
            return _RAW.decode(text.strip() or "{}")
        except msgspec.ValidationError as error:
            raise ArgumentsError([Problem("", str(error), self.schema)]) from error
        except msgspec.DecodeError as error:
            raise ArgumentsError([Problem("", f"invalid JSON: {error}", self.schema)]) from error

    def _missing(self, raw: dict[str, msgspec.Raw]) -> Iterable[Problem]:
        for parameter in self._parameters.values():
            if parameter.required and parameter.name not in raw:
                yield Problem(parameter.name, "is required", self._schemas[parameter.name])

    def _unknown(self, raw: dict[str, msgspec.Raw]) -> Iterable[Problem]:
        known = ", ".join(self._parameters) or "none"
        for name in raw.keys() - self._parameters.keys():
            yield Problem(name, f"there is no such argument; known are: {known}")

    def _problem(self, name: str, text: str) -> Problem:
        """Turn msgspec's words into a problem: its path begins at the argument."""
        message, _, place = text.partition(" - at ")
        path = place.replace("`", "").replace("$", name, 1) or name
        steps = ["[]" if bracket else step for step, bracket in _STEP.findall(place)]
        field = re.search(r"(?:required|unknown) field `([^`]+)`", message)
        if field is not None:
            path, steps = f"{path}.{field[1]}", [*steps, field[1]]
        return Problem(path, message, schema_at(self._schemas[name], steps))


def _decoder(parameter: Parameter, name: str) -> msgspec.json.Decoder[Any]:
    """Return what reads one argument.

    The schema is made first: a decoder alone would take any class for one of the user's own.
    """
    try:
        schemas_of([parameter.annotation])
        return msgspec.json.Decoder(parameter.annotation)
    except TypeError as error:
        raise RegistrationError(
            f"tool {name}: parameter {parameter.name!r} cannot be described to the model: {error}; "
            "use types that msgspec knows, or mark what the application fills in: "
            "Annotated[T, Inject]"
        ) from error


def _own_description(parameter: Parameter) -> str | None:
    """Return the description in the parameter's own annotation."""
    for mark in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(mark, msgspec.Meta) and mark.description is not None:
            return mark.description
    return None
