"""Bad input to the command line: one line on stderr that says what to do, exit code 2, no more."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import lgir
from lgir.cli import main
from lgir.ir.builder import GraphBuilder, dense_body
from lgir.zoo import build_net

GOOD = """lgir 1
graph "small" {
  input %x : bit[4]
  %y = logic(%x) {
    %2 = tap 0[0]
    %3 = tap 0[1]
    %4 = and %2, %3
    %5 = or %2, %4
    yield %4, %5
  } : bit[2]
  %s = groupsum %y {groups=2, tau=1, beta=0} : f32[2]
  output %s
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad")
    lgir.save(build_net("dense-2x400"), path / "model.onnx")
    data = (path / "model.onnx").read_bytes()
    (path / "truncated.onnx").write_bytes(data[: len(data) // 2])
    (path / "corrupt.onnx").write_bytes(bytes(255 - byte for byte in data))
    (path / "empty.onnx").write_bytes(b"")
    (path / "good.lgir").write_text(GOOD)
    (path / "cycle.lgir").write_text(GOOD.replace("and %2, %3", "and %2, %5"))
    (path / "wiring.lgir").write_text(GOOD.replace("tap 0[1]", "tap 0[4]"))
    (path / "binary.lgir").write_bytes(b"lgir 1\n\xff\xfe\x00")
    (path / "unknown-op.lgir").write_text(GOOD.replace("and %2", "nand3 %2"))
    (path / "cut.lgir").write_text(GOOD[:80])
    np.save(path / "x.npy", np.zeros((3, 784), bool))
    np.save(path / "shape.npy", np.zeros((3, 783), bool))
    np.save(path / "one.npy", np.zeros(784, bool))
    np.save(path / "values.npy", np.full((3, 784), 7))
    np.save(path / "text.npy", np.full((3, 784), "a"))
    np.save(path / "object.npy", np.array([None, {}]), allow_pickle=True)
    (path / "cut.npy").write_bytes((path / "x.npy").read_bytes()[:200])
    (path / "no.npy").write_bytes(b"hello")
    np.savez(path / "many.npy.npz", a=np.zeros(2))
    b = GraphBuilder("two")
    x = b.input("x", "bit", (2,))
    two = [b.logic([x], dense_body(2, [[0, 1]], [t])) for t in (8, 14)]
    lgir.save(b.build(*two), path / "two-outputs.onnx")
    np.save(path / "two.npy", np.zeros((3, 2), bool))
    (path / "raises.py").write_text("1 / 0\n")
    (path / "no-pass.py").write_text("import lgir\n")
    (path / "wrong-pass.py").write_text(
        "import lgir\n"
        "@lgir.register_pass('empty-handed')\n"
        "def empty_handed(graph):\n"
        "    return None\n"
    )
    return path


CASES = {
    "truncated container": ("dump truncated.onnx", r"truncated\.onnx: .*(truncated|corrupt)"),
    "corrupt container": ("dump corrupt.onnx", r"corrupt\.onnx: .*(truncated|corrupt)"),
    "empty container": ("run empty.onnx x.npy", r"empty\.onnx: .*empty"),
    "missing container": ("dump nowhere.onnx", r"nowhere\.onnx: No such file"),
    "missing text": ("dump nowhere.lgir", r"nowhere\.lgir: No such file"),
    "missing checkpoint": ("lift nowhere.pt -o a.onnx", r"nowhere\.pt: No such file"),
    "missing samples": ("run model.onnx nowhere.npy", r"nowhere\.npy: No such file"),
    "a folder": ("dump .", r"directory|regular file"),
    "cycle": ("dump cycle.lgir", r"cycle\.lgir: .*%5.*cycle"),
    "wiring out of range": ("dump wiring.lgir", r"wiring\.lgir: .*channel 4; .* \[4\] channels"),
    "text that is not": ("dump binary.lgir", r"binary\.lgir: not text"),
    "unknown operation": ("dump unknown-op.lgir", r"unknown-op\.lgir: .*nand3"),
    "text cut short": ("dump cut.lgir", r"cut\.lgir: .*end"),
    "wrong shape": ("run model.onnx shape.npy -b reference", r"expects \(N, 784\), got \(3, 783"),
    "no batch axis": ("run model.onnx one.npy -b reference", r"add a batch axis"),
    "wrong values": ("run model.onnx values.npy -b reference", r"takes bits; found 7 at \[0, 0\]"),
    "wrong dtype": ("run model.onnx text.npy -b reference", r"its dtype is <U1"),
    "pickled samples": ("run model.onnx object.npy", r"object\.npy: not a readable .npy"),
    "samples cut short": ("run model.onnx cut.npy", r"cut\.npy: not a readable .npy"),
    "samples of nothing": ("run model.onnx no.npy", r"no\.npy: not a readable .npy"),
    "archive of samples": ("run model.onnx many.npy.npz", r"one .npy file per graph input"),
    "too many inputs": ("run model.onnx x.npy x.npy -b reference", r"takes 1 arrays.*2 given"),
    "no samples given": ("run model.onnx", r"give the samples"),
    "no model": ("dump", r"give a MODEL file or --net NAME \(see 'main dump --help'\)"),
    "two models": ("dump model.onnx model.onnx", r"unexpected argument 'model.onnx'"),
    "one model to compare": ("verify model.onnx", r"give two models"),
    "unlike models": ("verify model.onnx good.lgir", r"differ in inputs"),
    "unknown command": ("bnech", r"unknown command 'bnech'; did you mean 'bench'\?"),
    "unknown option": ("dump model.onnx --ful", r"--ful.*--full"),
    "unknown net": ("dump --net dense-6x800O", r"did you mean 'dense-6x8000'\?.*any dense-<"),
    "unknown pass": ("opt model.onnx -p fold,dec", r"unknown pass 'dec'; did you mean 'dce'\?"),
    "unknown pass to print": (
        "opt model.onnx -p fold --print-after flod", r"unknown pass 'flod'; did you mean 'fold'\?"),
    "unknown backend": ("run model.onnx x.npy -b lvm", r"unknown backend 'lvm'; .* 'llvm'\?"),
    "unknown backend to bench": (
        "bench model.onnx -p none -b refrence", r"unknown backend 'refrence'; .* 'reference'\?"),
    "unknown stage": ("compile model.onnx --emit lllvm", r"unknown stage .*did you mean 'llvm'\?"),
    "unknown method": ("verify model.onnx model.onnx --method smi", r"'smi'; did you mean 'sim'\?"),
    "unknown check of passes": ("opt model.onnx --verify smi", r"'smi'; did you mean 'sim'\?"),
    "unknown pass option": ("opt model.onnx -p dce{k=3}", r"pass 'dce' has no option 'k'"),
    "unreadable pipeline": ("opt model.onnx -p fold,,dce", r"expected the name of a pass"),
    "option of another backend": (
        "compile model.onnx -b reference --target generic", r"'reference' has no option --target"),
    "unreadable shape": ("describe x.pt --input-shape 1x28", r"numbers such as 1,28,28"),
    "unreadable setting": ("dump model.onnx --set tau", r"--set takes KEY=VALUE, not 'tau'"),
    "unknown suffix of a model": ("lift model.onnx -o a.txt", r"'a\.txt'; end it in \.onnx or"),
    "unknown suffix of scores": (
        "run model.onnx x.npy -b reference -o a.txt", r"'a\.txt'; end it in \.npy"),
    "several outputs": (
        "run two-outputs.onnx two.npy -b reference -o a.npy", r"2 outputs .* -o FILE\.npz"),
    "unwritable output": ("lift model.onnx -o no/such/folder.onnx", r"no/such/folder\.onnx"),
    "output without a folder": ("opt model.onnx -o no/a.onnx", r"no/a\.onnx: there is no folder"),
    "output over a folder": ("export model.onnx --format c -o .", r"\.: it exists and is not"),
    "unknown model format": ("opt model.onnx -p sweep -o a.txt", r"'a\.txt'; end it in \.onnx"),
    "history without a folder": ("bench nowhere.onnx --history no/b.jsonl", r"cannot write no/b"),
    "history over a folder": ("bench model.onnx --history .", r"cannot write \.: Is a directory"),
    "history over a model": (
        "bench model.onnx --no-torch --history model.onnx", r"model\.onnx: .*history"),
    "output without a stage": ("compile model.onnx -o a.s", r"-o needs --emit STAGE"),
    "output without a name": ("export model.onnx --format c --output=", r"the name is empty"),
    "header over its library": (
        "compile model.onnx -o a.so --header ./a.so", r"'a\.so' cannot be the C header too"),
    "features without signs": ("run model.onnx x.npy --features gfni", r"feature 'gfni' must be"),
    "features of libraries": (
        "export model.onnx -o a.o --target aarch64 --features sve", r"feature 'sve' must be"),
    "passes that raise": ("passes --load raises.py", r"raises\.py failed at line \d+ with Zero"),
    "no passes": ("passes --load no-pass.py", r"registers nothing; "),
    "missing passes": ("passes --load nowhere.py", r"no such file .*nowhere\.py"),
    "pass that returns nothing": (
        "opt model.onnx --load wrong-pass.py -p empty-handed", r"'empty-handed' returned NoneType"),
    "no samples to bench": ("bench model.onnx --samples 0", r"0 is not in the range x>=1"),
    "checkpoint without --train": ("demo -o a.pt", r"add --train"),
}  # fmt: skip


def expect_error(command: str, message: str) -> None:
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 2, (result.exit_code, result.output)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert re.search(message, lines[0]), lines[0]


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_code_2(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = sorted(folder.iterdir())
    monkeypatch.chdir(folder)
    expect_error(*CASES[case])
    assert sorted(folder.iterdir()) == before, "a failed command leaves no file behind"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    from lgir.frontend.digits import demo_checkpoint

    path = tmp_path_factory.mktemp("checkpoints")
    data = demo_checkpoint().read_bytes()
    (path / "truncated.pt").write_bytes(data[: len(data) // 2])
    middle = len(data) // 3
    (path / "corrupt.pt").write_bytes(data[:1000] + bytes(middle) + data[1000 + middle :])
    (path / "empty.pt").write_bytes(b"")
    (path / "text.pt").write_text("not a checkpoint")
    torch.save(torch.nn.Linear(2, 2), path / "pickled.pt")
    torch.save(torch.nn.Linear(2, 2).state_dict(), path / "linear.pt")
    state = torch.load(demo_checkpoint(), weights_only=True)
    key = next(key for key in state if key.endswith("indices"))
    state[key] = state[key].clone()
    state[key][0, 0] = 1_000_000
    torch.save(state, path / "wiring.pt")
    return path


CHECKPOINT_CASES = {
    "truncated": ("lift truncated.pt -o a.onnx", r"truncated\.pt: truncated or corrupt"),
    "corrupt": ("dump corrupt.pt", r"corrupt\.pt: truncated or corrupt"),
    "empty": ("dump empty.pt", r"empty\.pt: the file is empty"),
    "no checkpoint": ("dump text.pt", r"text\.pt: not a PyTorch"),
    "pickled module": ("dump pickled.pt", r"pickled\.pt: holds a pickled .*save model\.state_dict"),
    "another network": ("dump linear.pt", r"linear\.pt: no frontend knows this model"),
    "wiring out of range": ("dump wiring.pt", r"wired to input 1000000"),
    "nothing to describe": ("describe linear.pt", r"linear\.pt"),
    "sizes of nothing": ("describe linear.pt --input-shape 0,28", r"\(0, 28\) must hold positive"),
    "pickles refused": ("dump pickled.pt --set allow_pickle=false", r"holds a pickled"),
    "a model beside the file": ("dump linear.pt --set model=1", r"linear\.pt: is the model"),
    "a path beside the file": ("dump wiring.pt --set path=1", r"unknown option .* 'path'"),
    "framework that is no name": ("dump linear.pt --set framework=5", r"unknown frontend 5 "),
    "unknown framework": ("dump linear.pt --set framework=diflogic", r"did you mean 'difflogic'\?"),
}


@pytest.mark.parametrize("case", CHECKPOINT_CASES)
def test_bad_checkpoints(case: str, checkpoints: Path, monkeypatch: pytest.MonkeyPatch):
    before = sorted(checkpoints.iterdir())
    monkeypatch.chdir(checkpoints)
    expect_error(*CHECKPOINT_CASES[case])
    assert sorted(checkpoints.iterdir()) == before
