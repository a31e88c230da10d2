"""Texts that leave the process, without what looks like a key.

A file of its own, for every plugin that writes texts down needs it.
"""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"\b(?:sk|ek|pk|xai|gsk)[-_][\w*.-]+"
    r"|\b(?:Bearer|Basic)\s+[^\s\"',;]+"
    r"|\beyJ[\w-]++\.[\w.-]+"
    r"|(?<![\w-])[\w-]*(?:api[-_]?key|secret|token|password|passwd|authorization)"
    r"[\"']?\s*[:=]\s*(?:(?:Bearer|Basic)\s+)?(?:\"[^\"]*\"?|'[^']*'?|[^\s\"'&,;}]+)",
    re.IGNORECASE,
)
_LOOKED_AT_LEAST = 1000  # a key may be longer than what is shown


def blotted(text: str, limit: int) -> str:
    """Return a text of at most so many characters, in which keys and passwords are blotted out."""
    found = _SECRET.sub("[secret]", text[: max(limit, _LOOKED_AT_LEAST)])
    return found if len(found) <= limit else f"{found[: limit - 1]}…"
