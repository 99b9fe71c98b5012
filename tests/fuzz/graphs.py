"""Doors of graphs: text IR and the container. What they accept is verified and written again."""

from __future__ import annotations

import functools
import re
from random import Random
from typing import Any, Final

import lgir
from fuzz.door import Case, door, mutated
from lgir.errors import LgirError
from lgir.formats.container import from_bytes, to_bytes

TEXT: Final = """\
lgir 1
graph "g" {
  metadata "source" = "fuzz"
  input %x : f32[2,3,3]
  input %b : bit[1,3,3]
  %t = threshold %x {levels=[[0.5, 1], [inf, -2e30]]} : bit[4,3,3]
  %c = logic(%t, %b) over 2x2 stride 1x2 {
    %2 = tap 0[3,0,1]
    %3 = tap 1[0,-1,2]
    %4 = xor %2, %3
    %5 = lut 0xca %2, %3, %4
    yield %4, %5
  } : bit[2,2,2]
  %r = reshape %c : bit[8]
  %s = groupsum %r {groups=2, tau=0.5, beta=1} : f32[2]
  output %s, %c
}
"""

_TOKENS: Final = (
    "-2147483648", "2147483647", "4294967296", "9" * 5000, "inf", "nan", "1e39", "[", "]", "[" * 50,
    "{", "}", "%x", "%\"a\\u001b\"", "\"\\ud800\"", ",", ":", "bit[1,1]", "over 65536x65536", "...",
    "true", "tap 0[0]", "\x00", "\u202e", ";", "", "1" + ",1" * 40,
)  # fmt: skip


@functools.cache
def _container() -> bytes:
    return to_bytes(lgir.parse(TEXT))


def _use(graph: Any) -> None:
    """Print, save and verify a graph, as a program would; refusals count as the door's own."""
    text = lgir.dumps(graph, full=True)
    if lgir.parse(text) != graph or from_bytes(to_bytes(graph)) != graph:
        raise AssertionError("a graph does not come back from the text or the container")
    lgir.verify(graph, graph, samples=64)


def _read(read: Any, data: Any) -> None:
    graph = read(data)
    try:
        _use(graph)
    except LgirError:
        return


@door("text")
def text(rng: Random) -> Case:
    """Draw a damaged text, by its bytes or by a line or token."""
    kind = rng.random()
    if kind < 0.3:
        numbers = [match.span() for match in re.finditer(r"(?<![%\w])-?\d+", TEXT)]
        start, end = rng.choice(numbers)
        number = rng.choice((0, 1, 2, 3, -1, 4, 8, -(2**31), 2**31 - 1, 65536, "inf", "0.5"))
        drawn = f"{TEXT[:start]}{number}{TEXT[end:]}"
    elif kind < 0.5:
        drawn = mutated(TEXT.encode(), rng).decode("utf-8", "replace")
    else:
        lines = TEXT.split("\n")
        for _ in range(rng.choice((1, 1, 3))):
            place = rng.randrange(len(lines))
            words = lines[place].split(" ")
            words[rng.randrange(len(words))] = rng.choice(_TOKENS)
            lines[place] = rng.choice((" ".join(words), " ".join(words), lines[-3], ""))
        drawn = "\n".join(lines)
    return f"text {drawn[:1500]!r}", lambda: _read(lgir.parse, drawn)


@door("container")
def container(rng: Random) -> Case:
    """Draw a damaged container."""
    data = mutated(_container(), rng)
    return f"container {data!r}", lambda: _read(from_bytes, data)
