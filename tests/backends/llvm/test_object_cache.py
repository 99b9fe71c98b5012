"""The on-disk cache of object code: what hits, what misses, and that damage costs only time."""

from __future__ import annotations

import os
import platform
import stat
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lgir
from lgir.backends.llvm import LlvmExecutable, folder_trust, object_cache
from lgir.backends.llvm.object_cache import ObjectCache, default_folder
from lgir.errors import BackendError
from lgir.zoo import dense_net

KEY = "ab" + "0" * 62
OTHER = "ab" + "1" * 62


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def build(folder: Path, seed: int = 0, **options: object) -> LlvmExecutable:
    exe = lgir.compile(dense_net(2, 400, seed=seed), "llvm", cache_dir=folder, **options)
    assert isinstance(exe, LlvmExecutable)
    return exe


def assert_right(exe: lgir.Executable) -> None:
    x = np.random.default_rng(0).random((600, 784)) < 0.5
    np.testing.assert_array_equal(exe(x), lgir.compile(exe.graph, "reference")(x))


def test_a_second_compile_takes_all_code_from_the_cache(tmp_path):
    first = build(tmp_path)
    assert first.compiled_kernels == len(entries(tmp_path)) > 0
    second = build(tmp_path)
    assert second.compiled_kernels == 0
    assert_right(second)


def test_networks_of_other_wiring_share_entries(tmp_path):
    build(tmp_path, seed=0)
    other = build(tmp_path, seed=1)
    assert other.compiled_kernels == 0
    assert_right(other)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86-64 targets")
def test_other_features_or_targets_do_not_share_entries(tmp_path):
    all_kernels = build(tmp_path).compiled_kernels
    for options in ({"features": "-avx2"}, {"target": "generic"}):
        other = build(tmp_path, **options)
        assert other.compiled_kernels == all_kernels
        assert_right(other)


def test_another_version_does_not_share_entries(tmp_path, monkeypatch):
    all_kernels = build(tmp_path).compiled_kernels
    monkeypatch.setattr("lgir.backends.llvm.jit.__version__", "0.0.1")
    assert build(tmp_path).compiled_kernels == all_kernels


def test_no_cache_reads_and_writes_nothing(tmp_path):
    exe = build(tmp_path, cache=False)
    assert exe.compiled_kernels > 0
    assert entries(tmp_path) == []


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in the checksum": lambda data: data[:20],
    "cut to the checksum": lambda data: data[:32],
    "cut in the code": lambda data: data[:-100],
    "longer": lambda data: data + b"\0",
    "a bit of the checksum": lambda data: flip(data, 0),
    "a bit of the code": lambda data: flip(data, len(data) // 2),
    "the last bit": lambda data: flip(data, len(data) - 1),
    "another file": lambda data: b"\x7fELF" * 100,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_entries_are_rebuilt(tmp_path, damage):
    build(tmp_path)
    good = {path: path.read_bytes() for path in entries(tmp_path)}
    for path, data in good.items():
        path.write_bytes(damage(data))
    exe = build(tmp_path)
    assert exe.compiled_kernels == len(good)
    assert_right(exe)
    assert {path: path.read_bytes() for path in entries(tmp_path)} == good


def test_a_damaged_entry_is_removed_when_it_is_met(tmp_path):
    store = ObjectCache(tmp_path)
    store.put(KEY, b"code")
    (path,) = entries(tmp_path)
    path.write_bytes(flip(path.read_bytes(), 33))
    assert store.get(KEY) is None
    assert not path.exists()


def test_an_entry_under_another_name_is_damaged(tmp_path):
    store = ObjectCache(tmp_path)
    store.put(KEY, b"code")
    (path,) = entries(tmp_path)
    path.rename(path.with_name(OTHER[2:]))
    assert store.get(OTHER) is None


def test_a_folder_in_an_entrys_place_is_a_miss(tmp_path):
    build(tmp_path)
    path = entries(tmp_path)[0]
    path.unlink()
    path.mkdir()
    for _ in range(2):
        exe = build(tmp_path)
        assert exe.compiled_kernels == 1
        assert_right(exe)


def refuse_writing(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """Fail as a folder without permission or a full disk does; tests may run as root."""

    def fail(*_args: object, **_keywords: object) -> None:
        raise error

    monkeypatch.setattr(object_cache.os, "utime", fail)
    monkeypatch.setattr(Path, "unlink", fail)
    monkeypatch.setattr(Path, "mkdir", fail)
    monkeypatch.setattr("lgir.files.os.replace", fail)


def test_a_read_only_folder_still_serves_what_it_has(tmp_path, monkeypatch):
    build(tmp_path)
    refuse_writing(monkeypatch, PermissionError(13, "Permission denied"))
    assert build(tmp_path).compiled_kernels == 0
    path = entries(tmp_path)[0]
    path.write_bytes(b"damaged")
    exe = build(tmp_path)
    assert exe.compiled_kernels == 1
    assert_right(exe)
    assert path.read_bytes() == b"damaged"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_permission_is_a_slower_one(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o500)
    assert_right(build(folder))
    assert entries(folder) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lgir.files.os.replace", fail)
        assert_right(build(tmp_path))
        assert entries(tmp_path) == []
    assert build(tmp_path).compiled_kernels > 0


def test_a_file_in_the_folders_place_disables_the_cache(tmp_path):
    path = tmp_path / "file"
    path.write_text("not a folder")
    for folder in (path, path / "deeper"):
        assert_right(build(folder))
    assert path.read_text() == "not a folder"


def test_entries_are_private_to_the_user(tmp_path):
    folder = tmp_path / "a" / "cache"
    ObjectCache(folder).put(KEY, b"code")
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


needs_modes = pytest.mark.skipif(os.name != "posix", reason="needs the modes of POSIX")

LOOSE: dict[str, Callable[[Path], None]] = {
    "folder of the group": lambda folder: folder.chmod(0o770),
    "folder of all": lambda folder: folder.chmod(0o777),
    "shard": lambda folder: (folder / KEY[:2]).chmod(0o770),
    "entry": lambda folder: (folder / KEY[:2] / KEY[2:]).chmod(0o606),
    "parent": lambda folder: folder.parent.chmod(0o777),
    "another user's": lambda folder: None,
}


@needs_modes
@pytest.mark.parametrize("loosen", LOOSE.values(), ids=LOOSE)
def test_code_that_others_can_write_is_neither_read_nor_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loosen: Callable[[Path], None]
) -> None:
    folder = tmp_path / "parent" / "cache"
    ObjectCache(folder).put(KEY, b"code")
    loosen(folder)
    if loosen is LOOSE["another user's"]:
        user = os.geteuid()
        monkeypatch.setattr(folder_trust.os, "geteuid", lambda: user + 1)
    store = ObjectCache(folder)
    with pytest.warns(UserWarning, match=r"not cached: .* see SECURITY.md"):
        assert store.get(KEY) is None
    with warnings.catch_warnings():  # there is one warning
        warnings.simplefilter("error")
        store.put(OTHER, b"more")
        assert store.get(KEY) is None
    assert len(entries(folder)) == 1


@needs_modes
@pytest.mark.filterwarnings("error")
def test_a_sticky_folder_may_hold_the_cache(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    store = ObjectCache(tmp_path / "a" / "cache")
    store.put(KEY, b"code")
    assert store.get(KEY) == b"code"


@needs_modes
def test_nothing_is_created_in_a_folder_that_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.warns(UserWarning, match="in which the cache lies, can be written"):
        ObjectCache(tmp_path / "a" / "cache").put(KEY, b"code")
    assert list(tmp_path.iterdir()) == []


@needs_modes
def test_links_on_the_way_must_be_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "to").symlink_to("real/..")
    (tmp_path / "real").mkdir()
    assert folder_trust.distrust_of_folder(tmp_path / "to" / "real" / "new") is None
    lstat = Path.lstat

    def as_if_of_another_user(path: Path) -> Any:
        status = lstat(path)
        return SimpleNamespace(
            st_mode=status.st_mode, st_uid=12345 if path.name == "to" else status.st_uid
        )

    monkeypatch.setattr(Path, "lstat", as_if_of_another_user)
    reason = folder_trust.distrust_of_folder(tmp_path / "to" / "real")
    assert reason == f"{tmp_path / 'to'} is a link of another user"


@needs_modes
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
@pytest.mark.filterwarnings("error")
def test_what_the_cache_creates_is_trusted_under_any_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        ObjectCache(tmp_path / "a" / "b" / "cache").put(KEY, b"code")
    finally:
        os.umask(old)
    assert ObjectCache(tmp_path / "a" / "b" / "cache").get(KEY) == b"code"


@needs_modes
@pytest.mark.parametrize("kind", ["pipe", "link", "device", "folder"])
def test_what_is_no_regular_file_is_no_entry(tmp_path: Path, kind: str) -> None:
    store = ObjectCache(tmp_path)
    store.put(KEY, b"code")
    path = tmp_path / KEY[:2] / KEY[2:]
    victim = tmp_path / "victim"
    path.rename(victim)
    before = victim.read_bytes()
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(mode=0o700)
    else:
        path.symlink_to(victim if kind == "link" else "/dev/zero")
    assert store.get(KEY) is None
    store.put(KEY, b"new")
    assert store.get(KEY) is None
    assert victim.read_bytes() == before
    store.put(OTHER, b"other")  # the rest still works
    assert store.get(OTHER) == b"other"


def test_an_entry_larger_than_any_code_is_not_read(tmp_path: Path) -> None:
    store = ObjectCache(tmp_path)
    store.put(KEY, b"code")
    with (tmp_path / KEY[:2] / KEY[2:]).open("r+b") as file:
        file.truncate(1 << 40)
    assert store.get(KEY) is None


@pytest.mark.parametrize("name", ["", "a\0b", 5])
def test_a_name_of_no_folder_is_an_error(name: Any) -> None:
    with pytest.raises(BackendError, match=r"cache_dir=.*does not name a folder"):
        build(name)


def test_the_least_recently_used_entries_are_dropped(tmp_path):
    store = ObjectCache(tmp_path, limit=256 * 3000)  # 3000 bytes per subfolder
    keys = [f"ab{i:062x}" for i in range(4)]
    for i, key in enumerate(keys[:3]):
        store.put(key, bytes(900))
        os.utime(tmp_path / key[:2] / key[2:], (i, i))
    assert store.get(keys[0]) is not None  # It is the most recently used now.
    store.put(keys[3], bytes(900))
    assert [store.get(key) is not None for key in keys] == [True, False, True, True]


def test_files_of_a_killed_process_are_dropped_in_time(tmp_path):
    store = ObjectCache(tmp_path, limit=256 * 1000)
    store.put(KEY, bytes(100))
    leftover = tmp_path / "ab" / ".lgir-000.tmp"
    leftover.write_bytes(bytes(900))
    os.utime(leftover, (0, 0))
    store.put(OTHER, bytes(100))
    assert not leftover.exists()
    assert store.get(KEY) is not None


def compile_in_a_process(folder: Path) -> tuple[int, np.ndarray]:
    exe = build(folder)
    x = np.random.default_rng(0).random((600, 784)) < 0.5
    return exe.compiled_kernels, exe(x)


def test_processes_fill_one_cache_at_once(tmp_path):
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(compile_in_a_process, [tmp_path] * 8))
    exe = build(tmp_path)
    assert exe.compiled_kernels == 0
    x = np.random.default_rng(0).random((600, 784)) < 0.5
    expected = lgir.compile(exe.graph, "reference")(x)
    for _, scores in results:
        np.testing.assert_array_equal(scores, expected)
    assert not [path for path in entries(tmp_path) if path.suffix == ".tmp"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the XDG convention")
class TestDefaultFolder:
    def test_it_is_in_the_users_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert default_folder() == tmp_path / ".cache" / "lgir"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # The convention ignores it.
        assert default_folder() == tmp_path / ".cache" / "lgir"

    def test_compile_uses_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr("lgir.backends.llvm.options.default_folder", default_folder)
        exe = lgir.compile(dense_net(1, 400), "llvm")
        assert len(entries(tmp_path / "lgir")) == exe.compiled_kernels > 0

    def test_it_is_not_used_if_it_belongs_to_somebody_else(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        for folder in (tmp_path, tmp_path / "cache" / "lgir"):
            folder.mkdir(parents=True, exist_ok=True)
            assert default_folder() == tmp_path / "cache" / "lgir"
            with monkeypatch.context() as patch:
                patch.setattr(object_cache.os, "geteuid", lambda: os.getuid() + 1)
                assert default_folder() is None

    def test_without_a_home_there_is_none(self, monkeypatch):
        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
        assert default_folder() is None
        monkeypatch.setattr("lgir.backends.llvm.options.default_folder", default_folder)
        assert_right(lgir.compile(dense_net(1, 400), "llvm"))
