"""Files that arguments name: arrays, and paths that are no files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lgir.cli import main
from lgir.cli.files import read_array, read_model
from lgir.errors import FormatError, LgirError, UnknownNameError


def npy(header: bytes, data: bytes = bytes(12)) -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header) + 1) + header + b"\n" + data


def of_shape(shape: str, descr: str = "|u1") -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()


BAD = {
    "a cut header": npy(b"{'descr': '|u1', 'fortran_order"),
    "an axis beyond int64": npy(of_shape("(99999999999999999999,)")),
    "an empty array of a huge axis": npy(of_shape("(0, 4611686018427387904)")),
    "a boolean axis": npy(of_shape("(True, 12)")),
    "a negative axis": npy(of_shape("(-1,)")),
    "deep nesting": npy(of_shape("(" * 3000)),
    "digits": npy(of_shape(f"({'9' * 5000},)")),
    "65 axes": npy(of_shape(f"({'1,' * 65})")),
    "objects": npy(of_shape("(1,)", "|O")),
    "nothing of nothing": npy(of_shape("(1,)", "|V0")),
    "more than there is": npy(of_shape("(1000000000000,)")),
    "an archive": b"PK\x03\x04" + bytes(60),
    "version 9": b"\x93NUMPY\x09\x00" + bytes(60),
    "nothing": b"",
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(case, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(BAD[case])
    with pytest.raises(FormatError, match=r"a\.npy: (not a readable .npy file|an archive)"):
        read_array(str(path))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (), (1, 2, 3, 4, 5)])
def test_good_arrays(version, order, shape, tmp_path):
    for dtype in ("<f4", ">f8", "|u1", "|b1", "<i8"):
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype, order=order)
        with open(tmp_path / "a.npy", "wb") as file:
            np.lib.format.write_array(file, array, version=version)
        back = read_array(str(tmp_path / "a.npy"))
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)


ENDINGS = (".onnx", ".lgir", ".blif", ".aig", ".aag", ".npy")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["fifo", "folder", "link to a device", "NUL", "nothing"])
def test_what_is_no_regular_file_is_refused_at_once(ending: str, kind: str, tmp_path: Path):
    path = tmp_path / f"x{ending}"
    if kind == "fifo":
        if not hasattr(os, "mkfifo"):
            pytest.skip("needs FIFOs")
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        if not Path("/dev/zero").exists():
            pytest.skip("needs devices")
        path.symlink_to("/dev/zero")
    name = f"{path}\0" if kind == "NUL" else str(path)
    read = read_array if ending == ".npy" else read_model
    with pytest.raises(LgirError, match="cannot read"):
        read(name)


def test_limits_of_netlists_are_settings(tmp_path):
    path = tmp_path / "net.aig"
    path.write_bytes(b"aig 2000000 2000000 0 1 0\n2\n")
    with pytest.raises(FormatError, match="max_inputs="):
        read_model(str(path))
    assert read_model(str(path), max_inputs=2_000_000).inputs[0].size == 2_000_000
    with pytest.raises(FormatError, match="28 bytes, more than 10"):
        read_model(str(path), max_bytes=10)
    with pytest.raises(UnknownNameError, match="no option 'max_input'; did you mean 'max_inputs'"):
        read_model(str(path), max_input=1)
    with pytest.raises(FormatError, match="max_bytes='x' is not a number"):
        read_model(str(path), max_bytes="x")


def test_ascii_aiger_on_the_command_line(tmp_path):
    (tmp_path / "nand.aag").write_bytes(b"aag 3 2 0 1 1\n2\n4\n7\n6 4 2\n")
    result = CliRunner().invoke(main, ["dump", str(tmp_path / "nand.aag")])
    assert "%2 = tap 0[0]" in result.output
