"""torchlogix: every layer, parametrization, rank and wiring against a stand-in's eval mode, files
with their architecture, and the file's known traps.
"""

import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import lgir
import peer_modules as peer
from lgir.errors import FormatError, LiftError
from lgir.frontend import describe
from paths import SHARED

torch.set_num_threads(1)

REAL = SHARED / "checkpoints" / "torchlogix_conv_mnist"

PARAMETRIZATIONS = [
    ("raw", 2), ("warp", 2), ("light", 2), ("warp", 4), ("light", 4), ("warp", 6), ("light", 6),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def assert_lifts(model, shape, *, bits=True, **options):
    """The graph's outputs are the module's, and the state_dict lifts to the same graph."""
    graph = lgir.lift(model, check=False, **options)
    x = torch.randint(0, 2, (70, *shape)).float() if bits else numbers(graph, shape)
    scores = lgir.compile(graph, backend="reference")(x.numpy())
    np.testing.assert_array_equal(scores, model.eval()(x).detach().numpy())
    return graph


def numbers(graph, shape):
    """Samples, half of them on a threshold or next to one."""
    generator = np.random.default_rng(0)
    levels = np.unique(graph.nodes[[n.op_type for n in graph.nodes].index("Threshold")].op.levels)
    near = [levels, np.nextafter(levels, np.float32(-9)), np.nextafter(levels, np.float32(9))]
    x = generator.normal(size=(70, *shape)).astype(np.float32)
    return torch.from_numpy(np.where(generator.random(x.shape) < 0.5, x, generator.choice(
        np.concatenate(near).astype(np.float32), x.shape)))  # fmt: skip


@pytest.mark.parametrize("connections", ["fixed", "learnable"])
@pytest.mark.parametrize(("parametrization", "rank"), PARAMETRIZATIONS)
def test_dense_layers_lift_exactly(parametrization, rank, connections):
    options = {"lut_rank": rank, "parametrization": parametrization, "connections": connections}
    first, second = peer.LogicDense(30, 50, **options), peer.LogicDense(50, 40, **options)
    assert_lifts(nn.Sequential(first, second, peer.GroupSum(10, 3.0, 0.5)), (30,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("parametrization", "rank"), PARAMETRIZATIONS)
def test_near_ties_are_decided_as_their_precision_rounds(parametrization, rank, dtype):
    layer = peer.LogicDense(30, 400, lut_rank=rank, parametrization=parametrization)
    decimals = torch.randint(-3, 4, layer.weight.shape).to(dtype) * 0.1
    layer.weight = nn.Parameter(decimals)
    assert_lifts(nn.Sequential(layer), (30,))


def test_weights_that_only_double_precision_tells_apart_are_told_apart():
    layer = peer.LogicDense(30, 40).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[:, 6] += 1e-12
    assert_lifts(nn.Sequential(layer), (30,))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("parametrization", "rank"), PARAMETRIZATIONS)
def test_convolutions_lift_exactly(parametrization, rank, depth):
    conv = peer.LogicConv2d(
        (9, 7), 3, 5, depth, (3, 4), 2, 1, lut_rank=rank, parametrization=parametrization
    )
    graph = assert_lifts(nn.Sequential(conv, peer.OrPooling2d(2, 2, 1), nn.Flatten()), (3, 9, 7))
    assert graph.nodes[0].op.body.num_gates == 5 * sum(rank**i for i in range(depth))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_strides_paddings_and_groups_lift_exactly(stride, padding):
    conv = peer.LogicConv2d((7, 11), 8, 6, 3, (3, 5), stride, padding, groups=2)
    graph = assert_lifts(nn.Sequential(conv), (8, 7, 11))
    assert graph.nodes[0].op.space == tuple(conv.space())


def test_a_single_position_lifts():
    assert_lifts(nn.Sequential(peer.LogicConv2d(5, 2, 4, 2, 5, 3)), (2, 5, 5))


def test_volumes_lift_exactly():
    conv = peer.LogicConv3d((5, 4, 6), 2, 3, 2, (3, 2, 3), 1, 1)
    graph = assert_lifts(nn.Sequential(conv, peer.OrPooling3d(2, 2), nn.Flatten()), (2, 5, 4, 6))
    assert len(graph.nodes[0].op.space) == 3


@pytest.mark.parametrize(
    ("stride", "padding", "extra"), [(1, 1, 0), (2, 1, 0), (2, 0, 1), (3, 2, 2)]
)
def test_transposed_convolutions_lift_exactly(stride, padding, extra):
    conv = peer.LogicConvTranspose2d((4, 5), 2, 3, 2, (3, 3), stride, padding, output_padding=extra)
    graph = assert_lifts(nn.Sequential(conv), (2, 4, 5))
    assert graph.values[graph.outputs[0]].shape == (3, *conv.space())


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), ((2, 3), (1, 2), 0)]
)
def test_pools_lift_exactly(kernel, stride, padding):
    conv = peer.LogicConv2d((8, 9), 2, 5, 1, 3)
    assert_lifts(nn.Sequential(conv, peer.OrPooling2d(kernel, stride, padding)), (2, 8, 9))


def rows(*shape):
    return torch.randn(*shape).sort(-1).values


@pytest.mark.parametrize(
    ("thresholds", "shape", "feature_dim"),
    [
        (rows(3), (20,), -2),
        (rows(20, 3), (20,), -2),
        (rows(1, 2), (20,), 1),
        (rows(3, 4), (3, 6, 5), 1),
        (rows(1, 4), (3, 6, 5), 1),
        (rows(2), (3, 6, 5), 1),
        (rows(2), (3, 6, 5), -2),
        (rows(2), (3, 6, 5), 2),
        (rows(3, 2), (3, 6, 5), -2),
        (rows(3, 2), (3, 6, 5), -3),
        (rows(3, 6, 5, 2), (3, 6, 5), 1),
        (rows(20, 3).double(), (20,), -2),
        (torch.tensor([1 / 3, 0.1]).double(), (3, 6, 5), 1),
    ],
)
@pytest.mark.parametrize(
    "kind", [peer.FixedBinarization, peer.SoftBinarization, peer.LearnableBinarization]
)
def test_binarizations_lift_exactly(kind, thresholds, shape, feature_dim):
    binarize = kind(thresholds, feature_dim)
    graph = assert_lifts(nn.Sequential(binarize), shape, bits=False, input_shape=shape)
    assert graph.inputs[0].type == f"f32[{','.join(map(str, shape))}]"


@pytest.mark.parametrize("thresholds", [torch.tensor([-1, 0, 2]), torch.tensor(0.25)])
def test_thresholds_of_integers_and_a_single_one_lift_exactly(thresholds):
    assert_lifts(nn.Sequential(peer.FixedBinarization(thresholds)), (20,), bits=False,
                 input_shape=20)  # fmt: skip


def test_learned_thresholds_lift_exactly_from_the_state_dict():
    binarize = peer.LearnableBinarization(rows(8, 31), temperature_softplus=0.03)
    layer = {"type": "LearnableBinarization", "feature_dim": -2, "temperature_softplus": 0.03}
    graph = lgir.lift(binarize.state_dict(), architecture=[{**layer, "key": ""}], input_shape=8)
    np.testing.assert_array_equal(
        graph.nodes[0].op.levels, binarize.get_thresholds().detach().numpy()
    )


def test_learned_thresholds_of_the_version_without_softplus_lift():
    binarize = peer.LearnableBinarization(rows(8, 3))
    layer = {"type": "LearnableBinarization", "key": "", "softplus": False}
    graph = lgir.lift(binarize.state_dict(), architecture=[layer], input_shape=8)
    np.testing.assert_array_equal(
        graph.nodes[0].op.levels, binarize.raw_diffs.detach().cumsum(-1).numpy()
    )


def test_learned_thresholds_that_depend_on_the_mode_are_those_of_eval_mode():
    class Learnable(peer.LearnableBinarization):
        def get_thresholds(self):
            return super().get_thresholds() if self.training else self.raw_diffs.cumsum(-1)

    model = nn.Sequential(Learnable(rows(20, 3)), peer.LogicDense(60, 40)).train()
    lgir.lift(model)
    assert model.training
    assert model[0].training


def test_a_flattened_image_whose_shape_orders_the_bits_needs_input_shape():
    def net(thresholds, feature_dim):
        binarize = peer.FixedBinarization(thresholds, feature_dim)
        bits = 90 * thresholds.shape[-1]
        return nn.Sequential(binarize, nn.Flatten(), peer.LogicDense(bits, bits))

    for model in (net(rows(2), 1), net(rows(3, 2), 1), net(rows(3, 2), -2), net(rows(2), 2)):
        with pytest.raises(LiftError, match=r"input_shape is needed.*order of the bits"):
            lgir.lift(model)
        assert_lifts(model, (3, 6, 5), bits=False, input_shape=(3, 6, 5))
    assert lgir.lift(net(rows(2), -2)).inputs[0].shape == (90,)
    assert lgir.lift(net(rows(1), 1)).inputs[0].shape == (90,)


def test_binarized_networks_find_their_input_shape():
    dense = nn.Sequential(peer.FixedBinarization(rows(20, 3)), peer.LogicDense(60, 40))
    assert_lifts(dense, (20,), bits=False)
    conv = peer.LogicConv2d((8, 7), 6, 4, 2, 3)
    image = nn.Sequential(peer.FixedBinarization(rows(2, 3), 1), conv)
    assert_lifts(image, (2, 8, 7), bits=False)
    assert_lifts(nn.Sequential(peer.DummyBinarization(), peer.LogicDense(20, 20)), (20,))


def test_nested_modules_lift():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(peer.LogicConv2d(6, 1, 4, 2, 3), nn.Identity())
            self.flat = nn.Flatten()
            self.head = nn.Sequential(peer.LogicDense(64, 40), peer.GroupSum(4, 2.0))

        def forward(self, x):
            return self.head(self.flat(self.features(x)))

    lgir.lift(Net())
    assert_lifts(Net(), (1, 6, 6))


def test_subclasses_of_layers_and_losses_beside_them_lift():
    class Named(peer.LogicDense):
        pass

    class Training(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(Named(20, 30), peer.GroupSum(10))
            self.criterion = nn.CrossEntropyLoss()

        def forward(self, x):
            return self.net(x)

    assert_lifts(Training(), (20,))


def test_layers_that_are_no_gates_are_named_with_their_place():
    net = nn.Sequential(peer.LogicDense(20, 20), nn.Sequential(nn.BatchNorm1d(20)))
    with pytest.raises(
        LiftError, match=r"BatchNorm1d is no layer of gates.*at '1\.0'.*lift the part"
    ):
        lgir.lift(net)


def test_one_module_in_two_places_lifts_twice():
    pool, flip = peer.OrPooling2d(2, 2), peer.LogicDense(20, 20)
    conv = peer.LogicConv2d(12, 1, 5, 1, 3, 1, 1)
    assert_lifts(nn.Sequential(conv, pool, pool), (1, 12, 12))
    assert_lifts(nn.Sequential(flip, nn.Identity(), flip), (20,))


def test_a_forward_that_does_more_than_its_layers_is_noticed():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = peer.LogicDense(20, 20), peer.LogicDense(20, 20)

        def forward(self, x):
            return torch.maximum(self.a(x), self.b(x))

    with pytest.raises(LiftError, match="its forward does more"):
        lgir.lift(Residual())


def test_a_module_that_cannot_be_run_is_lifted_with_a_warning():
    class Broken(nn.Sequential):
        def forward(self, x):
            raise RuntimeError("no kernel")

    with pytest.warns(UserWarning, match="were not compared"):
        lgir.lift(Broken(peer.LogicDense(20, 20)))


def test_the_check_leaves_the_module_in_its_mode():
    model = nn.Sequential(peer.LogicDense(20, 20)).train()
    lgir.lift(model)
    assert model.training


# Files


def conv_net():
    return nn.Sequential(
        peer.LogicConv2d(12, 1, 6, 2, 3, 1, 1),
        peer.OrPooling2d(2, 2),
        peer.LogicConv2d(6, 6, 8, 2, 3, 1, 1, parametrization="warp"),
        peer.OrPooling2d(2, 2),
        nn.Flatten(),
        peer.LogicDense(72, 60, parametrization="light"),
        peer.LogicDense(60, 40, lut_rank=4, parametrization="warp", connections="learnable"),
        peer.GroupSum(10, 4.0, 0.5),
    )


ARCHITECTURE = {
    "framework": "torchlogix",
    "input": {"shape": [1, 12, 12]},
    "layers": [
        {"type": "LogicConv2d", "padding": 1},
        "OrPooling2d(2, 2, 0)",
        {"type": "LogicConv2d", "padding": 1, "parametrization": "warp"},
        {"type": "OrPooling2d", "kernel_size": 2, "stride": 2},
        "torch.nn.Flatten()",
        "LogicDense(72, 60, parametrization='light')",
        {"type": "LogicDense", "parametrization": "warp"},
        "GroupSum(10, tau=4., beta=0.5)",
    ],
}


def test_a_state_dict_with_its_architecture_lifts_as_the_module(tmp_path):
    model = conv_net()
    torch.save(model.state_dict(), tmp_path / "net.pt")
    (tmp_path / "net.json").write_text(json.dumps(ARCHITECTURE))
    graph = lgir.lift(tmp_path / "net.pt", architecture=tmp_path / "net.json")
    assert graph == lgir.lift(model)


def test_calls_may_leave_tensors_to_the_state_dict():
    model = nn.Sequential(peer.FixedBinarization(rows(2, 3), 1), peer.LogicConv2d(6, 6, 4, 1, 3))
    calls = [
        "FixedBinarization(thresholds=tensor([[0.1, 0.2]], device='cpu'), feature_dim=1)",
        "torchlogix.layers.LogicConv2d((6, 6), 6, 4, 1, receptive_field_size=3, device=device)",
    ]
    assert lgir.lift(model.state_dict(), architecture=calls) == lgir.lift(model)


def test_wrapped_and_safetensors_files_lift(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    model = conv_net()
    wrapped = {f"model.net.{k}": v for k, v in model.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "net.ckpt")
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    for name in ("net.ckpt", "net.safetensors"):
        graph = lgir.lift(tmp_path / name, architecture=ARCHITECTURE)
        assert graph.nodes == lgir.lift(model).nodes


def test_a_drafted_architecture_lifts_once_completed():
    model = conv_net()
    draft = describe(model.state_dict(), input_shape=(1, 12, 12))
    assert any("warp or light" in line for line in draft["check"])
    assert any("tau" in line for line in draft["check"])
    assert json.loads(json.dumps(draft)) == draft
    by_key = {layer["key"]: layer for layer in draft["layers"] if layer["key"]}
    by_key["2"]["parametrization"] = by_key["6"]["parametrization"] = "warp"
    by_key["5"]["parametrization"] = "light"
    draft["layers"][-1].update(k=10, tau=4.0, beta=0.5)
    assert lgir.lift(model.state_dict(), architecture=draft) == lgir.lift(model)


@pytest.mark.parametrize("pool", [(2, 2, 0), (2, 2, 1), (3, 2, 1), None])
@pytest.mark.parametrize(("field", "stride", "padding"), [(3, 1, 1), (4, 2, 2), ((3, 5), 1, 2)])
def test_drafts_find_pools_and_paddings_that_fit(pool, field, stride, padding):
    first = peer.LogicConv2d((14, 17), 1, 12, 2, field, stride, padding)
    pools = [] if pool is None else [peer.OrPooling2d(*pool)]
    after = nn.Sequential(first, *pools)(torch.zeros(1, 1, 14, 17)).shape
    second = peer.LogicConv2d(tuple(after[2:]), 12, 12, 2, 3, 1, 1)
    bits = 12 * after[2] * after[3]
    head = peer.LogicDense(bits, bits)
    head.connections.indices = torch.randperm(2 * bits).reshape(2, bits) % bits
    model = nn.Sequential(first, *pools, second, nn.Flatten(), head)
    draft = describe(model.state_dict(), input_shape=(1, 14, 17))
    draft["layers"].pop()
    assert lgir.lift(model.state_dict(), architecture=draft).nodes == lgir.lift(model).nodes


def test_a_draft_that_misses_a_layer_is_not_lifted():
    conv = peer.LogicConv2d((9, 9), 1, 8, 2, 3)
    dense = peer.LogicDense(200, 200)
    dense.connections.indices = torch.randperm(400).reshape(2, 200) % 200
    model = nn.Sequential(conv, peer.OrPooling2d(3, 1), nn.Flatten(), dense)
    draft = describe(model.state_dict(), input_shape=(1, 9, 9))
    assert any("what is missing between them" in line for line in draft["check"])
    draft["layers"].pop()
    with pytest.raises(LiftError, match="must give in_dim"):
        lgir.lift(model.state_dict(), architecture=draft)


def test_drafts_ask_for_the_order_of_bits_where_nothing_tells_it():
    dense = nn.Sequential(peer.FixedBinarization(rows(2), 1), nn.Flatten(), peer.LogicDense(60, 60))
    draft = describe(dense.state_dict(), input_shape=(3, 2, 5))
    draft["layers"].pop()
    with pytest.raises(LiftError, match="must give feature_dim"):
        lgir.lift(dense.state_dict(), architecture=draft)
    draft["layers"][0]["feature_dim"] = 1
    lifted = lgir.lift(dense.state_dict(), architecture=draft)
    assert lifted.nodes == lgir.lift(dense, input_shape=(3, 2, 5)).nodes
    image = nn.Sequential(peer.FixedBinarization(rows(2), 1), peer.LogicConv2d(6, 6, 8, 2, 3))
    draft = describe(image.state_dict(), input_shape=(3, 6, 6))
    assert draft["layers"][0]["feature_dim"] == 1


def test_a_draft_left_incomplete_says_what_to_fill_in():
    state = conv_net().state_dict()
    draft = describe(state)
    with pytest.raises(LiftError, match="must give parametrization"):
        lgir.lift(state, architecture=draft)


def test_per_position_wiring_becomes_a_dense_layer_with_a_warning():
    conv = peer.LogicConv2d((6, 5), 2, 3, 2, 3, 1, 1)
    index = conv.connections._indices_L0
    index[0, 1, 7, 0] = (index[0, 1, 7, 0] + 1) % torch.tensor([3, 3, 2])
    model = nn.Sequential(conv)
    with pytest.warns(UserWarning, match="differs between positions"):
        assert_lifts(model, (2, 6, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = lgir.lift(model)
    assert graph.nodes[-2].op.body.num_gates == 3 * 3 * 30


# Traps


def dense_state(**options):
    return nn.Sequential(peer.LogicDense(20, 20, **options)).state_dict()


@pytest.mark.parametrize("parametrization", ["warp", "light"])
@pytest.mark.parametrize("rank", [2, 4, 6])
def test_warp_and_light_cannot_be_told_from_the_file(rank, parametrization):
    state = dense_state(lut_rank=rank, parametrization=parametrization)
    with pytest.raises(LiftError, match=r"both warp and light have.*must give parametrization"):
        lgir.lift(state, architecture=[{"type": "LogicDense"}], input_shape=20)


def test_sixteen_weights_are_raw_for_two_inputs_and_not_for_four():
    two = dense_state()
    lgir.lift(two, architecture=[{"type": "LogicDense"}], input_shape=20)
    with pytest.raises(LiftError, match="16 weights per gate of 2 inputs, which no warp"):
        lgir.lift(
            two, architecture=[{"type": "LogicDense", "parametrization": "warp"}], input_shape=20
        )
    four = dense_state(lut_rank=4, parametrization="light")
    with pytest.raises(LiftError, match="16 weights per gate of 4 inputs, which no raw"):
        lgir.lift(four, architecture=["LogicDense(20, 20)"])


@pytest.mark.parametrize("architecture", [None, ["LogicDense(20, 20)"]])
def test_files_of_versions_that_saved_no_wiring_are_refused(architecture):
    with pytest.raises(LiftError, match=r"0\.1 saved no wiring"):
        lgir.lift({"0.weight": torch.randn(20, 16)}, architecture=architecture)
    with pytest.raises(LiftError, match=r"0\.1 saved no wiring"):
        describe({"0.weight": torch.randn(20, 16)})


def test_modules_of_versions_that_saved_no_wiring_lift():
    def plain(connections, names):
        buffers = [connections._buffers.pop(name) for name in names]
        connections.indices = buffers if names[0].startswith("_") else buffers[0]

    conv = peer.LogicConv2d(6, 2, 4, 2, 3)
    learnable = peer.LogicDense(64, 60, connections="learnable")
    model = nn.Sequential(conv, nn.Flatten(), learnable, peer.LogicDense(60, 40))
    graph = lgir.lift(model)
    plain(conv.connections, ["_indices_L0", "_indices_L1"])
    plain(learnable.connections, ["indices"])
    plain(model[3].connections, ["indices"])
    assert not any("indices" in key for key in model.state_dict())
    assert lgir.lift(model, check=False).nodes == graph.nodes


def test_convolutions_without_wiring_are_refused():
    state = nn.Sequential(peer.LogicConv2d(5, 1, 2, 2, 3)).state_dict()
    del state["0.connections._indices_L0"]
    with pytest.raises(LiftError, match=r"no connections\._indices_L0.*saved no wiring"):
        lgir.lift(state, architecture=[{"type": "LogicConv2d"}], input_shape=(1, 5, 5))


def test_learned_thresholds_are_used_and_not_the_stale_buffer():
    model = nn.Sequential(peer.LearnableBinarization(rows(8, 3), temperature_softplus=0.3))
    state = model.state_dict()
    layer = {"type": "LearnableBinarization", "feature_dim": -2, "temperature_softplus": 0.3}
    graph = lgir.lift(state, architecture=[layer], input_shape=8)
    levels = graph.nodes[0].op.levels
    np.testing.assert_allclose(levels, model[0].get_thresholds().detach().numpy(), rtol=1e-5)
    assert not np.allclose(levels, state["0.thresholds"].numpy())
    x = torch.randn(100, 8)
    scores = lgir.compile(graph, backend="reference")(x.numpy())
    np.testing.assert_array_equal(scores, model(x).numpy())


def test_learned_thresholds_need_the_temperature():
    state = nn.Sequential(peer.LearnableBinarization(rows(8, 3))).state_dict()
    with pytest.raises(LiftError, match=r"before training.*temperature_softplus"):
        lgir.lift(state, architecture=[{"type": "LearnableBinarization"}], input_shape=8)


def test_a_state_dict_alone_is_refused_with_what_it_lacks():
    with pytest.raises(LiftError, match=r"leaves out parametrization.*describe"):
        lgir.lift(conv_net().state_dict())


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (0, {"padding": 0}, r"outside the padded input \[12, 12\]"),
        (0, {"stride": 2}, r"stride is \[2, 2\], its wiring moves by \[1, 1\]"),
        (0, {"receptive_field_size": 2}, r"wired for \[12, 12\] positions, but a window"),
        (0, {"padding": -1}, "whole numbers"),
        (0, {"in_dim": 13}, r"in_dim is \[13, 13\], the layer before gives"),
        (0, {"key": "9"}, r"lacks the tensor 9\.tree_weights\.0"),
        (1, {"stride": 3}, r"outside the padded input|in_dim"),
        (4, {"start_dim": 2}, r"only Flatten\(1, -1\)"),
        (4, {"type": "Identity"}, "a Flatten is missing"),
        (5, {"in_dim": 70}, "in_dim is 70, the layer before gives"),
        (7, {"k": 7}, "40 bits do not split into 7"),
        (7, {"k": None}, "must give k"),
        (7, {"type": "GroupSun"}, "did you mean 'GroupSum'"),
    ],
)
def test_architectures_that_do_not_fit_are_refused(number, change, message):
    layers = [
        {"type": "LogicConv2d", "padding": 1},
        {"type": "OrPooling2d", "kernel_size": 2, "stride": 2},
        {"type": "LogicConv2d", "padding": 1, "parametrization": "warp"},
        {"type": "OrPooling2d", "kernel_size": 2, "stride": 2},
        {"type": "Flatten"},
        {"type": "LogicDense", "parametrization": "light"},
        {"type": "LogicDense", "parametrization": "warp"},
        {"type": "GroupSum", "k": 10},
    ]
    layers[number] = {**layers[number], **change}
    with pytest.raises(LiftError, match=message):
        lgir.lift(conv_net().state_dict(), architecture=layers, input_shape=(1, 12, 12))


@pytest.mark.parametrize(
    ("architecture", "error", "message"),
    [
        ({}, LiftError, 'needs "layers"'),
        ([], LiftError, 'needs "layers"'),
        ([3], LiftError, "layer 0 must be a dict"),
        ([{"kind": "LogicDense"}], LiftError, "layer 0 must be a dict"),
        (["LogicDense"], LiftError, "no constructor call"),
        (["LogicDense(open('x'))"], LiftError, "no constructor call"),
        (["LogicDense(1, 2, 3)"], LiftError, "name them"),
        ("missing.json", FormatError, "cannot read missing"),
    ],
)
def test_damaged_architectures_are_refused(architecture, error, message):
    with pytest.raises(error, match=message):
        lgir.lift(dense_state(), architecture=architecture)


def test_an_architecture_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(FormatError, match="not JSON"):
        lgir.lift(dense_state(), architecture=tmp_path / "a.json")


# The real checkpoint

needs_real = pytest.mark.skipif(not REAL.exists(), reason="the trained checkpoint is not here")


@needs_real
def test_a_real_checkpoint_gives_its_own_scores():
    graph = lgir.lift(REAL / "state_dict.pt", architecture=REAL / "model.json", thresholds=127)
    reference = np.load(REAL / "reference.npz")
    scores = lgir.compile(graph, backend="reference")(reference["images"][:, None])
    np.testing.assert_array_equal(scores, reference["scores"])


@needs_real
def test_a_real_checkpoint_lifts_from_a_draft():
    draft = describe(REAL / "state_dict.pt", input_shape=(1, 28, 28))
    draft["layers"][-1].update(k=10, tau=10.0)
    drafted = lgir.lift(REAL / "state_dict.pt", architecture=draft)
    assert drafted == lgir.lift(REAL / "state_dict.pt", architecture=REAL / "model.json")


@needs_real
def test_a_real_checkpoint_gives_its_own_labels_on_the_whole_test_set(mnist_test):
    graph = lgir.lift(REAL / "state_dict.pt", architecture=REAL / "model.json", thresholds=127)
    x, y = mnist_test
    labels = lgir.compile(lgir.optimize(graph)[0]).predict(x[:, None])
    np.testing.assert_array_equal(labels, np.load(REAL / "reference.npz")["all_labels_pred"])
    assert (labels == y).mean() == pytest.approx(0.8883)
