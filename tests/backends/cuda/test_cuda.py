"""The CUDA backend's source against the reference interpreter, bit for bit.

The same .cu file is built for the CPU with a stand-in for the CUDA runtime.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import GOLDEN

import lgir
from cuda_host.host import FOLDER, GXX, HostNetwork, build
from lgir.backends.cuda import emit_cuda
from lgir.backends.cuda.dependences import IndependentSteps, independent_steps, planes_touched
from lgir.backends.cuda.program import LOWERING_OPTIONS, build_program
from lgir.backends.cuda.runtime import launch_dimensions
from lgir.backends.cuda.source import max_words
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import ONE_PLANE
from lgir.cli import main
from lgir.errors import BackendError
from lgir.frontend.digits import demo_checkpoint
from lgir.ir.builder import tree_body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import OP_TABLES
from lgir.zoo import TWO_INPUT_OPS, build_net, dense_net, logictreenet
from paths import ROOT, SHARED
from random_graphs import random_graph, random_inputs

EXAMPLES = ROOT / "examples" / "cuda"
BATCHES = (0, 1, 31, 32, 33, 63, 64, 65, 511, 512, 513, 2500)

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not here")


def assert_same(net: HostNetwork, samples: list[np.ndarray], batch: int = 0) -> None:
    expected = lgir.compile(net.graph, "reference")(*samples)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for result, reference in zip(net(samples, batch), expected, strict=True):
        assert result.dtype == reference.dtype
        np.testing.assert_array_equal(result, reference, err_msg=net.graph.name)


@pytest.fixture(scope="module")
def special(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HostNetwork]:
    """Return networks that several tests share, built together."""
    graphs = {
        "dense": dense_net(2, 400, seed=3),
        "dense-optimized": lgir.optimize(dense_net(3, 400, seed=4), verify=None)[0],
        "conv": lgir.optimize(logictreenet(8, seed=2), verify=None)[0],
        "byte-levels": _levels([-1, 0, 254, 255, 256]),
        "odd-levels": _levels([-0.5, 0.5, 254.5, 1e9, -np.inf, np.inf]),
        **{f"sum-{bits}": _sums(bits) for bits in (1, 15, 16, 17, 127, 128, 129, 300)},
    }
    nets = build(list(graphs.values()), tmp_path_factory.mktemp("cuda"))
    return dict(zip(graphs, nets, strict=True))


def _levels(levels: list[float]) -> Graph:
    b = lgir.GraphBuilder("levels")
    return b.build(b.threshold(b.input("x", "u8", (70,)), levels))


def _sums(bits: int) -> Graph:
    b = lgir.GraphBuilder(f"sum-{bits}")
    return b.build(b.group_sum(b.input("x", "bit", (7 * bits,)), 7, tau=3.0, beta=0.25))


@needs_compiler
def test_random_graphs_match_the_reference(tmp_path: Path) -> None:
    nets = build([random_graph(seed) for seed in range(24)], tmp_path)
    for seed, net in enumerate(nets):
        net.code.host_reverse(seed % 2)
        for n, batch in ((0, 0), (1, 0), (65, 32), (513, 0)):
            assert_same(net, random_inputs(net.graph, n, seed), batch)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("first", range(100, 400, 50))
def test_many_random_graphs_match_the_reference(first: int, tmp_path: Path) -> None:
    graphs = [random_graph(seed) for seed in range(first, first + 50)]
    for i, passes in enumerate(("default", "throughput", "latency")):  # gates of 2, 3, 6 inputs
        graphs[i::4] = [lgir.optimize(g, passes, verify=None)[0] for g in graphs[i::4]]
    for seed, net in enumerate(build(graphs, tmp_path), start=first):
        net.code.host_reverse(seed % 3)
        for n, batch in ((1, 0), (33, 0), (700, 320), (1100, 0)):
            assert_same(net, random_inputs(net.graph, n, seed), batch)


@needs_compiler
@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("name", ["dense", "dense-optimized"])
def test_every_batch_size(special: dict[str, HostNetwork], name: str, n: int) -> None:
    x = np.random.default_rng(n).random((n, 784)) < 0.4
    assert_same(special[name], [x])
    assert_same(special[name], [x], batch=96)


@needs_compiler
@pytest.mark.parametrize("n", [0, 1, 33, 257])
def test_every_batch_size_on_a_convolution(special: dict[str, HostNetwork], n: int) -> None:
    x = np.random.default_rng(n).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    assert_same(special["conv"], [x])
    assert_same(special["conv"], [x], batch=64)


@needs_compiler
@pytest.mark.parametrize("name", ["byte-levels", "odd-levels"])
def test_levels_outside_a_byte(special: dict[str, HostNetwork], name: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (100, 70), dtype=np.uint8)
    samples[0], samples[1] = 0, 255
    assert_same(special[name], [samples])


@needs_compiler
@pytest.mark.parametrize("bits", [1, 15, 16, 17, 127, 128, 129, 300])
def test_group_sums_of_any_size(special: dict[str, HostNetwork], bits: int) -> None:
    samples = np.random.default_rng(bits).random((1030, 7 * bits)) < 0.7
    samples[0], samples[1] = True, False
    assert_same(special[f"sum-{bits}"], [samples])


@needs_compiler
def test_results_do_not_depend_on_the_order_of_threads(special: dict[str, HostNetwork]) -> None:
    net = special["conv"]
    x = np.random.default_rng(7).integers(0, 256, (70, 3, 32, 32), dtype=np.uint8)
    net.code.host_reverse(1)
    try:
        assert_same(net, [x])
    finally:
        net.code.host_reverse(0)


@needs_compiler
@pytest.mark.parametrize("batch", [0, 64])
def test_packed_samples_give_the_same(special: dict[str, HostNetwork], batch: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.random((150, 784)) < 0.5
    net = special["dense"]
    results, codes = net.try_run([_planes(x)], batch, packed=True, n=150)
    assert codes == [0, 0, 0]
    np.testing.assert_array_equal(results[0], net([x])[0])

    image = rng.integers(0, 256, (150, 3, 32, 32), dtype=np.uint8)
    levels = np.unique(special["conv"].graph.nodes[0].op.levels)
    planes = np.concatenate([_planes(image.reshape(150, -1) > level) for level in levels])
    results, codes = special["conv"].try_run([planes], batch, packed=True, n=150)
    assert codes == [0, 0, 0]
    np.testing.assert_array_equal(results[0], special["conv"]([image])[0])


def _planes(bits: np.ndarray) -> np.ndarray:
    """Return bits, bool (n, elements), as packed planes, uint32 (elements, words)."""
    words = -(-len(bits) // 32)
    padded = np.zeros((words * 32, bits.shape[1]), bool)
    padded[: len(bits)] = bits
    packed = np.packbits(padded, axis=0, bitorder="little").reshape(words, 4, -1)
    return (
        np.ascontiguousarray(packed.transpose(2, 0, 1)).reshape(bits.shape[1], -1).view(np.uint32)
    )


@needs_compiler
def test_every_failing_call_is_reported_and_nothing_leaks(special: dict[str, HostNetwork]) -> None:
    net = special["dense"]
    x = np.zeros((100, 784), bool)
    calls = 0
    while True:
        net.code.host_fail_after(calls)
        _, codes = net.try_run([x], batch=64)
        if not any(codes):
            break
        calls += 1
    # two allocations, tables, workspace, synchronization, the steps of two chunks, two frees
    assert calls > 20


@needs_compiler
def test_null_pointers_are_refused(special: dict[str, HostNetwork]) -> None:
    net = special["dense"]
    assert net.function("create")(None, 0) == 1
    assert net.function("run")(None, None, None, 1, None) == 1
    assert net.function("destroy")(None) == 0


@pytest.mark.parametrize("optimized", [False, True])
def test_threads_of_a_launch_do_not_race(optimized: bool) -> None:
    """No launch writes a plane twice, or one that it reads, since loads take the read-only path."""
    graphs = [random_graph(seed) for seed in range(30)] + [logictreenet(8)]
    for graph in graphs:
        graph = lgir.optimize(graph, verify=None)[0] if optimized else graph
        plan = make_plan(graph, LOWERING_OPTIONS)
        for part in independent_steps(plan):
            if isinstance(part, IndependentSteps):
                touched = [planes_touched(step) for step in part.steps]
                reads = np.concatenate([planes.ravel() for planes, _ in touched])
                writes = np.concatenate([planes.ravel() for _, planes in touched])
                assert len(np.unique(writes)) == len(writes)
                assert not np.intersect1d(reads, writes).size
                assert writes.min() > ONE_PLANE


def test_grids_stay_within_limits() -> None:
    program = build_program(_levels([1.0]))
    words = max_words(program, 1 << 40)
    for launch in program.launches:
        (x, y, z), _ = launch_dimensions(launch, words)
        assert x < 1 << 31
        assert max(y, z) < 1 << 16
    assert words * program.plan.num_planes < 1 << 32


def test_a_prefix_must_be_a_name() -> None:
    with pytest.raises(BackendError, match="prefix 'my-net' cannot begin C names"):
        emit_cuda(dense_net(1, 400), prefix="my-net")


def test_names_stay_inside_comments() -> None:
    b = lgir.GraphBuilder("evil */ \\\nint x;")
    text = emit_cuda(b.build(b.group_sum(b.input("x", "bit", (4,)), 2)))
    assert text.startswith("// evil ?/ ??int x;: a logic gate network")


def test_source_grows_by_tables_alone() -> None:
    def code(graph: Graph) -> str:
        return emit_cuda(graph).split("// ---- tables")[0]

    small, large = code(dense_net(2, 400)), code(dense_net(2, 4000))
    assert len(large) <= len(small) * 1.02


def test_dense_layers_take_one_launch_each() -> None:
    text = emit_cuda(build_net("dense-6x8000"))
    assert text.count("launch(c, gates2") == 6
    assert len(text) < 3_000_000


# -- trees of every size -------------------------------------------------------------------------


def _tree_graph(leaves: int, pool: int, seed: int) -> Graph:
    """Return a convolution whose kernels are balanced trees of random gates, with OR pooling."""
    rng = np.random.default_rng(seed)
    b = lgir.GraphBuilder(f"trees-{leaves}-pool-{pool}")
    x = b.input("x", "bit", (3, 8, 8))
    taps = np.zeros((6, leaves, 4), np.int64)
    taps[..., 1] = rng.integers(3, size=(6, leaves))
    taps[..., 2:] = rng.integers(-1, 2, size=(6, leaves, 2))
    body = tree_body(taps, OP_TABLES[rng.choice(TWO_INPUT_OPS, size=(6, leaves - 1))])
    y = b.logic([x], body, (8, 8))
    y = b.or_pool(y, (pool, pool)) if pool > 1 else y
    return lgir.optimize(b.build(b.flatten(y)), verify=None)[0]


@needs_compiler
def test_trees_of_every_size_and_pool(tmp_path: Path) -> None:
    sizes = [(2, 1), (8, 4), (16, 2), (32, 1), (32, 4)]
    graphs = [_tree_graph(leaves, pool, seed) for seed, (leaves, pool) in enumerate(sizes)]
    for net in build(graphs, tmp_path):
        x = np.random.default_rng(1).random((70, 3, 8, 8)) < 0.5
        assert_same(net, [x])


# -- real networks -------------------------------------------------------------------------------


def _real_graphs() -> dict[str, tuple[Graph, np.ndarray, np.ndarray]]:
    """Return trained networks that are here, with samples and the scores of their frameworks."""
    folder = SHARED / "checkpoints"
    networks = {}
    dense, conv = folder / "difflogic_mnist", folder / "torchlogix_conv_mnist"
    if dense.exists():
        graph = lgir.lift(
            dense / "state_dict.pt",
            thresholds=127,
            input_shape=784,
            indices=dense / "indices.pt",
            architecture=dense / "model.json",
        )
        reference = np.load(dense / "reference.npz")
        networks["dense"] = graph, reference["images"].reshape(-1, 784), reference["scores"]
    if conv.exists():
        architecture = conv / "model.json"
        graph = lgir.lift(conv / "state_dict.pt", thresholds=127, architecture=architecture)
        reference = np.load(conv / "reference.npz")
        networks["conv"] = graph, reference["images"][:, None], reference["scores"]
    return networks


@needs_compiler
def test_golden_networks_match_the_reference(tmp_path: Path) -> None:
    texts = [path.read_text() for path in sorted(GOLDEN.glob("*.lgir")) if path.stem != "elided"]
    assert texts
    for net in build(list(map(lgir.parse, texts)), tmp_path):
        assert_same(net, random_inputs(net.graph, 75))


@needs_compiler
def test_real_networks_give_their_frameworks_scores(tmp_path: Path) -> None:
    real = _real_graphs()
    if not real:
        pytest.skip("no trained checkpoints here")
    graphs = [lgir.optimize(graph, verify=None)[0] for graph, _, _ in real.values()]
    for net, (_, x, scores) in zip(build(graphs, tmp_path), real.values(), strict=True):
        np.testing.assert_array_equal(net([x[:200]])[0], scores[:200])


@needs_compiler
def test_the_shipped_network_as_a_program(tmp_path: Path) -> None:
    """A checkpoint becomes a .cu file and then a running program, as the example says."""
    graph = lgir.lift(demo_checkpoint())
    lgir.save(graph, str(tmp_path / "digits.onnx"))
    model = [str(tmp_path / "digits.onnx"), "-p", "default", "--prefix", "model"]
    files = ["-o", str(tmp_path / "model.cu"), "--header", str(tmp_path / "model.h")]
    result = CliRunner().invoke(main, ["export", *model, *files])
    assert result.exit_code == 0, result.output
    program = tmp_path / "predict"
    command = [x for x in GXX if x not in ("-shared", "-fPIC")]
    paths = ["-I", str(FOLDER), "-I", str(tmp_path)]
    sources = [str(EXAMPLES / "predict.cu"), str(tmp_path / "model.cu")]
    subprocess.run([*command, *paths, *sources, "-o", str(program)], check=True)
    (value,) = graph.inputs
    x = np.random.default_rng(0).integers(0, 17, (100, *value.shape), dtype=np.uint8)
    process = subprocess.run([str(program)], input=x.tobytes(), capture_output=True, check=True)
    scores = np.loadtxt(process.stdout.decode().splitlines(), dtype=np.float32)
    np.testing.assert_array_equal(scores, lgir.compile(graph, "reference")(x))
