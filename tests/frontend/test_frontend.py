"""Lifting lgir's own layers: bit for bit the module's eval mode, from modules and from files."""

import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import lgir
from lgir.errors import FormatError, LgirError, LiftError, UnknownNameError
from lgir.frontend import architecture_of
from lgir.frontend.digits import demo_checkpoint, digits_data
from lgir.frontend.layers import (
    GroupSum,
    LogicDense,
    LogicNet,
    LogicTreeConv2d,
    OrPool2d,
    Thermometer,
    build_model,
)

torch.set_num_threads(1)


def randomize(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=generator)
    return module.eval()


def assert_same_outputs(graph, model, x):
    with torch.no_grad():
        expected = model(x).numpy()
    scores = lgir.compile(graph, backend="reference")(x.numpy())
    np.testing.assert_array_equal(scores, expected)


def conv_net(seed, shape=(2, 9, 7), **conv):
    """A random network around one convolution whose parameters vary."""
    torch.manual_seed(seed)
    layer = LogicTreeConv2d(shape[0], 12, **conv)
    size = layer(torch.zeros(1, *shape)).flatten(1).shape[1]
    net = LogicNet(layer, nn.Flatten(), LogicDense(size, 36), GroupSum(6, 3), input_shape=shape)
    return randomize(net, seed)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, (0, 2)])
@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize(
    ("field", "groups"), [((3, 3), 1), ((3, 3), 2), ((2, 5), 1), ((1, 1), 2), ((5, 4), 2)]
)
def test_convolutions_lift_exactly(depth, padding, stride, field, groups):
    net = conv_net(
        depth, depth=depth, padding=padding, stride=stride, receptive_field=field, groups=groups
    )
    graph = lgir.lift(net)
    assert_same_outputs(graph, net, torch.randint(0, 2, (70, 2, 9, 7), dtype=torch.uint8))


@pytest.mark.parametrize("dtype", ["u8", "f32"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, None), ((3, 2), (2, 1)), (1, 1)])
def test_deep_networks_with_thresholds_lift_exactly(dtype, kernel, stride):
    torch.manual_seed(1)
    layers = [
        Thermometer([[40, 90, 200], [0, 127, 254]]),
        LogicTreeConv2d(6, 16, padding=1, receptive_field=(3, 5), stride=(1, 2)),
        OrPool2d(kernel, stride),
        LogicTreeConv2d(16, 32, padding=1, groups=4, depth=2),
        OrPool2d(1),
    ]
    size = nn.Sequential(*layers)(torch.zeros(1, 2, 11, 12)).flatten(1).shape[1]
    head = [nn.Flatten(), LogicDense(size, 90), LogicDense(90, 50), GroupSum(10, 7, 0.5)]
    net = randomize(LogicNet(*layers, *head, input_shape=(2, 11, 12), input_dtype=dtype))
    x = torch.randint(0, 256, (65, 2, 11, 12), dtype=torch.uint8)
    graph = lgir.lift(net)
    assert graph.inputs[0].dtype == dtype
    assert_same_outputs(graph, net, x if dtype == "u8" else x.float() - 0.5)


def test_each_layer_is_one_node():
    graph = lgir.lift(conv_net(0))
    assert [(n.op_type, n.output) for n in graph.nodes] == [
        ("Logic", "conv1"), ("Reshape", "reshape1"), ("Logic", "dense1"), ("GroupSum", "score"),
    ]  # fmt: skip
    conv = graph.nodes[0].op
    assert conv.body.num_gates == 12 * 7
    assert conv.space == (7, 5)


def test_a_network_without_scores_gives_bits():
    net = randomize(LogicNet(LogicDense(8, 20), input_shape=(8,)))
    graph = lgir.lift(net)
    assert graph.values[graph.outputs[0]].type == "bit[20]"
    assert_same_outputs(graph, net, torch.randint(0, 2, (40, 8)).bool())


def test_a_file_lifts_as_the_module_does(tmp_path):
    net = conv_net(3)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    assert lgir.lift(tmp_path / "net.pt") == lgir.lift(net)
    assert lgir.lift(net.state_dict()) == lgir.lift(net)


def test_training_checkpoints_and_wrapped_modules_lift(tmp_path):
    net = conv_net(3)
    wrapped = {f"module.{k}": v for k, v in net.state_dict().items()}
    torch.save({"epoch": 7, "model": wrapped, "note": "best"}, tmp_path / "train.ckpt")
    graph = lgir.lift(tmp_path / "train.ckpt")
    assert graph.nodes == lgir.lift(net).nodes
    assert graph.metadata == {"source": "lgir", "training.epoch": "7", "training.note": "best"}


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.bool_])
def test_numpy_numbers_beside_the_weights_are_read(tmp_path, kind):
    net = conv_net(3)
    torch.save({"model": net.state_dict(), "best": kind(1)}, tmp_path / "train.pt")
    graph = lgir.lift(tmp_path / "train.pt")
    assert graph.metadata["training.best"] == str(kind(1))


def test_half_precision_weights_lift(tmp_path):
    net = conv_net(4).bfloat16()
    graph = lgir.lift(net)
    x = torch.randint(0, 2, (70, 2, 9, 7), dtype=torch.uint8)
    assert_same_outputs(graph, net.float(), x)


def test_the_shipped_demo_lifts_and_answers():
    _, _, x, y = digits_data()
    model = build_model(architecture_of(demo_checkpoint()))
    model.load_state_dict(torch.load(demo_checkpoint(), weights_only=True))
    graph = lgir.lift(demo_checkpoint())
    assert_same_outputs(graph, model.eval(), torch.from_numpy(x))
    accuracy = (lgir.compile(graph, backend="reference").predict(x) == y).mean()
    assert accuracy >= 0.95
    assert demo_checkpoint().stat().st_size < 1 << 20


def test_digits_train_and_report_progress():
    from lgir.frontend.digits import train_digits

    seen = []
    model, accuracy = train_digits(lambda *step: seen.append(step), steps=3)
    assert [s[:2] for s in seen] == [(1, 3), (2, 3), (3, 3)]
    assert not model.training
    assert 0 <= accuracy <= 1


def test_lgir_and_its_frontends_import_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import lgir, lgir.frontend, lgir.registry as r; "
        "import lgir.frontend.digits; print(r.FRONTENDS.names())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "lgir" in out.stdout


# Bad files and models


def saved(tmp_path, name="net.pt"):
    path = tmp_path / name
    torch.save(conv_net(0).state_dict(), path)
    return path


@pytest.mark.parametrize("keep", [0, 3, 40, 1000, 5000])
def test_truncated_files_are_refused(tmp_path, keep):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FormatError, match=r"net\.pt"):
        lgir.lift(path)


def test_flipped_bytes_never_crash(tmp_path):
    path = saved(tmp_path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(60):
        bad = bytearray(good)
        for position in rng.integers(len(bad), size=8):
            bad[position] = rng.integers(256)
        path.write_bytes(bad)
        try:
            lgir.lift(path)  # damage to a weight's value cannot be seen
        except LgirError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello, this is text, not a model", "not a PyTorch"),
        (b"\x80\x02garbage that is no pickle", "corrupt|pickled"),
        (pickle.dumps({"a": 1}), "corrupt|pickled"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        lgir.lift(path)


def test_an_onnx_container_is_sent_to_load(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"\x08\x07\x12\x04lgir")
    with pytest.raises(FormatError, match=r"lgir\.load"):
        lgir.lift(tmp_path / "x.onnx")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        lgir.lift(tmp_path / "none.pt")
    with pytest.raises(FormatError, match="not a regular file"):
        lgir.lift(tmp_path)


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(FormatError, match=r"torch\.save did not write"):
        lgir.lift(tmp_path / "x.pt")


def test_safetensors_lift_and_their_damage_is_refused(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    net, path = conv_net(5), tmp_path / "net.safetensors"
    save_file(net.state_dict(), path)
    assert lgir.lift(path) == lgir.lift(net)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FormatError, match="safetensors"):
        lgir.lift(path)


def test_models_of_no_known_kind_are_refused():
    with pytest.raises(LiftError, match="no frontend knows this model"):
        lgir.lift(nn.Linear(3, 4))
    with pytest.raises(LiftError, match="int is no model"):
        lgir.lift(3)
    with pytest.raises(LiftError, match="no frontend knows"):
        lgir.lift({})


def test_a_wrong_framework_or_option_is_refused_with_a_suggestion():
    net = conv_net(0)
    with pytest.raises(UnknownNameError, match="did you mean 'lgir'"):
        lgir.lift(net, framework="lgri")
    with pytest.raises(LiftError, match="option of the lgir frontend 'nam'; did you mean 'name'"):
        lgir.lift(net, nam="x")


def test_bare_layers_are_told_to_be_wrapped():
    with pytest.raises(LiftError, match="LogicNet"):
        lgir.lift(nn.Sequential(LogicDense(4, 4)))


def with_state(change):
    state = conv_net(0).state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.leaves"), r"lacks the tensor 0\.leaves"),
        (
            lambda s: s.update({"0.weight": torch.zeros(3, 7, 16)}),
            r"0\.weight is .*expected floats \[12, 7, 16\]",
        ),
        (lambda s: s.update({"2.indices": torch.zeros(2, 36)}), r"2\.indices is float32"),
        (lambda s: s["2.indices"].fill_(9999), "LogicDense '2': gate 0 is wired to input 9999"),
        (lambda s: s["2.indices"].fill_(-1), "LogicDense '2': gate 0 is wired to input -1"),
        (lambda s: s["0.leaves"].fill_(2), "LogicTreeConv2d '0': gate 0 is wired to channel 2"),
        (lambda s: s["2.weight"].fill_(float("nan")), r"2\.weight holds NaN"),
    ],
)
def test_damaged_tensors_are_refused(change, message):
    with pytest.raises(LiftError, match=message):
        lgir.lift(with_state(change))


def with_architecture(old, new):
    state = conv_net(0).state_dict()
    text = bytes(state["_extra_state"].numpy()).replace(old, new)
    state["_extra_state"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return state


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        (b"LogicDense", b"LogicDance", LiftError, "did you mean 'LogicDense'"),
        (b'"lgir_architecture":1', b'"lgir_architecture":9', LiftError, "version 9"),
        (b'"k":6', b'"k":7', LiftError, "36 bits do not split into 7"),
        (b'"k":6', b'"j":6', LiftError, "must give k"),
        (b"}]}", b"}", LiftError, "damaged"),
        (b"[2,9,7]", b"[2,9]", LiftError, "check input_shape"),
        (b"[2,9,7]", b"[2,2,7]", LiftError, "does not fit"),
        (b"[2,9,7]", b"[2,0,7]", LiftError, "positive"),
        (b'"dtype":"bit"', b'"dtype":"b16"', LiftError, "not one of"),
        (b'"depth":3', b'"depth":"x"', LiftError, "must be a whole number"),
    ],
)
def test_damaged_architectures_are_refused(old, new, error, message):
    with pytest.raises(error, match=message):
        lgir.lift(with_architecture(old, new))
