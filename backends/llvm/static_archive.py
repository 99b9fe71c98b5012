"""Static archives: the ar format of System V and GNU, with the symbol index that linkers need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MAGIC: Final = b"!<arch>\n"


def static_archive(member: str, data: bytes, symbols: Sequence[str]) -> bytes:
    """Return an archive of one object file, named `member`, that defines `symbols`."""
    names = b"".join(symbol.encode() + b"\0" for symbol in symbols)
    # The index: the number of symbols, where the member of each begins (all the same), their names.
    size = 4 + 4 * len(symbols) + len(names)
    first = len(_MAGIC) + len(_entry("/", bytes(size)))
    index = b"".join(n.to_bytes(4, "big") for n in [len(symbols), *[first] * len(symbols)]) + names
    return _MAGIC + _entry("/", index) + _entry(f"{member[:15]}/", data)


def _entry(name: str, data: bytes) -> bytes:
    """Return a header of 60 characters and the data, padded to an even length.

    The date is 0, so that the same model gives the same bytes.
    """
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
    return header.encode() + data + b"\n" * (len(data) % 2)
