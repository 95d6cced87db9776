"""Bytes that one device sends to others in a compiled program, by kind of collective, read from its HLO text."""

from __future__ import annotations

import math
import re
from collections import Counter

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8,
          "s64": 8, "u64": 8, "c64": 8}  # fmt: skip

_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|to_apply|calls|branch_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)\}?")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_OPERATION = re.compile(r"= (\(.*?\)|\S+) ([a-z\-]+)\(")


def collective_bytes(hlo: str) -> Counter[str]:
    """{kind: bytes of the results of its operations on one device}, loops counted as often as they run.

    Args: hlo: `compiled.as_text()`, a module partitioned over devices. An asynchronous operation counts once.
    """
    bodies, entry = _computations(hlo)
    cache: dict[str, Counter[str]] = {}

    def total(name: str) -> Counter[str]:
        if name not in cache:
            cache[name] = Counter()  # a computation never calls itself; this only ends a malformed text
            found: Counter[str] = Counter()
            for line in bodies.get(name, ()):
                found.update(_line(line))
                trips = int(m.group(1)) if (m := _TRIPS.search(line)) else 1
                for group in _CALLED.findall(line):
                    for called in group.replace("%", "").split(", "):
                        for kind, size in total(called).items():
                            found[kind] += trips * size
            cache[name] = found
        return cache[name]

    return total(entry)


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    bodies: dict[str, list[str]] = {}
    entry, current = "", None
    for line in hlo.splitlines():
        if not line.startswith(" ") and line.rstrip().endswith("{") and "HloModule" not in line:
            name = line.removeprefix("ENTRY ").lstrip("%").split(" ")[0].split("(")[0]
            current = bodies.setdefault(name, [])
            entry = name if line.startswith("ENTRY ") else entry
        elif current is not None:
            current.append(line)
    return bodies, entry


def _line(line: str) -> Counter[str]:
    match = _OPERATION.search(line)
    if match is None:
        return Counter()
    shape, operation = match.groups()
    kind = operation.removesuffix("-start")
    if kind not in KINDS:
        return Counter()
    sizes = [_BYTES.get(t, 4) * math.prod(int(d) for d in dims.split(",") if d) for t, dims in _SHAPE.findall(shape)]
    if operation == "all-gather-start":  # a tuple of operands, then results
        sizes = sizes[len(sizes) // 2 :]
    if operation == "collective-permute-start":  # operand, result, two counters
        sizes = sizes[1:2]
    return Counter({kind: sum(sizes)})
