"""What is not Boolean is refused by module path, source line and operation, with what to do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lgir
from lgir.errors import LiftError


def refusal(module: object, shape: object = (16,), dtype: str = "bit") -> str:
    with pytest.raises(LiftError) as caught:
        lgir.lift(module, input_shape=shape, input_dtype=dtype)
    return str(caught.value)


class WithHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def test_a_learned_float_layer_is_named_by_path_line_and_operation() -> None:
    text = refusal(WithHead())
    assert "module 'head'" in text
    assert "linear" in text
    assert "learned float layer" in text
    assert "lift the part of the model before it" in text


def test_a_refusal_names_the_users_own_source_line() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1, keepdim=True) > 2.0

    text = refusal(Sums(), dtype="f32")
    assert "test_refusals.py" in text
    assert "x.sum(1, keepdim=True) > 2.0" in text
    assert "sums numbers of the input" in text


def test_control_flow_on_the_data_is_refused() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 3 else 1 - x

    assert "control flow depends on the data" in refusal(Branches())


def test_random_numbers_in_eval_mode_are_refused() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ((x + torch.rand_like(x)) > 0.5).float()

    assert "draws random numbers in eval mode" in refusal(Noisy())


def test_samples_that_mix_in_a_batch_are_refused() -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.maximum(x, x.amax(0, keepdim=True))

    assert "depends on the other samples of the batch" in refusal(forward)


def test_raw_numbers_among_gates_are_refused() -> None:
    def forward(x: Tensor) -> Tensor:
        return x[:, :8] * x[:, 8:]

    assert "compare it with a threshold" in refusal(forward, dtype="f32")


def test_batch_norm_of_counts_as_an_output_is_refused() -> None:
    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)
            self.norm.running_mean.copy_(torch.tensor([0.3, 0.7]))
            self.norm.running_var.copy_(torch.tensor([1.3, 0.7]))

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x.view(-1, 2, 8).sum(-1))

    text = refusal(Normalized())
    assert "module 'norm'" in text
    assert "(count + beta) / tau" in text


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        (None, "bit", "needs input_shape"),
        ((0, 3), "bit", "positive integers"),
        ((16,), "float", "not one of bit, u8, f32"),
        ((17,), "bit", "check input_shape"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(shape: object, dtype: str, message: str) -> None:
    class Halves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = x.reshape(x.shape[0], 2, 8).unbind(1)
            return F.relu(a - b)

    assert message in refusal(Halves(), shape, dtype)


def test_a_module_in_training_mode_is_lifted_as_in_eval_mode_and_left_in_training_mode() -> None:
    class Soft(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(x) if self.training else x.clone()

    module = nn.Sequential(nn.Dropout(0.5), Soft()).train()
    graph = lgir.lift(module, input_shape=(4,))
    assert all(part.training for part in module.modules())
    assert lgir.verify(graph, module).equivalent


def test_a_state_dict_is_told_to_bring_its_module() -> None:
    with pytest.raises(LiftError, match="give the module itself"):
        lgir.lift({"weight": torch.zeros(3)}, framework="trace", input_shape=(3,))
