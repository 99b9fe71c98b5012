"""The memory of a C call: a workspace holds a mark and, after it, one area per run loop.

Kernels rely on the content of memory that they never write, such as planes that stay False. The
first call that uses an area prepares it. The mark says for which model the workspace is prepared,
and which of its areas are. A call without a workspace allocates one with no area but its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.c.interface import BAD_VALUES, NO_MEMORY, OK
from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.llvm_text import PLANE_BYTES

MARK_BYTES: Final = 16
_HEAD: Final = 2 * PLANE_BYTES
"""A cache line for the mark, and one to align it."""


@dataclass(frozen=True)
class WorkspaceArea:
    """The memory that a run loop works in.

    Attributes:
        name: the name of the path that samples take, "blocks" or "samples".
        run: the name of the loop's function.
        size: the area's bytes.
        ones: the range of bytes that are -1 at first; all others are 0.
    """

    name: str
    run: str
    size: int
    ones: tuple[int, int] = (0, 0)

    @property
    def function(self) -> str:
        """The name of its function in `CallWorkspace.text`."""
        return f"lgir_call_{self.name}"


class CallWorkspace:
    """Areas one after another, each on a cache line.

    Attributes:
        size: the bytes that a caller gives, at any alignment.
    """

    def __init__(self, areas: Sequence[WorkspaceArea]) -> None:
        self.areas = areas
        sizes = [-(-area.size // PLANE_BYTES) * PLANE_BYTES for area in areas]
        self._starts = np.cumsum([PLANE_BYTES, *sizes]).tolist()
        self.size: int = self._starts[-1] + PLANE_BYTES

    def text(self, mark: bytes) -> str:
        """Return one function per area, `i32 (steps, count, context, n, workspace)`.

        It prepares the area, runs the steps and returns the code of the C interface.

        Args:
            mark: MARK_BYTES bytes that identify the model.
        """
        low, high = np.frombuffer(mark, np.int64).tolist()
        parts = [_DECLARATIONS]
        for i, (area, start) in enumerate(zip(self.areas, self._starts, strict=False)):
            first, last = area.ones
            parts.append(
                _CALL.format(
                    name=area.function,
                    run=area.run,
                    start=start,
                    size=area.size,
                    alone=area.size + _HEAD,
                    ones=first,
                    ones_size=last - first,
                    low=low,
                    high=high,
                    flag=MARK_BYTES + 8 * i,
                    line=PLANE_BYTES,
                    up=PLANE_BYTES - 1,
                    error=8 * ContextWord.ERROR,
                    ok=OK,
                    bad_values=BAD_VALUES,
                    no_memory=NO_MEMORY,
                )
            )
        return "\n".join(parts)


_DECLARATIONS: Final = """\
declare ptr @calloc(i64, i64)
declare void @free(ptr)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)
"""

_CALL: Final = """\
define i32 @{name}(ptr %steps, i64 %count, ptr %context, i64 %n, ptr %given) #0 {{
start:
  %none = icmp eq ptr %given, null
  br i1 %none, label %allocate, label %align
allocate:
  %own = call ptr @calloc(i64 1, i64 {alone})
  %failed = icmp eq ptr %own, null
  br i1 %failed, label %no_memory, label %align
no_memory:
  ret i32 {no_memory}
align:
  %space = phi ptr [ %given, %start ], [ %own, %allocate ]
  %first = phi i64 [ {start}, %start ], [ {line}, %allocate ]
  %address = ptrtoint ptr %space to i64
  %above = add i64 %address, {up}
  %aligned = and i64 %above, -{line}
  %mark = inttoptr i64 %aligned to ptr
  %mark.high = getelementptr i8, ptr %mark, i64 8
  %flag = getelementptr i8, ptr %mark, i64 {flag}
  %area = getelementptr i8, ptr %mark, i64 %first
  %low = load i64, ptr %mark, align 8
  %high = load i64, ptr %mark.high, align 8
  %same.low = icmp eq i64 %low, {low}
  %same.high = icmp eq i64 %high, {high}
  %same = and i1 %same.low, %same.high
  br i1 %same, label %marked, label %new
new:
  call void @llvm.memset.p0.i64(ptr %mark, i8 0, i64 {line}, i1 false)
  store i64 {low}, ptr %mark, align 8
  store i64 {high}, ptr %mark.high, align 8
  br label %marked
marked:
  %set = load i64, ptr %flag, align 8
  %prepared = icmp ne i64 %set, 0
  br i1 %prepared, label %run, label %prepare
prepare:
  store i64 1, ptr %flag, align 8
  br i1 %none, label %ones, label %clear
clear:
  call void @llvm.memset.p0.i64(ptr %area, i8 0, i64 {size}, i1 false)
  br label %ones
ones:
  %true = getelementptr i8, ptr %area, i64 {ones}
  call void @llvm.memset.p0.i64(ptr %true, i8 -1, i64 {ones_size}, i1 false)
  br label %run
run:
  call void @{run}(ptr %steps, i64 %count, ptr %context, ptr %area, i64 0, i64 %n)
  %error.at = getelementptr i8, ptr %context, i64 {error}
  %error = load i64, ptr %error.at, align 8
  %bad = icmp ne i64 %error, 0
  %code = select i1 %bad, i32 {bad_values}, i32 {ok}
  br i1 %none, label %release, label %done
release:
  call void @free(ptr %space)
  br label %done
done:
  ret i32 %code
}}
"""
