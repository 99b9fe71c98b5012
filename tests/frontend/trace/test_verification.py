"""lgir.verify with a module as one side, and lifting of exported programs and ONNX models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import lgir
from lgir.cli import main
from lgir.errors import FormatError, GraphError
from lgir.frontend.digits import demo_checkpoint
from lgir.zoo import build_net


class Votes(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("wires", torch.randint(0, 10, (2, 24), generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[:, self.wires[0]], x[:, self.wires[1]]
        return (a + b - 2 * a * b).view(-1, 3, 8).sum(-1) / 2


@pytest.mark.parametrize("method", ["sim", "exhaustive", "sat"])
def test_a_module_on_either_side_is_compared(method: str) -> None:
    module = Votes(0).eval()
    graph = lgir.lift(module, input_shape=(10,))
    assert lgir.verify(graph, module, method=method).equivalent
    assert lgir.verify(module, graph, method=method).equivalent
    verdict = lgir.verify(graph, Votes(1), method=method)
    assert verdict.equivalent is False
    assert "on the sample" in str(verdict)


def test_a_counterexample_shows_what_both_give() -> None:
    module = Votes(1).eval()
    verdict = lgir.verify(lgir.lift(Votes(0), input_shape=(10,)), module)
    assert verdict.counterexample is not None
    (sample,) = verdict.counterexample.inputs
    scores = module(torch.from_numpy(sample[None].astype(np.float32)))
    assert scores.reshape(-1)[verdict.counterexample.index].item() == verdict.counterexample.right


def test_a_module_of_another_input_or_output_is_refused() -> None:
    graph = build_net("dense-2x400")
    with pytest.raises(GraphError, match="fails on"):
        lgir.verify(graph, nn.Linear(3, 4))
    with pytest.raises(GraphError, match="elements a sample"):
        lgir.verify(graph, lambda x: x)


@pytest.mark.filterwarnings("ignore:.*unpickling runs code")
def test_the_command_line_verifies_a_pickled_module_only_on_request(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.MaxPool1d(2))
    torch.save(module, tmp_path / "module.pt")
    lgir.save(lgir.lift(module, input_shape=(6,)), tmp_path / "model.onnx")
    files = [str(tmp_path / "model.onnx"), str(tmp_path / "module.pt")]
    result = CliRunner().invoke(main, ["verify", *files, "--set", "allow_pickle=True"])
    assert result.exit_code == 0, result.output
    assert "equal on" in result.output
    assert CliRunner().invoke(main, ["verify", *files]).exit_code == 2


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_exported_program_is_lifted_from_its_file_on_request(
    tmp_path: Path, dynamic: bool
) -> None:
    module = Votes(0).eval()
    batch = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if dynamic else {}
    example = torch.zeros(2 if dynamic else 1, 10)
    program = torch.export.export(module, (example,), **batch)
    torch.export.save(program, tmp_path / "votes.pt2")
    with pytest.raises(FormatError, match="allow_pickle=True"):
        lgir.lift(tmp_path / "votes.pt2")
    graph = lgir.lift(tmp_path / "votes.pt2", allow_pickle=True)
    assert lgir.verify(graph, lgir.lift(module, input_shape=(10,), name="x"), "sat").equivalent


def test_a_model_of_standard_onnx_operators_is_lifted(tmp_path: Path) -> None:
    graph = lgir.lift(demo_checkpoint())
    lgir.export(graph, tmp_path / "digits.onnx", format="onnx")
    lifted = lgir.lift(tmp_path / "digits.onnx")
    assert [node.op.space for node in lifted.nodes if node.op_type == "Logic"][:2] == [
        (8, 8),
        (4, 4),
    ]
    assert lgir.verify(graph, lifted).equivalent
    result = CliRunner().invoke(main, ["dump", str(tmp_path / "digits.onnx"), "--summary"])
    assert result.exit_code == 0, result.output


def test_onnx_arithmetic_on_float_bits_is_lifted() -> None:
    first, second = np.array([0, 3, 1, 2, 4, 4]), np.array([5, 1, 2, 0, 3, 1])
    nodes = [
        helper.make_node("Gather", ["x", "i"], ["a"], axis=1),
        helper.make_node("Gather", ["x", "j"], ["b"], axis=1),
        helper.make_node("Mul", ["a", "b"], ["ab"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["sum", "ab"], ["or"]),
        helper.make_node("Reshape", ["or", "shape"], ["grouped"]),
        helper.make_node("ReduceSum", ["grouped", "axes"], ["y"], keepdims=0),
    ]
    constants = {"i": first, "j": second, "shape": np.array([-1, 2, 3]), "axes": np.array([2])}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "votes",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
            [numpy_helper.from_array(v, k) for k, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    graph = lgir.lift(model)
    assert graph.inputs[0].type == "bit[6]"
    assert lgir.verify(graph, model).equivalent
