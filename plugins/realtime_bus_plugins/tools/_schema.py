"""JSON Schema for types: flat, so that any server and any model can read it.

msgspec makes the schema. Here its references are put in place; only what contains itself stays
behind in ``$defs``. Titles that are but class names go, and docstrings are cut to what helps a
model: the first paragraph, and a line for each attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import msgspec

from ._docstring import read_docstring

__all__ = ["Schema", "schema_at", "schemas_of"]

Schema: TypeAlias = dict[str, Any]

_PREFIX = "#/$defs/"
_DROPPED = frozenset({"discriminator"})  # OpenAPI's, and it refers to what is put in place


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
    """Puts components in the places that refer to them."""

    def __init__(self, components: dict[str, Schema]) -> None:
        self._components = components
        self._recursive = {name for name in components if self._reaches(name, name, set())}
        self._needed: set[str] = set()

    def _reaches(self, start: str, goal: str, seen: set[str]) -> bool:
        inner = _references(self._components[start]) - seen
        seen |= inner
        return goal in inner or any(self._reaches(name, goal, seen) for name in inner)

    def flatten(self, schema: Any) -> Any:
        """Return the schema with everything in place."""
        if isinstance(schema, list):
            return [self.flatten(part) for part in _parts(schema)]
        if not isinstance(schema, dict):
            return schema
        plain = self._in_place(cast("Schema", schema))
        return {key: self.flatten(value) for key, value in plain.items() if key not in _DROPPED}

    def _in_place(self, schema: Schema) -> Schema:
        """Put a component in the place of the reference to it; what is said beside it stays."""
        name = str(schema.get("$ref", "")).removeprefix(_PREFIX)
        if name in self._components and name not in self._recursive:
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            return {**self._components[name], **beside}
        if name:
            self._needed.add(name)
        return schema

    def kept(self) -> dict[str, Schema]:
        """Return the definitions that are still referred to, flattened themselves."""
        found: dict[str, Schema] = {}
        while missing := self._needed - found.keys():
            for name in sorted(missing):
                found[name] = self.flatten(self._components[name])
        return found


def _parts(schema: Any) -> list[Any]:
    """Return what a piece of a schema consists of."""
    if isinstance(schema, dict):
        return list(cast("Schema", schema).values())
    return list(schema) if isinstance(schema, list) else []  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]  # JSON


def _references(schema: Any) -> set[str]:
    """Return the names of all components that a schema refers to."""
    found = set[str]().union(*map(_references, _parts(schema)))
    if isinstance(schema, dict) and "$ref" in schema:
        found.add(str(cast("Schema", schema)["$ref"]).removeprefix(_PREFIX))
    return found


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
