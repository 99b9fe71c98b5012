"""Checkpoints as training scripts write them: wrapped, nested, beside other state."""

import contextlib
import os
import warnings
from argparse import Namespace
from pathlib import Path
from time import process_time

import pytest
import torch
from torch import nn

import lgir
import peer_modules as peer
from lgir.errors import FormatError, LgirError, LiftError
from lgir.frontend import describe

torch.set_num_threads(1)

LAYERS = ["LogicDense(20, 30)", "LogicDense(30, 40)", "GroupSum(10, tau=2.0)"]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        peer.LogicDense(20, 30), peer.LogicDense(30, 40), peer.GroupSum(10, 2.0)
    ).eval()


def lift(state, layers=LAYERS, **options):
    return lgir.lift(state, architecture=layers, input_shape=20, **options)


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "_orig_mod.", "model._orig_mod.", "module.net.layers."]
)
def test_prefixes_of_wrappers_are_seen_through(net, prefix):
    state = {prefix + key: value for key, value in net.state_dict().items()}
    assert lift(state).nodes == lgir.lift(net).nodes


def test_tensors_of_other_parts_are_left_aside(net):
    state = {f"model.net.{key}": value for key, value in net.state_dict().items()}
    state |= {"criterion.weight": torch.ones(10), "metric.0.count": torch.tensor(3)}
    assert lift(state).nodes == lgir.lift(net).nodes


def test_networks_alike_are_asked_about(net):
    state = {f"{name}.{key}": v for name in ("net", "ema") for key, v in net.state_dict().items()}
    with pytest.raises(LiftError, match=r"under 'net\.' or 'ema\.'.*\"key\""):
        lift(state)
    entries = [
        {"type": "LogicDense", "key": "ema.0"},
        {"type": "LogicDense", "key": "ema.1"},
        "GroupSum(10, tau=2.0)",
    ]
    assert lift(state, entries).nodes == lgir.lift(net).nodes


def test_a_layer_that_is_not_there_is_named_beside_those_that_are(net):
    with pytest.raises(LiftError, match=r"lacks the tensor 7\.weight \(there are 0\.weight, "):
        lift(net.state_dict(), [{"type": "LogicDense", "key": "7"}])


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "params"])
def test_the_network_is_found_beside_the_optimizer(net, key, tmp_path):
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.zeros(2, 20))
    saved = {"epoch": 3, "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    saved[key] = net.state_dict()
    torch.save(saved, tmp_path / "last.pt")
    graph = lift(tmp_path / "last.pt")
    assert graph.nodes == lgir.lift(net).nodes
    assert graph.metadata["training.epoch"] == "3"


def test_a_checkpoint_within_a_checkpoint_is_found(net):
    assert lift({"model": {"state_dict": net.state_dict()}}).nodes == lgir.lift(net).nodes


def test_several_networks_in_one_file_are_asked_about(net):
    with pytest.raises(LiftError, match=r"several state_dicts \(student, teacher\).*\['student'\]"):
        lift({"student": net.state_dict(), "teacher": net.state_dict()})


def test_a_pickled_module_inside_a_checkpoint_needs_no_architecture(net):
    graph = lgir.lift({"model": net, "epoch": 3})
    assert graph.nodes == lgir.lift(net).nodes


def test_compiled_and_parallel_modules_lift(net):
    assert lgir.lift(torch.compile(net, backend="eager")) == lgir.lift(net)
    assert lgir.lift(nn.DataParallel(net)).nodes == lgir.lift(net).nodes


def test_bfloat16_is_read_from_any_file(net, tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(half, tmp_path / "net.safetensors")
    torch.save(half, tmp_path / "net.pt")
    assert lift(tmp_path / "net.safetensors").nodes == lift(tmp_path / "net.pt").nodes


def test_layers_that_the_architecture_leaves_out_are_named(net):
    with pytest.warns(UserWarning, match=r"no layer for 1\.connections\.indices.*missing"):
        lift(net.state_dict(), LAYERS[:1])


@pytest.mark.parametrize("beside", [Namespace(lr=0.01, path="x"), Path("x") / "y"])
def test_arguments_and_paths_beside_the_network_are_read(net, beside, tmp_path):
    torch.save({"state_dict": net.state_dict(), "args": beside}, tmp_path / "net.pt")
    assert lift(tmp_path / "net.pt").nodes == lgir.lift(net).nodes


def test_a_file_of_torchscript_is_refused_with_the_way_out(net, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(nn.Flatten(), torch.zeros(1, 2))
        torch.jit.save(traced, tmp_path / "net.pt")
    for model in (traced, tmp_path / "net.pt"):
        with pytest.raises(LgirError, match="lift the module that was scripted"):
            lgir.lift(model)


def test_modules_without_weights_are_refused(net):
    with pytest.raises(LiftError, match="meta device"):
        lgir.lift(net.to("meta"))


def test_named_parts_keep_their_order():
    torch.manual_seed(0)
    parts = nn.ModuleDict(
        {
            "features": nn.Sequential(peer.LogicDense(20, 30), nn.Identity()),
            "classifier": nn.Sequential(peer.LogicDense(30, 40)),
        }
    )
    draft = describe(parts.state_dict(), input_shape=(20,))
    assert [layer["key"] for layer in draft["layers"]][:2] == ["features.0", "classifier.0"]


def test_averaged_models_lift_in_spite_of_their_extra_keys(net):
    averaged = torch.optim.swa_utils.AveragedModel(net)
    state = {**averaged.state_dict(), "criterion.weight": torch.ones(10)}
    assert "n_averaged" in state
    assert lift(state).nodes == lgir.lift(net).nodes


def test_wiring_given_beside_an_averaged_model_of_difflogic_is_used(tmp_path):
    weights = torch.randn(4, 16)
    wires = [(torch.tensor([0, 1, 0, 1]), torch.tensor([1, 0, 1, 0]))]
    expected = lgir.lift({"0.weights": weights}, indices=wires)
    state = {"module.0.weights": weights, "n_averaged": torch.tensor(3)}
    torch.save({**state, "criterion.weight": torch.ones(10)}, tmp_path / "net.pt")
    assert lgir.lift(tmp_path / "net.pt", indices=wires).nodes == expected.nodes


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_sparse_weights_lift_as_dense_ones(layout, tmp_path):
    wires = [(torch.tensor([0, 1, 0, 1]), torch.tensor([1, 0, 1, 0]))]
    dense = torch.eye(4, 16)
    expected = lgir.lift({"0.weights": dense}, indices=wires)
    state = {"0.weights": getattr(dense, layout)()}
    torch.save(state, tmp_path / "net.pt")
    assert lgir.lift(state, indices=wires) == expected
    assert lgir.lift(tmp_path / "net.pt", indices=wires).nodes == expected.nodes


class Flattens(nn.Module):
    """A convolution whose forward flattens by a function, as most code does."""

    def __init__(self):
        super().__init__()
        self.conv = peer.LogicConv2d(6, 1, 2, 1, 3)
        self.head = peer.LogicDense(32, 20)
        self.score = peer.GroupSum(10)

    def forward(self, x):
        return self.score(self.head(torch.flatten(self.conv(x), 1)))


def test_a_flatten_called_in_forward_is_lifted_and_compared():
    torch.manual_seed(0)
    module = Flattens().eval()
    chain = nn.Sequential(module.conv, nn.Flatten(), module.head, module.score)
    graph = lgir.lift(module)
    assert str(graph.inputs[0].type) == "bit[1,6,6]"
    assert graph.nodes == lgir.lift(chain).nodes


def test_infinite_thresholds_lift_from_modules_as_from_state_dicts():
    torch.manual_seed(0)
    levels = torch.tensor([[-torch.inf, 0.5, torch.inf]])
    net = nn.Sequential(peer.FixedBinarization(levels, 1), peer.LogicDense(12, 8)).eval()
    layers = [{"type": "FixedBinarization", "feature_dim": 1}, "LogicDense(12, 8)"]
    lifted = lgir.lift(net, input_shape=(4,))
    described = lgir.lift(net.state_dict(), architecture=layers, input_shape=(4,))
    assert lifted.nodes == described.nodes


def test_objects_from_files_are_no_modules(tmp_path):
    called = []
    for look in (Namespace(state_dict=called.append), Namespace(detach=called.append)):
        with pytest.raises(LgirError):
            lgir.lift(look)
        with pytest.raises(LgirError):
            lgir.lift({"model": look})
        with pytest.raises(LgirError):
            lgir.lift({"0.weights": look}, indices=[])
    torch.save(Namespace(state_dict=list), tmp_path / "net.pt")
    with pytest.raises(LiftError, match="Namespace is no model"):
        lgir.lift(tmp_path / "net.pt")
    assert not called


def test_checkpoints_that_contain_themselves_are_refused():
    for key in ("model", "state_dict", "net"):
        checkpoint = {}
        checkpoint[key] = checkpoint
        with pytest.raises(LiftError):
            lgir.lift(checkpoint)


@pytest.mark.filterwarnings("ignore:.*has no layer for")
@pytest.mark.parametrize(
    "make",
    [
        lambda n: {f"metric.{i}.value": torch.zeros(1) for i in range(n)},
        lambda n: {f"other{i}.0.weight": torch.zeros(1) for i in range(n)},
        lambda n: {f"{i}.{'a.' * 20}b": torch.zeros(1) for i in range(n)},
        lambda n: {"a." * n: torch.zeros(1)},
        lambda n: {"9" * n + ".weights": torch.zeros(1)},
    ],
)
def test_keys_of_a_state_dict_take_linear_time(net, make):
    def seconds(count):
        state = {**net.state_dict(), **make(count)}
        start = process_time()
        with contextlib.suppress(LgirError):
            lift(state)
        return process_time() - start

    seconds(10)
    assert seconds(16_000) < 16 * 4 * max(seconds(1000), 0.01)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_fifos_devices_and_odd_paths_are_refused(tmp_path):
    os.mkfifo(tmp_path / "net.pt")
    for path in (tmp_path / "net.pt", "/dev/zero", tmp_path, "a\0b.pt", "n" * 5000):
        for read in (lgir.lift, describe):
            with pytest.raises(FormatError):
                read(path if isinstance(path, Path) else Path(path))
        with pytest.raises(FormatError):
            lgir.lift({"0.weight": torch.zeros(4, 16)}, framework="torchlogix", architecture=path)
