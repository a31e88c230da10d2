"""What every object has whose ``type`` says which of several it is."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Variant"]


class Variant(Struct, frozen=True, kw_only=True, tag_field="type"):
    """An object that names its kind in ``type``; the name belongs to the class."""

    @property
    def type(self) -> str:
        """The kind, as on the wire, such as ``"function_call"``."""
        return str(self.__struct_config__.tag)
