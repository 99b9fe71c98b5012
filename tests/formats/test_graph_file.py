"""lgir.load and lgir.save take text IR as well as the container, told apart by content."""

import pytest

import lgir
from lgir.errors import FormatError, ParseError
from lgir.zoo import build_net


@pytest.mark.parametrize("name", ["net.lgir", "net.onnx"])
def test_a_graph_is_read_back_from_either_form(name, tmp_path):
    graph = build_net("dense-2x400")
    lgir.save(graph, tmp_path / name)
    assert lgir.load(tmp_path / name) == graph
    assert (tmp_path / name).read_bytes().startswith(b"lgir ") == name.endswith(".lgir")


def test_text_under_another_ending_is_read(tmp_path):
    graph = build_net("dense-2x400")
    (tmp_path / "net.txt").write_text(lgir.dumps(graph, full=True))
    assert lgir.load(tmp_path / "net.txt") == graph


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [(b"lgir 1\ngraph", ParseError, "net.lgir"), (b"lgir \xff", FormatError, "not text")],
)
def test_damaged_text_is_refused_with_the_files_name(data, error, match, tmp_path):
    (tmp_path / "net.lgir").write_bytes(data)
    with pytest.raises(error, match=match):
        lgir.load(tmp_path / "net.lgir")
