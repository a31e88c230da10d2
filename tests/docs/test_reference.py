"""docs/reference.md lists every public name."""

import importlib
import os

import pytest

from ._blocks import PAGES
from ._reference import PAGE, page, public_modules


def test_the_reference_is_current() -> None:
    """docs/reference.md is what the docstrings give; WRITE_REFERENCE=1 writes it anew."""
    if os.environ.get("WRITE_REFERENCE"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run with WRITE_REFERENCE=1 in the environment"
    )


@pytest.mark.parametrize("name", public_modules())
def test_every_public_name_is_in_the_docs(name: str) -> None:
    """What `__all__` of a public module promises stands in some page, in code font."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    missing = [
        public for public in importlib.import_module(name).__all__ if f"`{public}`" not in text
    ]
    assert not missing
