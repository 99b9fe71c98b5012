"""difflogic: modules by shape alone, state_dicts with their wiring, and what is refused without."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import lgir
from lgir.errors import FormatError, LiftError
from paths import SHARED

torch.set_num_threads(1)

REAL = SHARED / "checkpoints" / "difflogic_mnist"


class LogicLayer(nn.Module):
    """A stand-in with the documented layout: `weights` saved, `indices` a plain attribute."""

    def __init__(self, in_dim, out_dim):
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.weights = nn.Parameter(torch.randn(out_dim, 16))
        wires = torch.randperm(2 * out_dim) % in_dim
        self.indices = (wires[:out_dim], wires[out_dim:])

    def forward(self, x):
        a, b = x[:, self.indices[0]].bool(), x[:, self.indices[1]].bool()
        out = torch.zeros_like(a)
        op = self.weights.argmax(-1)
        for case, (p, q) in enumerate([(~a, ~b), (~a, b), (a, ~b), (a, b)]):
            out |= p & q & (op >> (3 - case) & 1).bool()
        return out.float()


class GroupSum(nn.Module):
    def __init__(self, k, tau):
        super().__init__()
        self.k, self.tau = k, tau

    def forward(self, x):
        return x.reshape(len(x), self.k, -1).sum(-1) / self.tau


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = [LogicLayer(48, 60), LogicLayer(60, 80), LogicLayer(80, 50)]
    return nn.Sequential(nn.Flatten(), *layers, GroupSum(10, tau=3.0)).eval()


@pytest.fixture
def wiring(model):
    return [m.indices for m in model if isinstance(m, LogicLayer)]


def check(graph, model, n=130):
    x = torch.randint(0, 2, (n, 48)).float()
    scores = lgir.compile(graph, backend="reference")(x.numpy())
    np.testing.assert_array_equal(scores, model(x).numpy())


def test_a_module_lifts_exactly(model):
    graph = lgir.lift(model)
    check(graph, model)
    assert graph.metadata["source"] == "difflogic"


def test_nested_modules_lift(model):
    check(lgir.lift(nn.Sequential(model[:2], model[2:], nn.Identity())), model)


def test_a_state_dict_with_wiring_lifts(model, wiring):
    check(lgir.lift(model.state_dict(), indices=wiring, groups=10, tau=3.0), model)


def test_files_of_weights_and_wiring_lift(model, wiring, tmp_path):
    torch.save(model.state_dict(), tmp_path / "net.pt")
    torch.save(wiring, tmp_path / "indices.pt")
    graph = lgir.lift(tmp_path / "net.pt", indices=tmp_path / "indices.pt", groups=10, tau=3)
    check(graph, model)


def test_without_groups_the_bits_come_out(model, wiring):
    graph = lgir.lift(model.state_dict(), indices=wiring)
    check(graph, model[:-1])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tau": 3.0}, "tau divides the sums of classes; give groups"),
        (
            {"groups": 10, "architecture": ["LogicLayer(48, 60)"]},
            "groups and tau are the architecture's",
        ),
    ],
)
def test_a_tau_or_groups_that_nothing_would_use_are_refused(model, wiring, options, match):
    with pytest.raises(LiftError, match=match):
        lgir.lift(model.state_dict(), indices=wiring, **options)


@pytest.mark.parametrize("thresholds", ["half", [1, [2]], []])
def test_thresholds_that_are_no_numbers_are_refused(model, thresholds):
    with pytest.raises(LiftError, match="thresholds are "):
        lgir.lift(model, thresholds=thresholds)


def test_thresholds_are_compiled_in(model):
    graph = lgir.lift(model, thresholds=127)
    assert graph.inputs[0].type == "u8[48]"
    x = torch.randint(0, 256, (99, 48), dtype=torch.uint8)
    scores = lgir.compile(graph, backend="reference")(x.numpy())
    np.testing.assert_array_equal(scores, model((x > 127).float()).numpy())


def test_layers_are_ordered_by_number_not_as_text():
    torch.manual_seed(1)
    deep = nn.Sequential(*[LogicLayer(20, 20) for _ in range(12)])
    state = dict(sorted(deep.state_dict().items()))
    assert list(state)[1] == "1.weights"
    assert list(state)[2] == "10.weights"
    graph = lgir.lift(state, indices=[m.indices for m in deep])
    assert graph.nodes == lgir.lift(deep).nodes


def test_layers_with_names_instead_of_numbers_lift():
    torch.manual_seed(1)
    named = nn.ModuleDict({"first": LogicLayer(20, 30), "second": LogicLayer(30, 20)})
    chain = nn.Sequential(*named.values())
    graph = lgir.lift(named.state_dict(), indices=[m.indices for m in chain], input_shape=20)
    assert graph == lgir.lift(chain)


def test_light_variants_of_four_weights_are_refused(wiring):
    with pytest.raises(LiftError, match=r"four weights per gate.*truth=weights > 0"):
        lgir.lift({"0.weights": torch.randn(60, 4)}, indices=wiring[:1])


def test_a_state_dict_without_wiring_is_refused_with_the_reason(model):
    with pytest.raises(LiftError, match=r"outside the state_dict.*indices="):
        lgir.lift(model.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[:2], "indices hold 2, the network has 3 LogicLayers"),
        (lambda w: [w[0], w[1], w[2][0]], "not a pair"),
        (lambda w: [w[0], w[1], (w[2][0], w[2][1][:-1])], "expected two integer vectors"),
        (lambda w: [w[0], w[1], (w[2][0].float(), w[2][1].float())], "integer vectors"),
        (lambda w: [w[1], w[0], w[2]], "60 gates, but wiring of shape"),
        (lambda w: [w[0], w[1], (w[2][0] + 80, w[2][1])], "LogicLayer '3': gate 0 is wired to"),
        (lambda w: {"a": 1}, "indices hold a dict"),
    ],
)
def test_wrong_wiring_is_refused(model, wiring, change, message):
    with pytest.raises(LiftError, match=message):
        lgir.lift(model.state_dict(), indices=change(wiring))


def test_other_modules_inside_are_refused(model):
    with pytest.raises(LiftError, match="a Linear is no layer of gates"):
        lgir.lift(nn.Sequential(model, nn.Linear(10, 10)))


def test_a_wrong_input_shape_is_refused(model):
    with pytest.raises(LiftError, match="in_dim is 48, the layer before gives"):
        lgir.lift(model, input_shape=40)


# Wiring from a seed


def drawn(seed, widths, connections, device="cpu"):
    """The wiring difflogic draws, written out: weights first on a CPU, then permutations."""
    torch.manual_seed(seed)
    pairs = []
    for inputs, outputs in itertools.pairwise(widths):
        if device == "cpu":
            torch.randn(outputs, 16)
        if connections == "random":
            wires = torch.randperm(2 * outputs) % inputs
            wires = torch.randperm(inputs)[wires].reshape(2, outputs)
            pairs.append((wires[0], wires[1]))
            continue
        unique = [(i, i + 1) for i in range(0, inputs - 1, 2)]
        if len(unique) < outputs:
            unique += [(i, i + 1) for i in range(1, inputs - 1, 2)]
        distance = 2
        while outputs > len(unique) > distance:
            unique += [(i, i + distance) for i in range(inputs - distance)]
            distance += 1
        unique = torch.tensor(unique[:outputs])[torch.randperm(outputs)]
        pairs.append((unique[:, 0], unique[:, 1]))
    return pairs


@pytest.mark.parametrize("connections", ["random", "unique"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("widths", [(48, 60, 80, 50), (15, 20, 11), (9, 30), (12, 6), (13, 7)])
def test_wiring_is_drawn_from_a_seed(widths, connections, device):
    pairs = drawn(5, widths, connections, device)
    model = nn.Sequential(*[LogicLayer(a, b) for a, b in itertools.pairwise(widths)])
    for layer, pair in zip(model, pairs, strict=True):
        layer.indices = pair
    torch.manual_seed(99)
    state = torch.get_rng_state()
    graph = lgir.lift(
        model.state_dict(), seed=5, connections=connections, seed_device=device,
        input_shape=widths[0],
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), state), "lifting must not move the global generator"
    assert graph == lgir.lift(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "seed needs input_shape"),
        ({"input_shape": 48, "connections": "even"}, "random or unique"),
        ({"input_shape": 48, "seed_device": "tpu"}, "cpu or cuda"),
        ({"input_shape": 480}, "60 gates; difflogic builds none for 480 inputs"),
    ],
)
def test_wrong_seed_options_are_refused(model, options, message):
    with pytest.raises(LiftError, match=message):
        lgir.lift(model.state_dict(), seed=1, **options)


# The real checkpoint

needs_real = pytest.mark.skipif(not REAL.exists(), reason="the trained checkpoint is not here")
BY_HAND = {"indices": REAL / "indices.pt", "groups": 10, "tau": 20, "input_shape": 784}
WAYS = [
    BY_HAND,
    {"seed": 1, "groups": 10, "tau": 20, "input_shape": 784},
    {"indices": REAL / "indices.pt", "architecture": REAL / "model.json", "input_shape": 784},
]


@needs_real
@pytest.mark.parametrize("options", WAYS, ids=["indices", "seed", "architecture"])
def test_a_real_checkpoint_gives_its_own_scores(options):
    graph = lgir.lift(REAL / "state_dict.pt", thresholds=127, **options)
    reference = np.load(REAL / "reference.npz")
    scores = lgir.compile(graph, backend="reference")(reference["images"].reshape(-1, 784))
    np.testing.assert_array_equal(scores, reference["scores"])


@needs_real
def test_a_real_pickled_module_is_refused_for_what_it_is():
    with pytest.raises(FormatError, match=r"pickled torch\.nn.*allow_pickle=True"):
        lgir.lift(REAL / "module.pt")
    with (
        pytest.warns(UserWarning, match="runs code"),
        pytest.raises(FormatError, match=r"difflogic.*must be installed"),
    ):
        lgir.lift(REAL / "module.pt", allow_pickle=True)


@needs_real
def test_a_real_checkpoint_gives_its_own_labels_on_the_whole_test_set(mnist_test):
    graph = lgir.lift(REAL / "state_dict.pt", thresholds=127, **BY_HAND)
    x, y = mnist_test
    labels = lgir.compile(lgir.optimize(graph)[0]).predict(x.reshape(-1, 784))
    np.testing.assert_array_equal(labels, np.load(REAL / "reference.npz")["all_labels_pred"])
    assert (labels == y).mean() == pytest.approx(0.9247)
