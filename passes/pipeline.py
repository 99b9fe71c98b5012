"""Pipelines: a string such as "fix(fold,cse,dce),lut-map{k=3}" run as a sequence of passes.

A pass is a registered callable Graph -> Graph with keyword options; it returns the same object
when it changed nothing. The runner enforces that contract, names the pass in every error, and
calls one hook between passes, which serves timing, dumping and verifying alike.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from lgir.equivalence.simulation import Simulation, check_signature
from lgir.equivalence.verdict import Verdict
from lgir.equivalence.verification import METHODS, verify_graphs
from lgir.errors import GraphError, ParseError, PassError, unknown_name
from lgir.ir.graph import Graph
from lgir.passes.report import PassRow, Report, Size
from lgir.registry import PASSES

_SIMPLIFY: Final = "fix(merge,fold,cse,dce)"
_CHAINS: Final = "fix(thermometer,reassociate,fold,cse,dce)"
# Scores stay as they are, bits that other tools compare do not: see the pass.
_CANCEL: Final = "cancel,fix(fold,cse,dce)"
# Nothing that merges gates may follow fuse-pool: see the layout that it promises.
_FUSE: Final = "fuse-pool,fix(fold,dce)"

PIPELINES: Final[dict[str, str]] = {
    "default": f"{_SIMPLIFY},{_FUSE}",
    "none": "",
    "O0": "",
    "O1": _SIMPLIFY,
    "O2": f"{_SIMPLIFY},{_FUSE}",
    "O3": f"{_SIMPLIFY},{_CHAINS},rewrite,lut-map{{k=3}},{_FUSE}",
    "O4": f"{_SIMPLIFY},{_CHAINS},sweep,rewrite,lut-map{{k=3}},{_FUSE}",
    "size": f"{_SIMPLIFY},{_CANCEL},{_CHAINS},rewrite,lut-map{{k=6}}",
    "latency": f"{_SIMPLIFY},lut-map{{k=6}},{_FUSE}",
    "throughput": f"{_SIMPLIFY},{_FUSE}",
}
"""Named pipelines; a name may stand wherever a pass may.

O1 keeps the nodes of convolutions and pools apart; O2, the default, fuses them; O3 also rewrites
and covers the gates with three-input tables, as few as it can, for targets where each is one
instruction or one cell. O4 merges equal nets on the way, for which it needs a SAT solver
(python-sat) and asks for one where there is none. "size" has few distinct tables and "latency" few
levels, both with tables of up to six inputs. "throughput" is what runs fastest on the LLVM backend
as measured: O2, since more kinds of table cost it more than fewer of them save.
"""

MAX_ROUNDS: Final = 64

_TOKEN = re.compile(r"""\s*("[^"]*"|[(),{}=]|[^\s(),{}="]+)""")


@dataclass(frozen=True)
class Step:
    """One pass with its options."""

    name: str
    run: Callable[..., Graph] = field(compare=False, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.options:
            return self.name
        inner = ",".join(f"{k.replace('_', '-')}={_show(v)}" for k, v in self.options.items())
        return f"{self.name}{{{inner}}}"


@dataclass(frozen=True)
class Fix:
    """Steps repeated until a whole round changes nothing."""

    steps: tuple[Step | Fix, ...]

    def __str__(self) -> str:
        return f"fix({','.join(map(str, self.steps))})"


@dataclass(frozen=True)
class PassEvent:
    """What the between-passes hook is told. `after is before` where nothing changed."""

    name: str
    before: Graph
    after: Graph
    seconds: float
    verdict: Verdict | None


@dataclass(frozen=True)
class PassInfo:
    """A pass as `lgir passes` lists it: its one-line doc and its options with their defaults."""

    name: str
    doc: str
    options: Mapping[str, str]


class _Stop(Exception):
    """Raised inside a run when `stop_after` is reached."""


@dataclass(frozen=True)
class Pipeline:
    """A parsed pipeline. `str(pipeline)` is its text, which parses to an equal pipeline."""

    steps: tuple[Step | Fix, ...]

    @staticmethod
    def parse(text: str) -> Pipeline:
        """Read a pipeline: passes, named pipelines and fix(...), separated by commas.

        Options stand in braces, `lut-map{k=3}`, and are typed by the pass's signature.

        Raises:
            UnknownNameError: a pass that is not registered.
            ParseError: anything else that cannot be read, with what was expected.
        """
        return Pipeline(_Parser(text).parse())

    def __str__(self) -> str:
        return ",".join(map(str, self.steps))

    def run(
        self,
        graph: Graph,
        *,
        verify: str | None = "sim",
        on_pass: Callable[[PassEvent], None] | None = None,
        dump_after: str | Collection[str] = (),
        dump_to: TextIO | None = None,
        stop_after: str | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> tuple[Graph, Report]:
        """Run every pass in turn.

        Args:
            verify: "sim" compares each changed graph with the original on random samples; "sat"
                and "exhaustive" prove that each pass changed nothing; None trusts the passes.
            on_pass: called after each pass, once it has been verified.
            dump_after: names of passes after which the text IR is written, or "all".
            dump_to: where dumps go, standard error by default.
            stop_after: name of a pass after whose first run the pipeline ends.
            samples, seed: of the simulation; by default as many samples as cost little.

        Returns:
            The new graph (the same object where no pass changed anything) and a report.

        Raises:
            PassError: a pass raised, returned no graph, broke the IR, changed the inputs' or
                outputs' types, or changed what the graph computes.
        """
        if verify is not None and verify not in METHODS:
            raise unknown_name("verification method", verify, METHODS)
        dumped = (dump_after,) if isinstance(dump_after, str) else tuple(dump_after)
        for name in (*dumped, *([stop_after] if stop_after else ())):
            if name != "all":
                PASSES.get(name)
        runner = _Runner(graph, str(self), verify, samples, seed)

        def hook(event: PassEvent) -> None:
            if on_pass is not None:
                on_pass(event)
            if event.name in dumped or "all" in dumped:
                print(f"; after {event.name}\n{event.after}", file=dump_to or sys.stderr)
            if event.name == stop_after:
                raise _Stop

        start = time.perf_counter()
        with contextlib.suppress(_Stop):
            runner.run_all(self.steps, hook)
        runner.report.seconds = time.perf_counter() - start
        return runner.graph, runner.report


class _Runner:
    """The state of one run: the graph so far, the report, and the samples to verify with."""

    def __init__(
        self, graph: Graph, text: str, verify: str | None, samples: int | None, seed: int
    ) -> None:
        self.original = graph
        self.graph = graph
        self.report = Report(text, Size.of(graph))
        self._verify = verify
        self._samples, self._seed = samples, seed
        self._simulation: Simulation | None = None

    def run_all(self, steps: tuple[Step | Fix, ...], hook: Callable[[PassEvent], None]) -> None:
        for step in steps:
            if isinstance(step, Step):
                self._run_pass(step, hook)
            else:
                self._run_fix(step, hook)

    def _run_fix(self, fix: Fix, hook: Callable[[PassEvent], None]) -> None:
        idle = 0  # parts in a row that changed nothing; a full round of them is the fixpoint
        for _ in range(MAX_ROUNDS):
            for part in fix.steps:
                before = self.graph
                self.run_all((part,), hook)
                idle = idle + 1 if self.graph is before else 0
                if idle == len(fix.steps):
                    return
        raise PassError(
            f"{fix} still changes the graph after {MAX_ROUNDS} rounds; its passes undo each other"
        )

    def _run_pass(self, step: Step, hook: Callable[[PassEvent], None]) -> None:
        before = self.graph
        start = time.perf_counter()
        after = _call(step, before)
        seconds = time.perf_counter() - start
        verdict = None if after is before else self._check(step, before, after)
        row = PassRow(
            str(step),
            Size.of(before),
            Size.of(after),
            seconds,
            _verified(after is before, verdict),
            time.perf_counter() - start - seconds,
        )
        self.report.rows.append(row)
        self.graph = after
        hook(PassEvent(step.name, before, after, seconds, verdict))

    def _check(self, step: Step, before: Graph, after: Graph) -> Verdict | None:
        try:
            check_signature(before, after)
        except GraphError as error:
            raise PassError(f"pass {step.name!r} changed the graph's signature: {error}") from error
        if before.outputs != after.outputs:
            raise PassError(
                f"pass {step.name!r} renamed the outputs {', '.join(before.outputs)} to "
                f"{', '.join(after.outputs)}; keep their names"
            )
        if self._verify is None:
            return None
        if self._verify == "sim":
            if self._simulation is None:
                self._simulation = Simulation(self.original, samples=self._samples, seed=self._seed)
            verdict = self._simulation.compare(after)
        else:
            verdict = verify_graphs(before, after, self._verify, seed=self._seed)
        if verdict.equivalent is False:
            raise PassError(f"pass {step.name!r} changed what the graph computes: {verdict}")
        return verdict


def _call(step: Step, before: Graph) -> Graph:
    """The pass's result, held to its contract; `before` itself where nothing changed."""
    try:
        after = step.run(before, **step.options)
    except GraphError as error:
        raise PassError(f"pass {step.name!r} broke the IR: {error}") from error
    except PassError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise PassError(f"pass {step.name!r} failed with {kind}: {error}") from error
    if not isinstance(after, Graph):
        raise PassError(
            f"pass {step.name!r} returned {type(after).__name__}; a pass returns a Graph "
            "(the one it was given, where nothing changed)"
        )
    return before if after == before else after


def _verified(unchanged: bool, verdict: Verdict | None) -> str:
    if unchanged:
        return "unchanged"
    if verdict is None:
        return ""
    if verdict.equivalent is None:
        return f"{verdict.method}: unknown"
    return f"{verdict.method} {verdict.samples}" if verdict.samples else verdict.method


def list_passes() -> list[PassInfo]:
    """Every registered pass, in the order of their names."""
    found = []
    for name, function in PASSES.items():
        doc = (inspect.getdoc(function) or "").partition("\n")[0]
        options = {
            key.replace("_", "-"): f"{_type_name(kind)} = {_show(parameter.default)}"
            if parameter.default is not parameter.empty
            else _type_name(kind)
            for key, (parameter, kind) in _options(function).items()
        }
        found.append(PassInfo(name, doc, options))
    return found


def _options(function: Callable[..., Any]) -> dict[str, tuple[inspect.Parameter, type]]:
    """Keyword options of a pass: every parameter after the graph, with its type."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # annotations that name what is imported for type checkers only
        signature = inspect.signature(function)
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: (parameter, _option_type(parameter))
        for name, parameter in list(signature.parameters.items())[1:]
        if parameter.kind in keywords
    }


def _option_type(parameter: inspect.Parameter) -> type:
    names = {"int": int, "float": float, "bool": bool, "str": str}
    kind = names.get(parameter.annotation, parameter.annotation)
    if kind in (int, float, bool, str):
        return kind  # type: ignore[no-any-return]
    if parameter.default is not parameter.empty and type(parameter.default) in names.values():
        return type(parameter.default)
    return str


def _type_name(kind: type) -> str:
    return kind.__name__


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", value) else f'"{value}"'
    return str(value)


class _Parser:
    """Recursive descent over the tokens of one pipeline string."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.at = 0

    def parse(self) -> tuple[Step | Fix, ...]:
        if not self.tokens:
            return ()
        steps = self._sequence()
        if self.at < len(self.tokens):
            raise self._error("a comma or the end")
        return steps

    def _sequence(self) -> tuple[Step | Fix, ...]:
        steps = [*self._item()]
        while self._accept(","):
            steps += self._item()
        return tuple(steps)

    def _item(self) -> tuple[Step | Fix, ...]:
        name = self._peek()
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name):
            raise self._error("the name of a pass")
        self.at += 1
        if name == "fix":
            self._expect("(")
            steps = self._sequence()
            self._expect(")")
            return (Fix(steps),)
        if name in PIPELINES:
            if self._peek() == "{":
                raise ParseError(f"pipeline {name!r} takes no options (in {self.text!r})")
            return _Parser(PIPELINES[name]).parse()
        names = set(PASSES.names())
        if name not in names:
            raise unknown_name("pass", name, names | PIPELINES.keys())
        function = PASSES.get(name)
        options = self._braces(name, function) if self._accept("{") else {}
        missing = [
            key
            for key, (parameter, _) in _options(function).items()
            if parameter.default is parameter.empty and key not in options
        ]
        if missing:
            raise ParseError(f"pass {name!r} needs the option {missing[0].replace('_', '-')}")
        return (Step(name, function, options),)

    def _braces(self, name: str, function: Callable[..., Any]) -> dict[str, Any]:
        known = _options(function)
        found: dict[str, Any] = {}
        while not self._accept("}"):
            key = self._next("an option's name")
            attribute = key.replace("-", "_")
            if attribute not in known:
                listed = ", ".join(k.replace("_", "-") for k in known) or "none"
                raise ParseError(f"pass {name!r} has no option {key!r} (options: {listed})")
            self._expect("=")
            found[attribute] = _convert(name, key, self._next("a value"), known[attribute][1])
            if self._peek() != "}":
                self._accept(",")
        return found

    def _peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _accept(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self.at += 1
        return True

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise self._error(repr(token))

    def _next(self, what: str) -> str:
        token = self._peek()
        if token in ("", "(", ")", ",", "{", "}", "="):
            raise self._error(what)
        self.at += 1
        return token

    def _error(self, expected: str) -> ParseError:
        found = repr(self._peek()) if self._peek() else "the end"
        return ParseError(f"pipeline {self.text!r}: expected {expected}, found {found}")


def _tokens(text: str) -> Iterator[str]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ParseError(f"pipeline {text!r}: cannot read {text[at:].strip()!r}")
        yield match[1]
        at = match.end()


def _convert(name: str, key: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is str:
            return text.strip('"')
        return kind(text)
    except (ValueError, KeyError):
        expected = "true or false" if kind is bool else f"of type {kind.__name__}"
        raise ParseError(f"pass {name!r}: option {key}={text} must be {expected}") from None
