"""Writing whole files: permissions, links, names that are no files, and temporary folders."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

import lgir
from lgir import files
from lgir.errors import FormatError, LgirError
from lgir.files import check_writable, temporary_folder, write_atomically
from lgir.zoo import dense_net

needs_modes = pytest.mark.skipif(os.name != "posix", reason="needs the modes of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@needs_modes
@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o604, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    path.chmod(permissions)
    lgir.save(dense_net(1, 100, inputs=10, classes=5), path)
    assert mode(path) == permissions


@needs_modes
def test_a_new_file_has_what_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", b"data")
    finally:
        os.umask(old)
    assert mode(tmp_path / "new") == 0o640


@needs_modes
def test_a_file_is_never_readable_by_more_than_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o600)
    modes = []
    replace = os.replace

    def look(source: Path, target: Path) -> None:
        modes.append(mode(source))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", look)
    write_atomically(path, b"new")
    assert modes == [0o600]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)
def test_root_leaves_a_users_file_to_the_user(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.chown(path, 12345, 54321)
    write_atomically(path, b"new")
    status = path.stat()
    assert (status.st_uid, status.st_gid, mode(path)) == (12345, 54321, 0o640)


@needs_modes
def test_another_group_is_not_given_what_the_group_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shared"
    path.write_bytes(b"old")
    path.chmod(0o664)
    old = path.stat()

    def refuse(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "chown", refuse)
    foreign = os.stat_result((*old[:4], old.st_uid, old.st_gid + 1, *old[6:]))
    files._copy_permissions(foreign, path)
    assert mode(path) == 0o604


@needs_modes
def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert mode(target) == 0o600


@needs_modes
@pytest.mark.parametrize("use", [check_writable, lambda path: write_atomically(path, b"")])
def test_a_name_of_no_file_is_an_error(tmp_path: Path, use: object) -> None:
    assert callable(use)
    os.mkfifo(tmp_path / "pipe")
    names = ["", "a\0b", tmp_path, tmp_path / "pipe", tmp_path / "no" / "file", "/dev/null"]
    for name in [*names, tmp_path / "pipe" / "file", tmp_path / ("x" * 300)]:
        if use is check_writable and str(name).endswith("xxx"):
            continue  # only writing shows what the file system's limits are
        with pytest.raises(FormatError, match="cannot write"):
            use(name)


def test_no_folder_for_temporary_files_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    with (
        pytest.raises(FormatError, match=r"cannot make a temporary folder .* TMPDIR"),
        temporary_folder(),
    ):
        pass
    with pytest.raises(LgirError, match="cannot make a temporary folder"):
        lgir.compile(dense_net(1, 100, inputs=10, classes=5), "c")
