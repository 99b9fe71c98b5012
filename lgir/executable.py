"""Executable: what every backend returns, and the checks that samples pass on their way in."""

from __future__ import annotations

import abc
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.errors import BackendError, InputError
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum
from lgir.ir.simulate import group_scores
from lgir.ir.types import Value
from lgir.packed import Packed

Array = npt.NDArray[Any]


class Executable(abc.ABC):
    """A compiled graph. Call it with one array per graph input.

    Attributes:
        graph: what was compiled.
        backend: the backend's registered name.
    """

    backend: str = ""
    takes_packed: bool = False
    """Whether `_run` gets packed samples as they are: words, uint64 (N, ...)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @property
    def asm(self) -> dict[str, str]:
        """Stage name -> text of that stage: "llvm", "asm", "cuda", "ptx", where they exist."""
        return {}

    def __call__(self, *samples: Any, threads: int | None = None) -> Any:
        """Scores for a batch.

        Args:
            samples: numpy arrays or torch tensors (N, *input shape), N >= 0, one per graph input:
                bool or 0/1 numbers for a bit input, or `lgir.Packed`, uint8 (or integers 0..255)
                for u8, any real dtype for f32. Strided views are accepted.
            threads: how many threads split the batch, where the backend uses threads.

        Returns:
            One array per graph output, alone if there is one: float32 (N, groups) scores, or bool
            (N, *shape) for a bit output. A torch tensor where the first sample array was one.

        Raises:
            InputError: wrong count, shape, dtype or values.
        """
        arrays, n = self._check(samples)
        results = _like(samples, self._run(arrays, n, threads))
        return results[0] if len(results) == 1 else tuple(results)

    def predict(self, *samples: Any, threads: int | None = None) -> Any:
        """Class labels, int64 (N,): the argmax of the first output, the lowest index on ties."""
        arrays, n = self._check(samples)
        return _like(samples, [self._labels(arrays, n, threads)])[0]

    def counts(self, *samples: Any, threads: int | None = None) -> Any:
        """Scores as integers, int32 (N, groups): how many bits of each group of the first output
        are True, before `beta` is added and `tau` divides.

        Raises as a call, and BackendError where the first output is no GroupSum's.
        """
        if self._first_sum() is None:
            name = self.graph.outputs[0]
            raise BackendError(f"output %{name} is no GroupSum's, so it has no counts")
        arrays, n = self._check(samples)
        return _like(samples, [self._counts(arrays, n, threads)])[0]

    def _check(self, samples: Sequence[Any]) -> tuple[list[Array], int]:
        return check_samples(self.graph.inputs, samples, packed=self.takes_packed)

    def _first_sum(self) -> tuple[GroupSum, int] | None:
        """The GroupSum that gives the first output, and the bits of a group."""
        producer = self.graph.producer(self.graph.outputs[0])
        if producer is None or not isinstance(producer.op, GroupSum):
            return None
        return producer.op, self.graph.values[producer.inputs[0]].size // producer.op.groups

    def _labels(self, samples: list[Array], n: int, threads: int | None) -> Array:
        """`predict` for checked samples."""
        labels: Array = self._run(samples, n, threads)[0].argmax(axis=-1)
        return labels

    def _counts(self, samples: list[Array], n: int, threads: int | None) -> Array:
        """`counts` for checked samples: each score is looked up among those of every count."""
        scores = self._run(samples, n, threads)[0]
        found = self._first_sum()
        assert found is not None
        op, bits = found
        every = group_scores(np.arange(bits + 1), op)
        if len(np.unique(every)) < len(every):
            raise BackendError(
                "different counts have the same score; backend 'llvm' tells them apart"
            )
        order = np.argsort(every)
        return order[np.searchsorted(every, scores, sorter=order)].astype(np.int32)

    @abc.abstractmethod
    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        """Outputs for checked samples; see `check_samples` for their dtypes."""


def _like(samples: Sequence[Any], results: list[Array]) -> list[Any]:
    """Tensors where the first sample array was one."""
    if not samples or not _is_torch(samples[0]):
        return results
    torch = sys.modules["torch"]
    return [torch.from_numpy(r) for r in results]


def _is_torch(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def check_samples(
    inputs: Sequence[Value], samples: Sequence[Any], *, packed: bool = False
) -> tuple[list[Array], int]:
    """Arrays (N, *shape) of dtype bool, uint8 or float32 for bit inputs, uint8 for u8, float32 for
    f32, and N. Values are checked here only where a dtype conversion looks at them anyway; an
    executable checks the rest with `check_bits` and `check_floats` or in its own code.

    Packed samples are unpacked, or with `packed` become their words, uint64 (N, words).
    """
    if len(samples) != len(inputs):
        names = ", ".join(f"%{v.name}" for v in inputs)
        raise InputError(f"the graph takes {len(inputs)} arrays ({names}), {len(samples)} given")
    arrays = [_check_one(v, x, packed) for v, x in zip(inputs, samples, strict=True)]
    counts = {len(a) for a in arrays}
    if len(counts) != 1:
        raise InputError(f"input arrays differ in batch size: {[len(a) for a in arrays]}")
    return arrays, counts.pop()


def _check_one(value: Value, x: Any, packed: bool) -> Array:
    if isinstance(x, Packed):
        return _check_packed(value, x, packed)
    array = _as_array(value, x)
    if array.ndim != len(value.shape) + 1 or array.shape[1:] != value.shape:
        raise InputError(
            f"input %{value.name} expects (N, {', '.join(map(str, value.shape))}), got "
            f"{array.shape}" + (" (add a batch axis)" if array.shape == value.shape else "")
        )
    kind = array.dtype.kind
    if kind not in "biuf":
        raise InputError(f"input %{value.name} has dtype {array.dtype}; give real numbers")
    if value.dtype == "bit":
        if array.dtype in (np.bool_, np.uint8, np.float32):
            return array
        check_bits(value, array)
        return array.astype(np.uint8)
    if value.dtype == "u8":
        if array.dtype == np.uint8:
            return array
        if kind not in "iu":
            raise InputError(
                f"input %{value.name} takes integers 0..255 (dtype uint8), got {array.dtype}"
            )
        if array.size and (array.min() < 0 or array.max() > 255):
            raise InputError(f"input %{value.name} takes 0..255, got {array.min()}..{array.max()}")
        return array.astype(np.uint8)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _check_packed(value: Value, x: Packed, packed: bool) -> Array:
    if value.dtype != "bit" or x.shape != value.shape:
        raise InputError(
            f"input %{value.name} is {value.type}, got packed samples of shape {x.shape}"
        )
    return x.words if packed else x.unpack()


def _as_array(value: Value, x: Any) -> Array:
    """`x` as numpy sees it, without a copy where that can be."""
    try:
        if _is_torch(x):
            torch = sys.modules["torch"]
            x = x.detach().cpu()
            return np.asarray((x.float() if x.dtype == torch.bfloat16 else x).numpy())
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # sparse, on no device, ragged, ...
        reason = str(error).splitlines()[0]
        raise InputError(
            f"input %{value.name}: {reason} (give a dense tensor of real numbers)"
        ) from None


def check_bits(value: Value, array: Array) -> None:
    """Raises InputError where a bit input holds anything but 0 and 1."""
    bad = (array != 0) & (array != 1)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"input %{value.name} takes bits; found {array[at]} at {list(at)} (threshold the data "
            "first, or lift the model with its thresholds)"
        )


def check_floats(value: Value, array: Array) -> None:
    """Raises InputError where an f32 input holds NaN, which no threshold can order."""
    bad = np.isnan(array)
    if bad.any():
        at = [int(i) for i in np.argwhere(bad)[0]]
        raise InputError(f"input %{value.name} holds NaN at {at}; clean the data first")
