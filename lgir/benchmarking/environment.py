"""The machine and the versions behind a figure."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

_SIMD: Final = ("avx2", "avx512f", "gfni", "neon", "sve")


def environment(*, torch: bool = False) -> dict[str, str]:
    """Return the processor and the versions of packages, as a report states them."""
    cpu, simd = _processor()
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    packages = ["lgir", "numpy", "llvmlite", *(["torch"] if torch else [])]
    versions = [f"{name} {number}" for name in packages if (number := _version(name))]
    return {
        "cpu": f"{cpu}, {cores} cores, {simd}",
        "software": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> tuple[str, str]:
    """Return the name of the processor, and LLVM's name for it with its vector features."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
        name = models[0] if models else name
    except OSError:
        pass
    try:
        import llvmlite.binding as llvm
    except ImportError:
        return name, platform.machine()
    features = llvm.get_host_cpu_features()
    return name, " ".join([llvm.get_host_cpu_name(), *(f for f in _SIMD if features.get(f))])
