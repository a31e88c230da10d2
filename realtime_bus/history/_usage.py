"""Tokens by kind and model, and what they cost by a price table.

Kinds do not overlap: what came from the cache is counted as cached and not as input, so that
the kinds add up to what the server calls ``total_tokens``. Where a server gives a total and no
details, or details that do not add up to it, the rest counts as text. Cached tokens without
details are taken from text, then audio, then images.
"""

from __future__ import annotations

from collections.abc import Mapping
from re import sub
from typing import Any

import msgspec
from msgspec import Struct

_PER = 1_000_000


class TokenCounts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens by kind; kinds do not overlap.

    Attributes:
        input_text: Text in the context, not from the cache.
        input_audio: Audio in it, not from the cache.
        input_image: Images in it, not from the cache.
        cached_text: Text from the cache.
        cached_audio: Audio from the cache.
        cached_image: Images from the cache.
        output_text: Text that was generated, transcripts among it.
        output_audio: Audio that was generated.
        audio_seconds: Length of audio, from transcription models that are paid by time.
    """

    input_text: int = 0
    input_audio: int = 0
    input_image: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    cached_image: int = 0
    output_text: int = 0
    output_audio: int = 0
    audio_seconds: float = 0.0

    def __add__(self, other: TokenCounts) -> TokenCounts:
        names = self.__struct_fields__
        return TokenCounts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def total(self) -> int:
        """All tokens of all kinds."""
        counts: list[int] = [getattr(self, name) for name in _KINDS]
        return sum(counts)


_KINDS = tuple(name for name in TokenCounts.__struct_fields__ if name != "audio_seconds")


class Prices(Struct, frozen=True, kw_only=True):
    """What a model costs, in any currency: per million tokens of each kind.

    Attributes:
        input_text: Text that is not from the cache.
        input_audio: Audio that is not from the cache.
        input_image: Images that are not from the cache.
        cached_text: Text from the cache; None if it costs the same.
        cached_audio: Audio from the cache; None if it costs the same.
        cached_image: Images from the cache; None if they cost the same.
        output_text: Generated text.
        output_audio: Generated audio.
        audio_minute: A minute of audio, for transcription models that are paid by time.
    """

    input_text: float = 0.0
    input_audio: float = 0.0
    input_image: float = 0.0
    cached_text: float | None = None
    cached_audio: float | None = None
    cached_image: float | None = None
    output_text: float = 0.0
    output_audio: float = 0.0
    audio_minute: float = 0.0

    def of(self, counts: TokenCounts) -> float:
        """Return what so many tokens cost."""
        tokens = sum(float(getattr(counts, kind)) * self._price(kind) for kind in _KINDS)
        return tokens / _PER + counts.audio_seconds / 60 * self.audio_minute

    def _price(self, kind: str) -> float:
        found: float | None = getattr(self, kind)
        uncached: float = getattr(self, kind.replace("cached_", "input_"))
        return uncached if found is None else found


class Cost(Struct, frozen=True, kw_only=True):
    """What a conversation has cost so far, in the price table's currency.

    Attributes:
        total: All of it, as far as prices are known.
        by_model: The same by model.
        unpriced: Models that were used and have no price: what they cost is missing.
    """

    total: float
    by_model: dict[str, float]
    unpriced: list[str]


def cost_of(usage: Mapping[str, TokenCounts], prices: Mapping[str, Prices]) -> Cost:
    """Return what the usage costs; a dated model may be priced without its date."""
    by_model: dict[str, float] = {}
    unpriced: list[str] = []
    for model, counts in usage.items():
        found = prices.get(model) or prices.get(sub(r"-\d{4}-\d{2}-\d{2}$", "", model))
        if found is None:
            unpriced.append(model)
        else:
            by_model[model] = found.of(counts)
    return Cost(total=sum(by_model.values()), by_model=by_model, unpriced=unpriced)


def _count(thing: object, name: str) -> int:
    found = getattr(thing, name, None)  # read leniently: any field may be missing or raw
    return found if isinstance(found, int) and found > 0 else 0


def count_response(usage: object) -> TokenCounts:
    """Return a response's tokens by kind, from `events.Usage`."""
    given = getattr(usage, "input_token_details", None)
    kinds = _with_rest(given, ("text", "audio", "image"), _count(usage, "input_tokens"))
    cached = _cached(given, kinds)
    made = getattr(usage, "output_token_details", None)
    out = _with_rest(made, ("text", "audio"), _count(usage, "output_tokens"))
    return TokenCounts(
        **{f"input_{kind}": count - cached[kind] for kind, count in kinds.items()},
        **{f"cached_{kind}": count for kind, count in cached.items()},
        **{f"output_{kind}": count for kind, count in out.items()},
    )


def _with_rest(details: object, kinds: tuple[str, ...], total: int) -> dict[str, int]:
    counts = {kind: _count(details, f"{kind}_tokens") for kind in kinds}
    counts["text"] += max(0, total - sum(counts.values()))
    return counts


def _cached(details: object, kinds: dict[str, int]) -> dict[str, int]:
    given = getattr(details, "cached_tokens_details", None)
    cached = {k: min(n, _count(given, f"{k}_tokens")) for k, n in kinds.items()}
    rest = _count(details, "cached_tokens") - sum(cached.values())
    for kind, count in kinds.items():
        more = max(0, min(rest, count - cached[kind]))
        cached[kind] += more
        rest -= more
    return cached


def count_transcription(usage: Any) -> TokenCounts:
    """Return a transcription's tokens by kind, or its seconds."""
    seconds = getattr(usage, "seconds", None)
    if isinstance(seconds, int | float):
        return TokenCounts(audio_seconds=float(seconds))
    given = getattr(usage, "input_token_details", None)
    kinds = _with_rest(given, ("text", "audio"), _count(usage, "input_tokens"))
    return TokenCounts(
        input_text=kinds["text"],
        input_audio=kinds["audio"],
        output_text=_count(usage, "output_tokens"),
    )


assert set(_KINDS) <= set(msgspec.structs.asdict(Prices()))  # noqa: S101  # tables that must agree
