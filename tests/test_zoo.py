"""The trained networks that are shipped: whole, checked, and equal to PyTorch when compiled."""

from pathlib import Path

import numpy as np
import pytest

import lgir
from lgir import zoo
from lgir.errors import FormatError, UnknownNameError
from lgir.frontend.training.data import load_array
from lgir.frontend.training.rebuild import rebuild
from paths import SHARED

torch = pytest.importorskip("torch")
EXAMPLES = Path(__file__).parents[1] / "examples"
CHECKPOINTS = {"mnist-s": "mnist.pt", "cifar10-s": "cifar10.pt"}


@pytest.mark.parametrize("name", zoo.PRETRAINED)
def test_a_trained_network_is_loaded_with_its_accuracy(name: str):
    graph = zoo.pretrained(name)
    assert graph.name == name
    assert zoo.build_net(name).nodes == graph.nodes
    if name != "digits":
        assert float(graph.metadata["training.test_accuracy"]) > 0.5


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_trained_network_is_its_checkpoint(name: str):
    assert zoo.pretrained(name).nodes == lgir.lift(EXAMPLES / CHECKPOINTS[name], check=False).nodes


def test_an_unknown_name_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10-s'"):
        zoo.pretrained("cifar10_s")


def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    data = bytearray(zoo.pretrained_file("digits").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "digits.onnx.xz").write_bytes(data)
    sums = zoo.pretrained_file("digits").with_name("SHA256SUMS").read_text()
    (tmp_path / "SHA256SUMS").write_text(sums)
    monkeypatch.setattr(zoo, "pretrained_file", lambda name: tmp_path / f"{name}.onnx.xz")
    with pytest.raises(FormatError, match=r"SHA-256.*install lgir anew"):
        zoo.pretrained("digits")
    with pytest.raises(FormatError, match="cannot be read"):
        zoo.pretrained("mnist-s")


def random_images(name: str, count: int) -> np.ndarray:
    """Smooth images of the network's range, so that thresholds see both values."""
    (value,) = zoo.pretrained(name).inputs
    high = {"digits": 17, "mnist-s": 256, "cifar10-s": 32}[name]
    coarse = np.random.default_rng(0).random((count, value.shape[0], 8, 8))
    factor = -(-value.shape[1] // 8)
    fine = np.kron(coarse, np.ones((factor, factor)))[..., : value.shape[1], : value.shape[2]]
    return np.ascontiguousarray((fine * high).astype(np.uint8))


@pytest.mark.parametrize("name", zoo.PRETRAINED)
def test_compiled_scores_equal_those_of_pytorch(name: str):
    graph, images = zoo.pretrained(name), random_images(name, 70)
    with torch.inference_mode():
        expected = rebuild(graph)(torch.from_numpy(images)).numpy()
    assert len(np.unique(expected.argmax(1))) > 1
    np.testing.assert_array_equal(lgir.compile(lgir.optimize(graph)[0])(images), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist-s", "cifar10-s"])
def test_the_whole_test_set_gives_pytorchs_scores_and_the_stated_accuracy(name: str):
    entry, graph = zoo.PRETRAINED[name], zoo.pretrained(name)
    if not (SHARED / "data").is_dir():
        pytest.skip("the data is not here")
    x, y = (load_array(SHARED / "data", file) for file in (entry.images, entry.labels))
    images = x[:, None] if x.ndim == 3 else np.ascontiguousarray(np.moveaxis(x, -1, 1))
    scores = lgir.compile(lgir.optimize(graph)[0])(images)
    with torch.inference_mode():
        parts = [rebuild(graph)(part) for part in torch.from_numpy(images).split(500)]
    np.testing.assert_array_equal(scores, torch.cat(parts).numpy())
    accuracy = (scores.argmax(1) == y).mean()
    assert f"{accuracy:.4f}" == f"{float(graph.metadata['training.test_accuracy']):.4f}"
