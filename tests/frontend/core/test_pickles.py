"""The machine that reads pickles as data."""

import operator
import pickle
import struct
from collections import Counter, OrderedDict, defaultdict
from pathlib import PurePosixPath, PureWindowsPath
from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgir.frontend.core.pickled_values import PLAIN_VALUES
from lgir.frontend.core.pickles import PickleError, UnknownGlobalError, read_pickle

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text() | st.binary()
)  # fmt: skip
KEYS = st.text() | st.integers(-(2**63), 2**63) | st.none() | st.binary(max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
    ),
)


def read(data):
    return read_pickle(data, 0, PLAIN_VALUES)[0]


@given(VALUES, st.integers(2, 5))
def test_plain_values_are_read_as_pickle_reads_them(value, protocol):
    data = pickle.dumps(value, protocol)
    found, end = read_pickle(b"  " + data + b"behind", 2, PLAIN_VALUES)
    assert found == value
    assert end == 2 + len(data)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        (OrderedDict(a=1, b=2), {"a": 1, "b": 2}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (bytearray(b"\x00\xff"), b"\x00\xff"),
        (PurePosixPath("a/b"), PurePosixPath("a/b")),
        (PureWindowsPath("a/b"), PureWindowsPath("a/b")),
        (2 - 3j, 2 - 3j),
        (np.float32(1.5), np.float32(1.5)),
        (np.int64(-3), np.int64(-3)),
        (np.bool_(True), np.bool_(True)),
    ],
)
def test_values_of_known_classes_are_read(value, expected, protocol):
    assert read(pickle.dumps(value, protocol)) == expected


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array([1, 2], ">i4"),
        np.array(3.0),
        np.zeros((0, 4), np.float16),
        np.array([True, False]),
        np.array(["cat", "dog"]),
        np.array(["cat", None, 3], object),
    ],
)
def test_arrays_of_numpy_are_read(array, protocol):
    (found, again) = read(pickle.dumps([array, array], protocol))
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert (found == array).all()
    assert found is again


def test_other_names_are_refused_without_being_called():
    with pytest.raises(UnknownGlobalError, match=r"names operator\.add|names _operator\.add"):
        read(pickle.dumps(operator.add))
    with pytest.raises(UnknownGlobalError, match=r"names builtins\.eval"):
        read(b"\x80\x02c__builtin__\neval\nU\x011\x85R.")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02U\x01aU\x01b\x85R.",  # calls text
        b"\x80\x02cbuiltins\nint\nK\x01\x85R.",  # calls a class that may only be named
        b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",  # would allocate 2 GiB
        b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\x02cbuiltins\nset\n}b.",  # gives attributes to a class
        b"\x80\x02K\x01}b.",
        b"\x80\x02}K\x01a.",  # appends to a dict
        b"\x80\x02](K\x01K\x02u.",  # puts items into a list
        b"\x80\x02K\x01\x87.",  # a tuple of more values than there are
        b"\x80\x02h\x07.",  # nothing is kept there
        b"\x80\x02X\xff\xff\xff\x7fa.",  # text of 2 GiB
        b"\x80\x02\x8b\xff\xff\xff\xff.",  # a number of -1 bytes
        b"\x80\x02Q.",
        b"\x80\x02" + b"c" + b"a" * 5000,
        b"\x80\x02(((.",
        b"\x80\x02.",
        b"\x80\x02",
        b"",
        b"\x80\x02I5\n.",  # an opcode of protocol 0
    ],
)
def test_damage_is_one_kind_of_error(data):
    with pytest.raises(PickleError):
        read(data)


def scalar_of(dtype, content):
    """Pickle numpy's function that makes a number from a dtype and content."""
    function = b"cnumpy._core.multiarray\nscalar\n"
    return b"\x80\x02" + function + pickle.dumps(dtype, 2)[2:-1] + content + b"\x86R."


def test_arrays_cannot_smuggle_pointers_to_objects():
    record = np.dtype([("a", "O")])
    pointer = b"cnumpy._core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    for dtype in (record, np.dtype("V8"), np.dtype("M8[s]")):
        with pytest.raises(PickleError, match="not of numbers or text"):
            read(scalar_of(dtype, pointer))
    with pytest.raises(PickleError, match="another number"):
        read(scalar_of(np.dtype(object), b"U\x08" + struct.pack("<q", 1 << 40)))
    with pytest.raises(PickleError, match="another number of bytes"):
        read(scalar_of(np.dtype("f8"), b"U\x01a"))


@pytest.mark.parametrize("shape", [(2**31, 2**31), (-1,), (3,), ("a",), 5])
def test_arrays_have_the_bytes_that_their_shape_says(shape):
    state = (1, shape, np.dtype("f4"), False, b"abcdefgh")
    new = b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    with pytest.raises(PickleError):
        read(new + pickle.dumps(state, 2)[2:-1] + b"b.")


@pytest.mark.parametrize(
    "data",
    [
        # A tuple of a tuple of itself and itself ...: its hash would take 2**200 steps.
        b"\x80\x02)q\x00" + b"h\x00\x86q\x00" * 200 + b"0}h\x00Ns.",
        b"\x80\x02}" + b"(" * 100_000 + b"t" * 100_000 + b"Ns.",  # deep
        # The hash of a long integer is computed at each use.
        b"\x80\x02}\x8b" + struct.pack("<i", 9**6) + b"\x7f" * 9**6 + b"q\x00N" + b"sh\x00N" * 999,
    ],
    ids=["shared", "deep", "long"],
)  # fmt: skip
def test_keys_that_are_slow_to_hash_are_refused(data):
    start = process_time()
    with pytest.raises(PickleError, match="as a key"):
        read(data)
    assert process_time() - start < 2
