"""lgir: a compiler for logic gate networks.

    graph = lgir.lift("model.pt")              # a trained model or checkpoint -> IR
    graph, report = lgir.optimize(graph)       # passes shrink it, each one verified
    exe = lgir.compile(graph, backend="llvm")  # bit-packed machine code
    scores = exe(x)                            # (N, ...) -> float32 (N, classes)

Importing lgir is cheap: torch, llvmlite and onnx are loaded by what needs them.
"""

from pathlib import Path as _Path

from lgir.api import bench, compile, export, lift, optimize, verify
from lgir.errors import LgirError
from lgir.executable import Executable
from lgir.formats.graph_file import load, save
from lgir.formats.networkx_graph import to_networkx
from lgir.formats.text.parser import parse
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.printer import dumps
from lgir.ir.summary import summarize
from lgir.ir.types import Value
from lgir.packed import Packed, pack
from lgir.registry import register_backend, register_exporter, register_frontend, register_pass
from lgir.version import __version__

# Python started in the root of a source tree finds this folder before the installed package; the
# sibling folders that are lgir.passes, lgir.backends and lgir.frontend must then be found too.
_tree = _Path(__file__).parent.parent
if (_tree / "pyproject.toml").is_file() and (_tree / "passes").is_dir():
    __path__.append(str(_tree))

__all__ = [
    "Body",
    "Executable",
    "Graph",
    "GraphBuilder",
    "GroupSum",
    "LgirError",
    "Logic",
    "Node",
    "Packed",
    "Reshape",
    "Threshold",
    "Value",
    "__version__",
    "bench",
    "compile",
    "dumps",
    "export",
    "lift",
    "load",
    "optimize",
    "pack",
    "parse",
    "register_backend",
    "register_exporter",
    "register_frontend",
    "register_pass",
    "save",
    "summarize",
    "to_networkx",
    "verify",
]
