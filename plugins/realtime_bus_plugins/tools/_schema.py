"""What the model reads about types: JSON Schema, and descriptions out of docstrings.

msgspec makes the schema. Here its references are put in place, so that any server and any model
can read it; only what contains itself stays behind in ``$defs``. Titles that are but class names
go, and docstrings (in Google's style) are cut to what helps a model: the first paragraph, and a
line for each name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

Schema: TypeAlias = dict[str, Any]

_PREFIX = "#/$defs/"
_DROPPED = frozenset({"discriminator"})  # OpenAPI's, and it refers to what is put in place
_NAMED = frozenset({"properties", "patternProperties"})  # keywords that hold schemas by name
_LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset({"items", "additionalProperties", "propertyNames", "contains", "not"})


def schemas_of(types: Sequence[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return a schema for each type, and the ``$defs`` that they share.

    Raises:
        TypeError: msgspec does not support a type.
    """
    schemas, components = msgspec.json.schema_components(types, ref_template=_PREFIX + "{name}")
    flattener = _Flattener({name: _tidy(found) for name, found in components.items()})
    flat = [flattener.flatten(schema) for schema in schemas]
    return flat, flattener.kept()


def schema_at(schema: Schema, steps: Sequence[str]) -> Schema:
    """Follow property names, and ``[]`` for elements, as far as the schema says something."""
    for step in steps:
        inner = schema.get("items") if step == "[]" else schema.get("properties", {}).get(step)
        inner = inner if inner is not None else schema.get("additionalProperties")
        if not isinstance(inner, dict):
            break
        schema = cast("Schema", inner)
    return schema


class _Flattener:
    """Puts components in the places that refer to them.

    Only what is a schema is looked at: a field may be called ``$ref`` or ``discriminator``, and a
    default may hold anything.
    """

    def __init__(self, components: dict[str, Schema]) -> None:
        self._components = components
        self._recursive = {name for name in components if self._reaches(name, name, set())}
        self._needed: set[str] = set()

    def _reaches(self, start: str, goal: str, seen: set[str]) -> bool:
        inner = set(_references(self._components[start])) - seen
        seen |= inner
        return goal in inner or any(self._reaches(name, goal, seen) for name in inner)

    def flatten(self, schema: Schema) -> Schema:
        """Return the schema with everything in place."""
        name = _reference(schema)
        if name in self._components and name not in self._recursive:
            # what is said beside a reference stays
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**self._components[name], **beside}
        elif name is not None:
            self._needed.add(name)
        return {
            key: self._flatten_inside(key, value)
            for key, value in schema.items()
            if key not in _DROPPED
        }

    def _flatten_inside(self, key: str, value: Any) -> Any:
        if key in _NAMED:
            return {name: self.flatten(inner) for name, inner in value.items()}
        if key in _LISTED:
            return [self.flatten(inner) for inner in value]
        if key in _SINGLE and isinstance(value, dict):
            return self.flatten(cast("Schema", value))
        return value

    def kept(self) -> dict[str, Schema]:
        """Return the definitions that are still referred to, flattened themselves."""
        found: dict[str, Schema] = {}
        while missing := self._needed - found.keys():
            for name in sorted(missing):
                found[name] = self.flatten(self._components[name])
        return found


def _reference(schema: Schema) -> str | None:
    found = schema.get("$ref")
    return found.removeprefix(_PREFIX) if isinstance(found, str) else None


def _references(schema: Schema) -> Iterator[str]:
    """Yield the names of all components that a schema refers to."""
    if (name := _reference(schema)) is not None:
        yield name
    for key, value in schema.items():
        inner: Any = value.values() if key in _NAMED else value if key in _LISTED else ()
        if key in _SINGLE and isinstance(value, dict):
            inner = (value,)
        for each in inner:
            yield from _references(each)


def _tidy(component: Schema) -> Schema:
    """Leave out the class's name, and spread its docstring over its properties."""
    tidy: Schema = {
        key: value for key, value in component.items() if key not in ("title", "description")
    }
    docs = read_docstring(component.get("description"))
    if docs.summary is not None:
        tidy = {"description": docs.summary, **tidy}
    if "properties" in tidy:
        tidy["properties"] = {
            name: {"description": docs.names[name], **inner} if name in docs.names else inner
            for name, inner in tidy["properties"].items()
        }
    return tidy


# docstrings

_SECTIONS = frozenset({"args:", "arguments:", "parameters:", "attributes:"})
_ENTRY = re.compile(r"(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_HEADER = re.compile(r"[A-Z][\w ]*:$")


class Docs(NamedTuple):
    """What a docstring says.

    Attributes:
        summary: Its first paragraph on one line, or None.
        names: What it says of each parameter or attribute, on one line each.
    """

    summary: str | None
    names: dict[str, str]


def read_docstring(text: str | None) -> Docs:
    """Take a docstring apart; one that is in no known style gives its first paragraph."""
    lines = inspect.cleandoc(text or "").splitlines()
    summary: list[str] = []
    for line in lines:
        if not line.strip() or _HEADER.match(line):
            break
        summary.append(line.strip())
    return Docs(" ".join(summary) or None, _entries(_section(lines)))


def _section(lines: list[str]) -> Iterable[str]:
    """Yield the indented lines below ``Args:``, or a heading that means the same."""
    inside = False
    for line in lines:
        if line and not line[0].isspace():
            inside = line.strip().lower() in _SECTIONS
        elif inside and line.strip():
            yield line


def _entries(lines: Iterable[str]) -> dict[str, str]:
    """Read ``name: text`` and ``name (type): text``, where deeper lines go on with the text."""
    found: dict[str, str] = {}
    name, margin = "", None
    for line in lines:
        depth = len(line) - len(line.lstrip())
        margin = depth if margin is None else margin
        entry = _ENTRY.match(line.strip()) if depth <= margin else None
        if entry is not None:
            name, found[entry[1]] = entry[1], entry[2].strip()
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
