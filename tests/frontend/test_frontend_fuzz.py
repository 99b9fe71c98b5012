"""Damaged architectures and state_dicts, drawn from a seed: lifted or refused in one line."""

import copy
import random

import pytest
import torch
from torch import nn

import lgir
import peer_modules as peer
from lgir.errors import LgirError
from lgir.frontend import describe

torch.set_num_threads(1)

VALUES = [
    None, -1, 0, 1, 2, 3, 2**40, 1e9, 1.5, float("nan"), float("inf"), True, "x", [], [1],
    [1, 2, 3], {}, [None, None], "LogicDense",
]  # fmt: skip
KEYS = [
    "type", "key", "padding", "stride", "parametrization", "receptive_field_size", "k", "tau",
    "in_dim", "kernel_size", "kernel", "complete", "feature_dim", "temperature_softplus",
]  # fmt: skip


def torchlogix():
    model = nn.Sequential(
        peer.FixedBinarization(torch.randn(1, 1), 1),
        peer.LogicConv2d(8, 1, 6, 2, 3, 1, 1, parametrization="warp"),
        peer.OrPooling2d(2, 2),
        nn.Flatten(),
        peer.LogicDense(96, 40, lut_rank=4, parametrization="light", connections="learnable"),
    )
    layers = [
        {"type": "FixedBinarization", "feature_dim": 1},
        {"type": "LogicConv2d", "padding": 1, "parametrization": "warp"},
        {"type": "OrPooling2d", "kernel_size": 2, "stride": 2},
        {"type": "Flatten"},
        {"type": "LogicDense", "parametrization": "light"},
        {"type": "GroupSum", "k": 10},
    ]
    return model.state_dict(), {"input": {"shape": [1, 8, 8]}, "layers": layers}


def convlogic():
    model = nn.Sequential(peer.ConvLogicLayer(1, 4), nn.Flatten(), peer.LogicLayer(64, 40))
    layers = [
        {"type": "ConvLogicLayer", "complete": True},
        {"type": "Flatten"},
        {"type": "LogicLayer"},
        {"type": "GroupSum", "k": 10, "tau": 2.0},
    ]
    return model.state_dict(), {"input": {"shape": [1, 8, 8]}, "layers": layers}


def weightless():
    model = nn.Sequential(peer.LUTLayer(20, 30, 3, True), peer.LUTLayer(30, 20, 2))
    layers = [{"type": "LUTLayer"}, {"type": "LUTLayer"}, {"type": "GroupSum", "k": 4}]
    return model.state_dict(), {"input": {"shape": [20]}, "layers": layers}


def damage_architecture(architecture, rng):
    damaged = copy.deepcopy(architecture)
    if rng.random() < 0.1:
        damaged["input"] = {"shape": rng.choice(VALUES), "dtype": rng.choice(VALUES)}
    else:
        rng.choice(damaged["layers"])[rng.choice(KEYS)] = rng.choice(VALUES)
    return damaged


def damage_state(state, rng):
    damaged = dict(state)
    key = rng.choice(list(damaged))
    value = damaged[key]
    ways = [
        lambda: value[: value.shape[0] // 2],
        lambda: value.reshape(-1),
        lambda: value.long() if value.is_floating_point() else value.float(),
        lambda: value * 0 + rng.choice([-1, 10**6]),
        lambda: rng.choice([None, "x", torch.tensor(3), torch.zeros(0)]),
    ]
    damaged[key] = rng.choice(ways)()
    if rng.random() < 0.2:
        del damaged[key]
    return damaged


@pytest.mark.filterwarnings("ignore:.*differs between positions", "ignore:.*has no layer for")
@pytest.mark.parametrize("make", [torchlogix, convlogic, weightless])
def test_damage_is_lifted_or_refused_in_one_line(make):
    torch.manual_seed(0)
    rng = random.Random(0)
    good, described = make()
    lgir.lift(good, architecture=described)
    refusals = []
    for _ in range(250):
        state, architecture = good, described
        if rng.random() < 0.5:
            architecture = damage_architecture(described, rng)
        else:
            state = damage_state(good, rng)
        for attempt in (lambda s, a: lgir.lift(s, architecture=a), lambda s, a: describe(s)):
            try:
                attempt(state, architecture)
            except LgirError as error:
                refusals.append(str(error))
    assert len(refusals) > 50
    assert not [r for r in refusals if "\n" in r]
