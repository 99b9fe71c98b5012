"""The system's C compiler: objects or sources to a shared library, with errors that say why not."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lgir.errors import BackendError


def link_shared(
    name: str, data: bytes, *, cc: str = "cc", flags: Sequence[str] = (), instead: str
) -> bytes:
    """The shared library that `cc`, a command that may have arguments, makes of one file.

    Args:
        name: the file's name, whose ending says what `data` is.
        instead: what works without a C compiler, for the error message.

    Raises:
        BackendError: there is no such compiler, or it fails.
    """
    with tempfile.TemporaryDirectory(prefix="lgir-") as folder:
        source, result = Path(folder, name), Path(folder, "library.so")
        source.write_bytes(data)
        command = [*shlex.split(cc), *flags, "-shared", "-o", str(result), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise BackendError(
                f"cannot run the C compiler {cc!r} ({error.strerror}); install one, name another, "
                f"or {instead}"
            ) from None
        if done.returncode or not result.exists():
            what = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
            raise BackendError(f"{cc!r} cannot make a shared library of {name}: {what}")
        return result.read_bytes()
