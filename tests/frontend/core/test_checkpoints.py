"""Checkpoints as training scripts write them: wrapped, nested, beside other state."""

import warnings
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn

import lgir
import peer_modules as peer
from lgir.errors import LgirError, LiftError
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
