"""Arguments of lifting: what is no size, name or switch is refused by one error."""

import math

import numpy as np
import pytest

import lgir
from lgir.errors import LgirError, LiftError, UnknownNameError
from lgir.frontend import Dense, Flatten, OrPool, TreeConv, describe, from_arrays
from lgir.frontend.core.arguments import MOST_ELEMENTS, only_lgir_errors, sample_shape

WIRES = [([0, 1, 0, 1], [1, 0, 1, 2])]
STATE = {"0.weights": np.eye(4, 16, dtype=np.float32)}
XOR = Dense(indices=[[0, 1]], ops=[6])


def itself():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(3, (3,)), ([1, 2], (1, 2)), (np.array([4]), (4,)), (np.int8(2), (2,)), (np.array(3), (3,))],
)
def test_shapes_are_numbers_or_sequences(shape, expected):
    assert sample_shape(shape) == expected


@pytest.mark.parametrize(
    "shape",
    [1.5, math.inf, -1, 0, [], [0], [1, "2"], "12", b"12", {3}, {"a": 1}, True, [True], None, 2**31,
     10**5000, [2**31] * 3, [MOST_ELEMENTS, 2], itself(), np.array(3.0), np.array([2.5])],
    ids=lambda shape: type(shape).__name__,
)  # fmt: skip
def test_what_is_no_shape_is_refused_by_every_function(shape):
    for call in (
        lambda: sample_shape(shape),
        lambda: from_arrays([XOR], input_shape=shape),
        lambda: lgir.lift(STATE, indices=WIRES, input_shape=shape if shape is not None else 0),
        lambda: describe(STATE, shape if shape is not None else 0),
        lambda: lgir.lift(
            STATE,
            indices=WIRES,
            architecture={"layers": ["LogicLayer(4, 4)"], "input": {"shape": shape or 0}},
        ),
    ):
        with pytest.raises(LiftError):
            call()


@pytest.mark.parametrize(
    "option",
    [
        {"framework": ["difflogic"]},
        {"framework": {}},
        {"groups": 2**31},
        {"groups": 10**5000},
        {"groups": "9" * 5000},
        {"groups": 1.5},
        {"groups": 0},
        {"groups": 2, "tau": "x"},
        {"groups": 2, "tau": 10**400},
        {"groups": 2, "tau": itself()},
        {"seed": 10**400, "input_shape": 4},
        {"seed": 1.5, "input_shape": 4},
        {"seed": 0, "input_shape": 4, "connections": []},
        {"thresholds": 10**400},
        {"thresholds": itself()},
        {"thresholds": "x"},
        {"thresholds": [1.0], "threshold_dtype": ["u8"]},
        {"check": 1},
        {"allow_pickle": np.array([1, 2])},
        {"name": 5},
        {"name": "\ud800"},
        {"indices": 5},
        {"indices": [itself()]},
        {"indices": "a\0b"},
        {"architecture": 5},
        {"architecture": "a\0b"},
        {"architecture": [itself()]},
        {"architecture": ["(" * 9000]},
        {"architecture": ["LogicLayer(" + "9" * 5000 + ")"]},
        {"architecture": ["LogicLayer(" + "-" * 5000 + "1)"]},
        {"architecture": ["GroupSum(k=" + "[" * 20_000]},
        {"architecture": [{"type": "LogicLayer", "key": 10**5000}]},
        {"architecture": [{"type": "LogicLayer", "in_dim": 10**5000}]},
    ],
    ids=lambda option: ", ".join(option),
)
def test_options_of_wrong_kinds_and_sizes_are_refused(option):
    with pytest.raises(LgirError) as caught:
        lgir.lift(STATE, **{"indices": WIRES, **option})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_a_list_as_framework_is_an_unknown_name():
    with pytest.raises(UnknownNameError, match=r"unknown frontend \['difflogic'\]"):
        lgir.lift(STATE, framework=["difflogic"])


@pytest.mark.parametrize(
    "layer",
    [
        OrPool((math.inf, 2)),
        OrPool((10**9, 10**9), padding=(10**9, 10**9)),
        OrPool((2, 2), stride=(0, 1)),
        OrPool((2, 2), padding=(10**6, 10**6)),
        OrPool(2),
        TreeConv(leaves=[[[0, 0, 0]]], ops=[[]], window=(2**31, 2**31)),
        TreeConv(leaves=[[[0, 0, 0]] * 2], tables=[[1]], window=(2, 2), fanin=10**9),
        TreeConv(leaves=[[[0, 0, 0]] * 2], ops=[[1]], window=(2, 2), stride=(1.5, 1)),
        Dense(indices=itself(), ops=[1]),
        Dense(indices=[[0, 1]], logits=itself()),
        None,
    ],
)
def test_layers_of_wrong_kinds_and_sizes_are_refused(layer):
    with pytest.raises(LgirError):
        from_arrays([layer, Flatten()], input_shape=(1, 8, 8))


def test_what_no_check_foresaw_becomes_one_error_with_its_cause():
    class Odd:
        def __iter__(self):
            raise OSError("odd")

    with pytest.raises(LiftError, match="OSError: odd") as caught:
        from_arrays(Odd(), input_shape=4)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(KeyboardInterrupt), only_lgir_errors("it"):
        raise KeyboardInterrupt
