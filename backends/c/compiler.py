"""The system's C compiler, called to build a shared library from one file."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from lgir.errors import BackendError
from lgir.files import temporary_folder, write_atomically


def link_shared(
    name: str, data: bytes, *, cc: str = "cc", flags: Sequence[str] = (), instead: str
) -> bytes:
    """Return the shared library that a C compiler builds from a source or an object.

    Args:
        name: the file's name, whose ending says what `data` is.
        data: the file's content.
        cc: the compiler, a command that may have arguments.
        flags: further arguments.
        instead: what works without a C compiler, for the error message.

    Raises:
        BackendError: there is no such compiler, or it fails.
        FormatError: there is no folder for temporary files, or it is full.
    """
    with temporary_folder() as folder:
        source, library = folder / name, folder / "library.so"
        write_atomically(source, data)
        command = [*shlex.split(cc), *flags, "-shared", "-o", str(library), str(source)]
        try:
            process = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise BackendError(
                f"cannot run the C compiler {cc!r} ({error.strerror}); install one, name another, "
                f"or {instead}"
            ) from None
        if process.returncode or not library.exists():
            messages = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise BackendError(f"{cc!r} cannot make a shared library of {name}: {messages[0]}")
        return library.read_bytes()
