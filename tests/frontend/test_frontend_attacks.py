"""Checkpoint files that would run code: refused by default, loaded only on request."""

import io
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

import lgir
from lgir.errors import FormatError, LgirError, LiftError
from lgir.frontend.layers import LogicDense, LogicNet

torch.set_num_threads(1)


class Attack:
    """Unpickling this makes the folder `path`."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def torch_file(payload):
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def legacy_file(payload):
    buffer = io.BytesIO()
    torch.save(payload, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def hidden_in_zip(payload):
    """A good archive whose pickle was replaced."""
    good = io.BytesIO(torch_file({"a": torch.zeros(2)}))
    bad = io.BytesIO()
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            data = pickle.dumps(payload) if name.endswith("data.pkl") else old.read(name)
            new.writestr(name, data)
    return bad.getvalue()


@pytest.mark.parametrize("write", [torch_file, legacy_file, hidden_in_zip, pickle.dumps])
@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: {"state_dict": {"0.weights": a}}])
@pytest.mark.parametrize("suffix", ["pt", "ckpt", "safetensors"])
def test_a_file_that_would_run_a_command_is_refused(tmp_path, write, wrap, suffix):
    target, path = tmp_path / "pwned", tmp_path / f"model.{suffix}"
    path.write_bytes(write(wrap(Attack(target))))
    with pytest.raises(FormatError) as caught:
        lgir.lift(path)
    assert not target.exists()
    assert "model" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_message_names_what_the_file_would_call(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(torch_file({"0.weights": Attack(tmp_path / "pwned")}))
    with pytest.raises(FormatError, match=r"pickled \w+\.mkdir, and unpickling runs code"):
        lgir.lift(path)


def test_wiring_files_are_read_as_carefully(tmp_path):
    target, path = tmp_path / "pwned", tmp_path / "indices.pt"
    path.write_bytes(torch_file([Attack(target)]))
    with pytest.raises(FormatError, match="runs code"):
        lgir.lift({"0.weights": torch.randn(4, 16)}, indices=path)
    assert not target.exists()


@pytest.mark.parametrize("word", ["no", "false", 1])
def test_only_true_allows_pickles(word):
    with pytest.raises(LiftError, match=r"allow_pickle=.* must be True or False"):
        lgir.lift("module.pt", allow_pickle=word)


def test_a_pickled_module_is_loaded_only_on_request_and_with_a_warning(tmp_path):
    net, path = LogicNet(LogicDense(8, 12), input_shape=(8,)), tmp_path / "module.pt"
    torch.save(net, path)
    with pytest.raises(FormatError, match=r"LogicNet.*allow_pickle=True"):
        lgir.lift(path)
    with pytest.warns(UserWarning, match="runs code that the file chooses"):
        graph = lgir.lift(path, allow_pickle=True)
    assert graph == lgir.lift(net)


def test_a_pickled_module_whose_class_is_gone_says_so(tmp_path, monkeypatch):
    class Gone(nn.Module):
        pass

    monkeypatch.setattr(nn, "Gone", Gone, raising=False)
    Gone.__module__, Gone.__qualname__ = "torch.nn", "Gone"
    torch.save(Gone(), tmp_path / "module.pt")
    monkeypatch.delattr(nn, "Gone")
    with (
        pytest.warns(UserWarning, match="runs code"),
        pytest.raises(FormatError, match=r"cannot be unpickled.*must be installed"),
    ):
        lgir.lift(tmp_path / "module.pt", allow_pickle=True)


def test_damaged_files_never_crash_even_when_pickles_are_allowed(tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(b"\x80\x04K.")
    with pytest.raises(LgirError):
        lgir.lift(path)
