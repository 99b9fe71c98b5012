"""Imports among lgir's modules point down the layers, and no circle exists."""

from __future__ import annotations

from import_layers import circles, import_arrows, module_files, upward_arrows


def test_imports_of_the_installed_package_point_down_without_circles() -> None:
    files = module_files()
    for name in ("lgir.ir.graph", "lgir.passes.dce", "lgir.backends.llvm", "lgir.frontend.layers"):
        assert name in files
    arrows = import_arrows(files)
    assert circles(arrows) == []
    assert upward_arrows(arrows) == []


def test_function_level_imports_count_and_type_checking_ones_do_not(tmp_path) -> None:
    text = {
        "lgir.a": "def f():\n    from lgir import b\n",
        "lgir.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lgir.a\n",
        "lgir": "",
    }
    files = {name: tmp_path / f"{name}.py" for name in text}
    for name, path in files.items():
        path.write_text(text[name])
    assert import_arrows(files) == {"lgir.a": {"lgir.b"}, "lgir.b": set(), "lgir": set()}


def test_a_circle_is_found_through_several_modules() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(arrows) == [["a", "b", "c"]]


def test_an_arrow_against_the_order_of_layers_is_found() -> None:
    arrows = {"lgir.ir.graph": {"lgir.passes.dce"}, "lgir.passes.dce": {"lgir.ir.graph"}}
    assert upward_arrows(arrows) == [("lgir.ir.graph", "lgir.passes.dce")]


def test_backends_do_not_import_each_other() -> None:
    arrows = {"lgir.backends.llvm.jit": {"lgir.backends.cuda.driver", "lgir.backends.c.text"}}
    assert upward_arrows(arrows) == [("lgir.backends.llvm.jit", "lgir.backends.cuda.driver")]
