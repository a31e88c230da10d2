"""Docstrings in Google's style are taken apart."""

import pytest

from realtime_bus_plugins.tools._schema import read_docstring

DOCS = [
    (None, None, {}),
    ("", None, {}),
    ("One line.", "One line.", {}),
    ("Two\nlines.\n\nRest.", "Two lines.", {}),
    ("Sum.\n\nArgs:\n  a: An a.\n  b (int, optional): A b.", "Sum.", {"a": "An a.", "b": "A b."}),
    ("Sum.\n\nArgs:\n  a:\n    Below: it.\n\n  b: B.", "Sum.", {"a": "Below: it.", "b": "B."}),
    ("Sum.\n\nArgs:\n  nothing here\n", "Sum.", {}),
    ("Sum.\nArgs:\n  a: A.\nReturns:\n  b: B.", "Sum.", {"a": "A."}),
    ("\nArgs:\n  a: A.", None, {"a": "A."}),
    ("Sum.\n\nParameters\n----------\na : int\n    Of numpy.", "Sum.", {}),
]


@pytest.mark.parametrize(("text", "summary", "names"), DOCS)
def test_a_docstring_is_taken_apart(
    text: str | None, summary: str | None, names: dict[str, str]
) -> None:
    """The first paragraph is the summary; other styles give no more than that."""
    assert read_docstring(text) == (summary, names)
