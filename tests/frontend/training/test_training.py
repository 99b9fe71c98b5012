"""Training: a stopped run resumes to the same bits, files are read and written whole."""

import io
import json
import lzma
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

import lgir
from lgir.errors import FormatError, LgirError
from lgir.frontend.layers import GroupSum, LogicDense, LogicNet
from lgir.frontend.training.data import Dataset, augmented, dataset, load_array
from lgir.frontend.training.evaluation import Curve, accuracy
from lgir.frontend.training.loop import Recipe, load_trained, save_trained, train
from lgir.frontend.training.models import (
    CIFAR10_SIZES,
    MNIST_SIZES,
    NetSize,
    cifar10_net,
    mnist_net,
    pixel_levels,
)
from paths import ROOT

torch.set_num_threads(1)

EXAMPLES = ROOT / "examples"
RECIPE = Recipe(steps=30, batch=16, learning_rate=0.05, weight_decay=0.01, decay=True, seed=3)


def net():
    return LogicNet(
        LogicDense(16, 40, seed=0), LogicDense(40, 20, seed=1), GroupSum(2, 4), input_shape=(16,)
    )


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (200, 16), dtype=torch.uint8, generator=generator)
    return Dataset(x, (x[:, :3].sum(1) > 1).long())


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_run_stopped_by_a_signal_resumes_to_the_same_bits(data, tmp_path):
    whole, parts = net(), net()
    assert train(whole, data, RECIPE, tmp_path / "whole.pt")

    def stop(progress):
        if progress.step == 11:
            os.kill(os.getpid(), signal.SIGTERM)

    assert not train(parts, data, RECIPE, tmp_path / "parts.pt", stop)
    assert not same(weights(whole), weights(parts))
    resumed, steps = net(), []
    assert train(resumed, data, RECIPE, tmp_path / "parts.pt", lambda p: steps.append(p.step))
    assert steps == list(range(12, 31))
    assert same(weights(whole), weights(resumed))


def test_a_run_killed_outright_goes_on_from_its_last_checkpoint(data, tmp_path):
    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 17:
            raise Killed

    recipe = replace(RECIPE, save_every=0.0)
    with pytest.raises(Killed):
        train(net(), data, recipe, tmp_path / "killed.pt", kill)
    steps = []
    resumed, whole = net(), net()
    assert train(resumed, data, RECIPE, tmp_path / "killed.pt", lambda p: steps.append(p.step))
    assert steps == list(range(18, 31))
    assert train(whole, data, RECIPE, tmp_path / "whole.pt")
    assert same(weights(whole), weights(resumed))


def test_a_run_with_average_and_augmentation_resumes_to_the_same_bits(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (60, 1, 4, 4), dtype=torch.uint8, generator=generator)
    images = Dataset(x, (x.flatten(1)[:, :3].sum(1) > 1).long())
    recipe = replace(RECIPE, average=0.9, shift=1, flip=True, hard_steps=10, save_every=0.0)

    def image_net():
        layers = LogicDense(16, 40, seed=0), GroupSum(2, 4)
        return LogicNet(torch.nn.Flatten(), *layers, input_shape=(1, 4, 4))

    def stop(progress):
        if progress.step == 11:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, resumed = image_net(), image_net()
    assert train(whole, images, recipe, tmp_path / "whole.pt")
    assert not train(image_net(), images, recipe, tmp_path / "parts.pt", stop)
    assert train(resumed, images, recipe, tmp_path / "parts.pt")
    assert same(weights(whole), weights(resumed))
    again = image_net()
    assert train(again, images, recipe, tmp_path / "parts.pt")
    assert same(weights(again), weights(resumed))


def test_the_average_follows_the_weights(data, tmp_path):
    seen, model = [], net()
    recipe = replace(RECIPE, steps=3, average=0.75)
    expected = weights(model)

    def follow(progress):
        for value, now in zip(expected, weights(model), strict=True):
            value.lerp_(now, 0.25)
        seen.append([value.clone() for value in progress.average])
        torch.testing.assert_close(seen[-1], expected)

    train(model, data, recipe, tmp_path / "run.pt", follow)
    assert same(weights(model), seen[-1])


def test_augmentation_moves_and_mirrors_images():
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4).expand(200, 1, 3, 4)
    generator = torch.Generator().manual_seed(0)
    out = augmented(image, 1, True, generator)
    padded = torch.nn.functional.pad(image[0, 0], (1, 1, 1, 1))
    moved = [padded[y : y + 3, x : x + 4] for y in range(3) for x in range(3)]
    flipped = torch.nn.functional.pad(image[0, 0].flip(1), (1, 1, 1, 1))
    moved += [flipped[y : y + 3, x : x + 4] for y in range(3) for x in range(3)]
    counts = [sum(torch.equal(o[0], m) for o in out) for m in moved]
    assert sum(counts) == 200
    assert min(counts) > 0
    assert torch.equal(augmented(image, 0, False, generator), image)


def test_a_curve_has_points_of_the_averaged_network(data, tmp_path):
    model = net()
    curve = Curve(tmp_path / "curve.jsonl", 20, model, data)
    recipe = replace(RECIPE, average=0.5, hard_steps=5)
    train(model, data, recipe, tmp_path / "run.pt", curve.follow)
    points = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in points] == [20, 30]
    assert points[-1]["soft"] == round(accuracy(model, data, hard=False), 4)
    assert points[-1]["discrete"] == round(accuracy(model, data, hard=True), 4)


def test_a_run_is_replanned_if_asked(data, tmp_path):
    train(net(), data, RECIPE, tmp_path / "run.pt")
    longer, steps = replace(RECIPE, steps=40), []
    with pytest.raises(LgirError, match="another steps"):
        train(net(), data, longer, tmp_path / "run.pt")
    follow = lambda p: steps.append(p.step)  # noqa: E731
    assert train(net(), data, longer, tmp_path / "run.pt", follow, replan=True)
    assert steps == list(range(31, 41))


def test_handlers_are_given_back(data, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(net(), data, RECIPE, tmp_path / "run.pt")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_checkpoint_of_training_lifts_as_it_is(data, tmp_path):
    model = net()
    train(model, data, RECIPE, tmp_path / "run.pt")
    graph = lgir.lift(tmp_path / "run.pt")
    assert graph.metadata["training.step"] == "30"
    assert graph.nodes == lgir.lift(model).nodes


def test_the_saved_network_lifts_with_its_notes_and_accuracy(data, tmp_path):
    model = net()
    train(model, data, replace(RECIPE, steps=150), tmp_path / "run.pt")
    save_trained(tmp_path / "net.pt", model, test_accuracy=0.5)
    loaded = load_trained(net(), tmp_path / "net.pt")
    graph = lgir.lift(tmp_path / "net.pt")
    assert graph.metadata["training.test_accuracy"] == "0.5"
    labels = lgir.compile(graph, backend="reference").predict(data.x.numpy())
    measured = accuracy(loaded, data, hard=True)
    assert (labels == data.y.numpy()).mean() == pytest.approx(measured)
    assert measured > 0.8
    assert accuracy(loaded, data, hard=False) > 0.8


def test_saving_in_half_precision_changes_no_gate(tmp_path):
    model = net()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(1 + 1e-4 * torch.randn(weight.shape, generator=generator))
        next(model.parameters())[0] = -2 - 1e-5 * torch.arange(16).flip(0)
    save_trained(tmp_path / "net.pt", model)
    loaded = load_trained(net(), tmp_path / "net.pt")
    for before, after in zip(weights(model), weights(loaded), strict=True):
        assert torch.equal(before.argmax(-1), after.argmax(-1))
        torch.testing.assert_close(after, before, rtol=3e-3, atol=1e-5)


def test_resuming_with_other_settings_or_another_network_is_refused(data, tmp_path):
    path = tmp_path / "run.pt"
    train(net(), data, RECIPE, path)
    with pytest.raises(LgirError, match=r"another batch, learning_rate.*same settings"):
        train(net(), data, replace(RECIPE, batch=8, learning_rate=1.0), path)
    other = LogicNet(LogicDense(16, 40), GroupSum(2, 4), input_shape=(16,))
    with pytest.raises(LgirError, match="another"):
        train(other, data, RECIPE, path)
    torch.save({"model": net().state_dict()}, path)
    with pytest.raises(FormatError, match="no checkpoint of a training run"):
        train(net(), data, RECIPE, path)
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(FormatError, match="truncated"):
        train(net(), data, RECIPE, path)


def write_xz(path, array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(lzma.compress(buffer.getvalue()))


def test_arrays_are_read_whole_compressed_and_in_parts(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(6, 4)
    np.save(tmp_path / "plain.npy", array)
    write_xz(tmp_path / "packed.npy.xz", array)
    for i in range(3):
        write_xz(tmp_path / f"parts_{i}.npy.xz", array[2 * i : 2 * i + 2])
    for name in ("plain", "packed", "parts"):
        np.testing.assert_array_equal(load_array(tmp_path, name), array)


def test_missing_and_damaged_arrays_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"has no x\.npy"):
        load_array(tmp_path, "x")
    (tmp_path / "x.npy.xz").write_bytes(b"no xz")
    with pytest.raises(FormatError, match="cannot be read"):
        load_array(tmp_path, "x")
    np.save(tmp_path / "y.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(FormatError, match="cannot be read"):
        load_array(tmp_path, "y")


def test_images_become_channels_first():
    gray, color = np.zeros((5, 8, 7), np.uint8), np.zeros((5, 8, 7, 3), np.uint8)
    labels = np.zeros(5, np.uint8)
    assert dataset(gray, labels).x.shape == (5, 1, 8, 7)
    assert dataset(color, labels).x.shape == (5, 3, 8, 7)
    assert dataset(gray, labels).y.dtype == torch.int64


def test_thresholds_cut_the_range_evenly():
    assert pixel_levels(1, 255).tolist() == [127.5]
    assert pixel_levels(3, 255).tolist() == [63.5, 127.5, 191.5]
    assert pixel_levels(31, 31).tolist() == [i + 0.5 for i in range(31)]


SMALL = NetSize(k=8, tau=8.0, widen=1, levels=2, batch=8, learning_rate=0.02, weight_decay=0.0)


@pytest.mark.parametrize(
    ("build", "shape", "channels"),
    [(mnist_net, (1, 28, 28), [8, 24, 72]), (cifar10_net, (3, 32, 32), [8, 32, 128, 256])],
)
def test_the_papers_networks_have_its_shapes_and_lift(build, shape, channels):
    model = build(SMALL)
    graph = lgir.lift(model, check=False)
    convs = [n.op.body for n in graph.nodes if n.output.startswith("conv")]
    assert [len(body.outputs) for body in convs] == channels
    dense = [n.op.body.num_gates for n in graph.nodes if n.output.startswith("dense")]
    assert dense == [1280 * 8, 640 * 8, 320 * 8]
    assert graph.inputs[0].shape == shape
    x = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    scores = lgir.compile(graph, backend="reference")(x.numpy())
    np.testing.assert_array_equal(scores, model.eval()(x).detach().numpy())


def test_the_papers_sizes():
    assert [MNIST_SIZES[s].k for s in ("S", "M", "L")] == [16, 64, 256]
    assert [CIFAR10_SIZES[s].k for s in "SMBLG"] == [32, 256, 512, 1024, 2048]
    assert [CIFAR10_SIZES[s].levels for s in "SMBLG"] == [3, 3, 31, 31, 31]


@pytest.mark.parametrize("script", ["train_mnist.py", "train_cifar10.py"])
def test_the_examples_train_resume_and_report(tmp_path, script):
    rng = np.random.default_rng(0)
    name, shape = ("mnist", (28, 28)) if "mnist" in script else ("cifar10", (32, 32, 3))
    for split, count in (("train", 20), ("test", 10)):
        quantized = "_q5" if name == "cifar10" else ""
        images = rng.integers(0, 32, (count, *shape), dtype=np.uint8)
        write_xz(tmp_path / f"{name}{quantized}_x_{split}.npy.xz", images)
        write_xz(tmp_path / f"{name}_y_{split}.npy.xz", np.arange(count, dtype=np.uint8) % 10)
    command = [
        sys.executable, str(EXAMPLES / script), "--data", str(tmp_path), "--k", "8", "--widen", "1",
        "--steps", "2", "--batch", "4", "--threads", "1", "--device", "cpu",
        "-o", str(tmp_path / "net.pt"),
    ]  # fmt: skip
    for _ in range(2):  # the second run finds all steps done
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        last = process.stdout.strip().splitlines()[-1]
        assert last.startswith("test accuracy: soft ")
        assert "discrete" in last
    assert lgir.lift(tmp_path / "net.pt").metadata["training.steps"] == "2"
    failed = subprocess.run([*command, "--lr", "9"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert "another learning_rate" in failed.stdout.replace("\n", " ")


def test_keeping_freed_memory_is_harmless():
    code = textwrap.dedent("""
        from lgir.frontend.training.loop import keep_freed_memory
        keep_freed_memory()
        import torch
        print(torch.zeros(1 << 20).sum().item())
    """)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "0.0"


def test_the_trained_mnist_network_keeps_its_accuracy_when_compiled(mnist_test):
    x, y = mnist_test
    graph = lgir.lift(EXAMPLES / "mnist.pt")
    exe = lgir.compile(lgir.optimize(graph)[0])
    measured = (exe.predict(x[:, None]) == y).mean()
    assert measured >= 0.975
    assert f"{measured:.4f}" == f"{float(graph.metadata['training.test_accuracy']):.4f}"
