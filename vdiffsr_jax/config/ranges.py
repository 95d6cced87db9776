"""Types of numbers that have a range: `steps: Count` takes no 0 where `parse` reads it, nor `type=number(Count)`."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple


class Range(NamedTuple):
    """What must hold of a value; `words` end the sentence "NAME=VALUE must ..."."""

    words: str
    holds: Callable[[Any], bool]


def at_least(low: int) -> Range:
    """low and more."""
    return Range(f"be at least {low}", lambda value: value >= low)


def between(low: int, high: int) -> Range:
    """low to high, both included."""
    return Range(f"lie in {low}..{high}", lambda value: low <= value <= high)


def span(low: float, high: float) -> Range:
    """A pair, the lowest and the highest of a range."""
    return Range(
        f"be two rising numbers in {low:g}..{high:g}",
        lambda pair: len(pair) == 2 and low <= pair[0] <= pair[1] <= high,
    )


def number(hint: Any) -> Callable[[str], Any]:
    """A type of below as argparse's `type`, so that a flag's wrong number is wrong usage."""
    kind, (allowed, *_) = hint.__origin__, hint.__metadata__

    def read(text: str) -> Any:
        value = kind(text)
        if (kind is float and not math.isfinite(value)) or not allowed.holds(value):
            raise argparse.ArgumentTypeError(f"{text} must {allowed.words}{', and finite' if kind is float else ''}")
        return value

    read.__name__ = kind.__name__  # argparse: "invalid int value"
    return read


INCREASING = Range("increase", lambda values: all(a < b for a, b in itertools.pairwise(values)))
NOT_EMPTY = Range("not be empty", bool)

Count = Annotated[int, at_least(1)]
Whole = Annotated[int, at_least(0)]
Seed = Annotated[int, between(0, 2**32 - 1)]
Port = Annotated[int, between(0, 2**16 - 1)]
Positive = Annotated[float, Range("be positive", lambda value: value > 0)]
Weight = Annotated[float, at_least(0)]
Fraction = Annotated[float, between(0, 1)]
Decay = Annotated[float, Range("lie in 0..1, below 1", lambda value: 0 <= value < 1)]
Counts = Annotated[tuple[Count, ...], NOT_EMPTY]
Levels = Annotated[Counts, INCREASING]
PictureChannels = Annotated[int, Range("be 3, the channels of a picture", lambda value: value == 3)]
