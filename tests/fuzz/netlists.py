"""Doors of netlists: BLIF and AIGER in both forms."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.door import Case, door, mutated
from lgir.formats.aiger import parse_aiger
from lgir.formats.blif import parse_blif

BLIF: Final = b"""\
.model mux # a comment
.inputs a b \\
  s c d e f
.outputs y z
.default_input_arrival 0.00 0.00
.names s a b t
01- 1
1-1 1
.names a b c d e f s u
1--01-- 0
.names t u y
11\t1
.conn t z
.end
"""

AIG: Final = b"aig 5 2 0 3 3\n10\n7\n0\n\x02\x02\x03\x02\x02\x01i0 a\no2 y\nc\nany\xff\n"

AAG: Final = b"aag 5 2 0 2 3\n2\n4\n10\n7\n6 4 2\n10 8 6\n8 3 7\ni0 a b\no1 y\nc\nany\xff\n"

_WORDS: Final = (
    b".names", b".inputs", b".outputs", b".model m", b".end", b".exdc", b".latch a y", b".conn",
    b".subckt", b"a", b"y", b"s", b"1", b"0", b"-", b"#", b"\\", b"\n", b"\r\n", b"\t", b"\xff",
    b"11 1", b"0 0", b"1" * 5000,
)  # fmt: skip


@door("blif")
def blif(rng: Random) -> Case:
    """Draw a damaged model, or one of words in any order."""
    if rng.random() < 0.5:
        data = mutated(BLIF, rng)
    else:
        gaps = (b" ", b" ", b"\n")
        words = (rng.choice(_WORDS) + rng.choice(gaps) for _ in range(rng.randrange(40)))
        data = b".inputs a s\n.outputs y\n" + b"".join(words)
    return f"BLIF {data[:300]!r}", lambda: parse_blif(data)


@door("aiger")
def aiger(rng: Random) -> Case:
    """Draw a damaged file of either form, or a header of any numbers before some bytes."""
    if rng.random() < 0.7:
        data = mutated(rng.choice((AIG, AAG)), rng)
    else:
        numbers = (rng.choice((0, 1, 2, 3, 255, 2**20, 2**31, 10**30)) for _ in range(5))
        head = f"{rng.choice(('aig', 'aag'))} {' '.join(map(str, numbers))}\n".encode()
        data = head + rng.choice((rng.randbytes(40), b"2\n" * 20, b"0\n4\n6 4 2\n"))
    return f"AIGER {data[:300]!r}", lambda: parse_aiger(data)
