"""Target: what is traced, be it a module, a function, an exported program or an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lgir.errors import LiftError
from lgir.frontend.trace.export import in_eval_mode

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

_DTYPES: Final = {torch.bool: "bit", torch.uint8: "u8"}


@dataclass(frozen=True, eq=False)
class Target:
    """Attributes:
    module: a torch module to export.
    shapes: of its inputs without the batch axis, if it says them.
    kinds: torch dtypes of its inputs, if it says them.
    evaluate: what it gives for arrays with a batch axis.
    one_by_one: whether it takes only one sample at a time.
    """

    module: Any
    evaluate: Callable[[Sequence[Array], Sequence[torch.dtype]], list[Array]]
    shapes: Sequence[Shape] | None = None
    kinds: Sequence[torch.dtype] | None = None
    one_by_one: bool = False

    def dtypes(self) -> list[str] | None:
        """The IR's types of the inputs, if the target says them."""
        return None if self.kinds is None else [_DTYPES.get(k, "f32") for k in self.kinds]


def target_of(model: Any, label: str) -> Target:
    """A module, a callable, a torch.export.ExportedProgram or an onnx.ModelProto to trace.

    Raises LiftError if it is none of these, or fixes a batch of several samples.
    """
    if isinstance(model, Target):
        return model
    if isinstance(model, torch.nn.Module):
        return Target(model, lambda x, kinds: module_outputs(model, x, kinds))
    if isinstance(model, torch.export.ExportedProgram):
        return _of_program(model, label)
    if hasattr(model, "opset_import"):
        from lgir.frontend.trace.onnx_module import OnnxModule

        try:
            module = OnnxModule(model)
        except LiftError as error:
            raise LiftError(f"{label}: {error}") from None
        return Target(
            module, lambda x, kinds: module.reference(_as_kinds(x, kinds)), module.shapes,
            module.kinds, module.fixed_batch,
        )  # fmt: skip
    if callable(model):
        called = _Called(model)
        return Target(called, lambda x, kinds: module_outputs(called, x, kinds))
    raise LiftError(f"{label}: a {type(model).__name__} cannot be traced; give a module")


class _Called(torch.nn.Module):
    """A module whose forward is a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self._function(*inputs)


def _of_program(program: Any, label: str) -> Target:
    values = [
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    sizes = [list(v.shape) for v in values]
    fixed = any(isinstance(s[0], int) for s in sizes)
    if any(isinstance(s[0], int) and s[0] != 1 for s in sizes):
        raise LiftError(
            f"{label}: was exported for a batch of {sizes[0][0]}; export it with one sample, or "
            "with a dynamic batch axis"
        )
    if any(not isinstance(n, int) for s in sizes for n in s[1:]):
        raise LiftError(f"{label}: was exported with dynamic axes beside the batch; fix them")
    module = program.module()
    return Target(
        module, lambda x, kinds: module_outputs(module, x, kinds), [tuple(s[1:]) for s in sizes],
        [v.dtype for v in values], fixed,
    )  # fmt: skip


def _as_kinds(samples: Sequence[Array], kinds: Sequence[torch.dtype]) -> list[Array]:
    return [
        torch.from_numpy(np.ascontiguousarray(x)).to(kind).numpy()
        for x, kind in zip(samples, kinds, strict=True)
    ]


def module_outputs(
    module: Any, samples: Sequence[Array], kinds: Sequence[torch.dtype]
) -> list[Array]:
    """What a module's eval mode gives for a batch, output by output."""
    place = next((p.device for p in module.parameters()), torch.device("cpu"))
    tensors = [
        torch.from_numpy(np.ascontiguousarray(x)).to(kind).to(place)
        for x, kind in zip(samples, kinds, strict=True)
    ]
    with in_eval_mode(module):
        out = module(*tensors)
    return [
        (x.float() if x.dtype == torch.bfloat16 else x).detach().cpu().numpy()
        for x in flat_outputs(out)
    ]


def flat_outputs(out: Any) -> list[torch.Tensor]:
    """The tensors of a module's result, in order."""
    if isinstance(out, torch.Tensor):
        return [out]
    values = out.values() if isinstance(out, dict) else out
    return [t for part in values for t in flat_outputs(part)]
