"""Options of the LLVM backend: in this process, and ahead of time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lgir.backends.llvm.object_cache import ObjectCache, default_folder
from lgir.backends.llvm.target import PORTABLE
from lgir.backends.lowering.options import LoweringOptions
from lgir.errors import BackendError

LOWERING_OPTIONS: Final = LoweringOptions(
    trails=True, fused_levels=True, forests=True, channel_groups=True, chunked_popcount=True
)
"""Everything that reduces cache traffic, which is the bottleneck of a CPU."""


@dataclass(frozen=True)
class LlvmOptions:
    """Options of a compilation in this process, as `compile_llvm` takes them.

    Attributes:
        target: "native", "avx512", "avx2" or "generic" x86-64.
        features: LLVM feature flags to add, such as "-avx512f".
        threads: the default number of threads per call; all available cores if None.
        cache: keep object code on disk for the next process.
        cache_dir: the folder of object code; the user's cache folder if None.
        latency: evaluate small batches sample by sample. Code for that is compiled now if True,
            with the first such call if None, and never if False.
    """

    target: str = "native"
    features: str = ""
    threads: int | None = None
    cache: bool = True
    cache_dir: str | Path | None = None
    latency: bool | None = None

    def object_cache(self) -> ObjectCache | None:
        """Return the cache of object code; None if there is none or it is switched off.

        Raises:
            BackendError: `cache_dir` cannot name a folder.
        """
        folder = default_folder() if self.cache_dir is None else _folder(self.cache_dir)
        return ObjectCache(folder) if self.cache and folder is not None else None


def _folder(cache_dir: str | Path) -> Path:
    name = os.fspath(cache_dir) if isinstance(cache_dir, (str, os.PathLike)) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise BackendError(
            f"cache_dir={cache_dir!r} does not name a folder; name one, leave cache_dir out for "
            "the user's cache folder, or give cache=False for no cache"
        )
    return Path(name)


@dataclass(frozen=True)
class AotOptions:
    """Options of an ahead-of-time compilation.

    Attributes:
        target: "portable" has code for x86-64, x86-64-v3 and x86-64-v4 and takes the best that a
            CPU has, or is "aarch64" on such a machine. One CPU alone: "native" (this one), "x86-64"
            or "generic", "x86-64-v3" or "avx2", "x86-64-v4" or "avx512", "aarch64" (with NEON). The
            operating system is this one's, or is named: "x86-64-macos", "aarch64-macos",
            "x86-64-windows" or "aarch64-windows".
        features: LLVM feature flags to add, such as "-avx512f".
        prefix: what the names of the C functions begin with; the graph's name if None.
        latency: include code and tables that evaluate small batches sample by sample, as far as
            that is faster than a block. A library without them is about half as large.
    """

    target: str = PORTABLE
    features: str = ""
    prefix: str | None = None
    latency: bool = True
