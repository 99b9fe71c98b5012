"""Files of torch.save, read without torch: what torch.load gives, and what is refused."""

import io
import struct
import tarfile
import zipfile
from collections import defaultdict
from time import process_time

import numpy as np
import pytest
import torch
from torch import nn

import lgir
from lgir.errors import FormatError, LgirError
from lgir.frontend.core.checkpoint import array_of
from lgir.frontend.core.torch_file import read_torch_file

torch.set_num_threads(1)


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def read(value, **options):
    return read_torch_file(saved(value, **options), "x.pt")


def repacked(data, change):
    """Return an archive whose members are those of `data` changed by `change(name, content)`."""
    new = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(new, "w") as archive:
        for name in old.namelist():
            archive.writestr(name, change(name, old.read(name)))
    return new.getvalue()


WRITERS = [
    {"_use_new_zipfile_serialization": new, "pickle_protocol": protocol}
    for new in (True, False)
    for protocol in (2, 3, 4, 5)
]

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
    torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@pytest.mark.parametrize("options", WRITERS)
def test_tensors_are_those_of_torch(options):
    numbers = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "plain": numbers,
        "transposed": numbers.T,
        "strided": numbers[1::2, ::3],
        "repeated": numbers[:1].expand(5, 6),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(2.5),
        "parameter": nn.Parameter(numbers + 1),
        "buffer": nn.Buffer(numbers - 1),
        "shared": numbers[2],
    }
    loaded = read(tensors, **options)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == array_of(tensor).dtype
        assert np.array_equal(loaded[name], array_of(tensor)), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_elements_of_every_dtype_are_those_of_torch(dtype):
    # Every pattern of 16 bits, which holds all numbers of the small dtypes.
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16)
    if dtype == torch.bool:
        tensor = torch.tensor([True, False, True])
    else:
        tensor = bits.view(torch.uint8).view(dtype)
    legacy = dtype not in (torch.uint16, torch.uint32, torch.uint64)
    for new in [True, False] if legacy else [True]:
        found = read([tensor], _use_new_zipfile_serialization=new)[0]
        assert found.dtype == array_of(tensor).dtype
        assert np.array_equal(found, array_of(tensor), equal_nan=found.dtype.kind in "fc")


def test_conjugated_and_negated_views_are_read_as_their_values():
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    assert np.array_equal(read(numbers.conj()), [1 - 2j, 3 + 4j])
    assert np.array_equal(read(numbers.conj().imag), [-2, 4])


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("options", WRITERS[:1] + WRITERS[4:5])
def test_sparse_tensors_become_dense(options):
    dense = torch.eye(4, 16)
    dense[2, 3] = 5
    found = read([dense.to_sparse(), dense.to_sparse_csr()], **options)
    assert np.array_equal(found[0], dense)
    assert np.array_equal(found[1], dense)


def test_archives_of_other_byte_orders_are_read():
    swapped = repacked(
        saved({"a": torch.tensor([1.5, 2.5])}),
        lambda name, data: (
            b"big" if name.endswith("byteorder")
            else struct.pack(">2f", 1.5, 2.5) if "/data/" in name
            else data
        ),
    )  # fmt: skip
    assert np.array_equal(read_torch_file(swapped, "x.pt")["a"], [1.5, 2.5])


def test_what_scripts_keep_beside_weights_is_read(tmp_path):
    state = {"0.weights": torch.randn(4, 16)}
    wires = [(torch.tensor([0, 1, 0, 1]), torch.tensor([1, 0, 1, 0]))]
    beside = {
        "accuracy": np.float64(0.5),
        "losses": np.linspace(0, 1, 5),
        "names": np.array(["cat", "dog"]),
        "history": defaultdict(list, {"loss": [0.5, 0.25]}),
        "rng": np.random.RandomState(0).get_state(),
    }
    torch.save({"model": state, **beside}, tmp_path / "net.pt")
    graph = lgir.lift(tmp_path / "net.pt", indices=wires)
    assert graph.nodes == lgir.lift(state, indices=wires).nodes
    assert graph.metadata["training.accuracy"] == "0.5"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_wires_saved_as_arrays_of_numpy_are_read(tmp_path, protocol):
    state = {"0.weights": torch.randn(4, 16)}
    pair = (np.array([0, 1, 0, 1]), np.array([1, 0, 1, 0]))
    torch.save([pair], tmp_path / "wires.pt", pickle_protocol=protocol)
    assert lgir.lift(state, indices=tmp_path / "wires.pt") == lgir.lift(state, indices=[pair])


def quantized():
    return torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8)


def nested():
    return torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (quantized, "quantized tensors; save the state_dict of the float model"),
        (nested, "nested tensors"),
        (lambda: torch.zeros(3, device="meta"), "meta device"),
        (lambda: torch.eye(2).to_sparse_csc(), "save to_dense"),
    ],
)
def test_tensors_without_plain_numbers_are_refused_with_the_way_out(make, message):
    with pytest.raises(FormatError, match=message):
        read({"0.weights": make()})


def test_archives_of_other_kinds_are_refused_with_the_way_out(tmp_path):
    class Net(nn.Module):
        def forward(self, x):
            return x + 1

    torch.export.save(torch.export.export(Net(), (torch.zeros(1),)), tmp_path / "net.pt2")
    with pytest.raises(FormatError, match=r"an exported program.*save its state_dict"):
        read_torch_file((tmp_path / "net.pt2").read_bytes(), "net.pt2")
    with tarfile.open(tmp_path / "old.pt", "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    with pytest.raises(FormatError, match="a tar archive"):
        lgir.lift(tmp_path / "old.pt")


def test_compressed_members_are_refused():
    squeezed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(10**6)}))) as old,
        zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert len(squeezed.getvalue()) < 20_000
    with pytest.raises(FormatError, match=r"members are compressed.*zip -0"):
        read_torch_file(squeezed.getvalue(), "x.pt")


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**5, 10**5),
        torch.sparse_coo_tensor([[0], [0]], [1.0], (10**5, 10**5), check_invariants=True),
    ],
    ids=["strides of 0", "sparse"],
)
def test_small_files_cannot_stand_for_large_tensors(tensor, new):
    with pytest.raises(FormatError, match="more than 8 times the bytes of the file"):
        read({"a": tensor}, _use_new_zipfile_serialization=new)


def test_many_views_of_one_storage_are_bounded():
    numbers = torch.zeros(10**5)
    with pytest.raises(FormatError, match="more than 8 times"):
        read({str(n): numbers[n:] for n in range(100)})


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"K\x04K\x10\x86", b"K\xffK\xff\x86"),  # a larger shape
        lambda data: data.replace(b"FloatStorage", b"DoubleStorage"),
        lambda data: data.replace(b"K\x10K\x01\x86", b"K\xffK\x01\x86"),  # strides
        lambda data: data.replace(b"QK\x00K\x04", b"QK\x09K\x04"),  # the offset
        lambda data: data[:-1],
        lambda data: b"",
    ],
)
def test_tensors_outside_of_their_storage_are_refused(change):
    data = saved({"0.weights": torch.zeros(4, 16)})
    bad = repacked(data, lambda name, c: change(c) if name.endswith("data.pkl") else c)
    assert bad != repacked(data, lambda name, c: c)
    with pytest.raises(LgirError, match="corrupt"):
        read_torch_file(bad, "x.pt")


def test_time_is_linear_in_the_number_of_tensors():
    def seconds(count):
        data = saved({f"x.{n}": torch.zeros(1) for n in range(count)})
        start = process_time()
        assert len(read_torch_file(data, "x.pt")) == count
        return process_time() - start

    seconds(10)
    assert seconds(8000) < 8 * 3 * max(seconds(1000), 0.02)
