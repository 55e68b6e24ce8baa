"""Who may import whom: docs/architecture.md's table, enforced on the imports as they stand in the source."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import tfopt

ROOT = Path(tfopt.__file__).parent
LEVELS = {
    name: level
    for level, names in {
        -1: "errors files",  # beside types on the ground floor, but types uses them
        0: "types",
        1: "backend options results tracing",
        2: "bridge preprocessing progress",
        3: "loading surgery strategies pipelines",
        4: "tasks",
        5: "training datasets models deployment teaching",
        6: "conversion runtime describing embedding",
        7: "measures timing picturing",
        8: "techniques verification",
        9: "recipes inspection runs finding",
        10: "reporting",
        11: "pipeline",
        12: "launching",
        13: "searching serving",
        14: "cli",
        15: "__main__",
    }.items()
    for name in names.split()
}
# A private module stands beside its users and is imported by nobody else; it has the lowest level of them.
USERS = {
    "_answering": {"cli"},
    "_archives": {"loading", "models"},
    "_contact_sheet": {"describing"},
    "_convert": {"conversion"},  # run as a process of its own
    "_describe_text": {"describing"},
    "_descriptions": {"describing"},
    "_flatbuffer": {"runtime", "measures", "inspection", "deployment", "conversion"},
    "_inspect_text": {"inspection"},
    "_inspections": {"inspection"},
    "_hinting": {"teaching"},
    "_inputs": {"conversion"},
    "_joining": {"conversion"},
    "_layer_macs": {"inspection", "techniques", "surgery"},
    "_lifetimes": {"inspection"},
    "_metadata": {"deployment", "conversion"},
    "_tables": {"finding", "techniques"},
    "_pictures": {"describing", "finding", "picturing", "reporting"},
    "_cpuinfo": {"training", "finding", "timing"},
    "_plots": {"reporting"},
    "_promises": {"inspection"},
    "_recipe_text": {"recipes"},
    "_report_html": {"reporting"},
    "_report_json": {"reporting"},
    "_report_text": {"reporting"},
    "_speed": {"training", "finding"},
    "_targets": {"training", "finding"},
    "_callbacks": {"training", "finding"},
    "_diverging": {"training"},
    "_optimizers": {"training", "finding"},
    "_schedules": {"training", "finding"},
    "_stepping": {"training", "finding"},
    "_tf_averaging": {"training", "finding"},
    "_tf_events": {"training", "finding"},
    "_tf_norms": {"training", "finding"},
    "_tf_rates": {"training", "finding"},
    "_tf_training": {"training"},
    "_rows": {"pipelines"},
    "_safety": {"loading"},
    "_savedmodel": {"loading"},
    "_sheet_cells": {"describing", "picturing"},
    "_soft_targets": {"teaching"},
    "_suppressing": {"conversion"},
    "_tallies": {"describing"},
    "_toml": {"recipes"},  # and of its writing half
    "_worker": {"conversion"},
}
# Modules that the others of their package are built on, and may import.
BASES = {"surgery.rewriting", "surgery.copying", "surgery.selecting", "surgery.ties", "surgery.coupling"}
# A noun's method that only calls the verb of its name, when it is called: `data.describe()` reads better than `describing.describe(data)`
# and does nothing else. No import of this kind is needed to load the noun, or happens then.
METHODS = {("types", "describing")}
# Packages that are slow to import, or that only one module is to know: the modules that may name them. "_tf_*" are the modules
# of classes that inherit from TensorFlow's, themselves imported inside functions only.
DOORS = {
    "tensorflow": {"backend", "_tf_*"},
    "tf_keras": {"backend", "_tf_*"},
    "tensorflow_model_optimization": {"backend", "_tf_*"},
    "ai_edge_litert": {"runtime", "_flatbuffer"},  # the interpreter; the schema of the files
    "keras": {"bridge._keras3"},
    "keras_tuner": {"searching"},
    "tensorflow_datasets": {"datasets._tfds"},
    "sklearn": {"backend"},
    "skimage": {"preprocessing.filtering"},
    "matplotlib": {"_plots", "_pictures"},
    "jinja2": {"_report_html"},
    "typer": {"cli", "_answering"},
    "tomli_w": {"_recipe_text"},
}


@dataclass(frozen=True)
class Import:
    """That module `by` imports `what` ("pipelines" or "datasets._files" of tfopt's own; otherwise `foreign`), perhaps inside a function."""

    by: str
    what: str
    foreign: bool
    inside: bool
    line: int
    called: bool = False  # by importlib.import_module inside a function: nothing is imported before that is called

    def __str__(self):
        return f"{self.by}, line {self.line}: imports {self.what}"


def sources() -> dict[str, str]:
    """Module name below tfopt ("" for tfopt itself, "datasets" for its __init__) -> source."""
    files = {path.relative_to(ROOT).with_suffix("").parts: path for path in ROOT.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path.read_text() for parts, path in files.items()}


def imports_of(modules: Mapping[str, str]) -> list[Import]:
    """All imports that happen at run time; those for type checkers only are left out."""
    return [found for name, source in modules.items() for found in _walk(name, ast.parse(source), modules, inside=False)]


def _walk(name: str, node: ast.AST, modules: Mapping[str, str], *, inside: bool) -> Iterator[Import]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    for what, foreign in _targets(name, node, modules):
        called = isinstance(node, ast.Call)
        yield Import(name, what, foreign, inside and not called, getattr(node, "lineno", 0), inside and called)
    for child in ast.iter_child_nodes(node):
        yield from _walk(name, child, modules, inside=inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def _targets(name: str, node: ast.AST, modules: Mapping[str, str]) -> list[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        return [_absolute(alias.name, modules) for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [_absolute(f"{node.module}.{alias.name}", modules) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        is_package = not name or any(other.startswith(f"{name}.") for other in modules)
        package = name.split(".") if is_package else name.split(".")[:-1]
        above = [part for part in package[: len(package) - node.level + 1] if part] + ([node.module] if node.module else [])
        return [(_module(".".join([*above, alias.name]), modules), False) for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
        text = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
        return [_absolute(text.value, modules)] if isinstance(text, ast.Constant) else []
    return []


def _absolute(path: str, modules: Mapping[str, str]) -> tuple[str, bool]:
    package, _, rest = path.partition(".")
    return (_module(rest, modules), False) if package == "tfopt" else (package, True)


def _module(path: str, modules: Mapping[str, str]) -> str:
    """The module of a path that may end in one of the module's own names."""
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path


def room(module: str) -> str:
    """The module or package of the table: "datasets" for "datasets._files"."""
    return module.partition(".")[0]


def level(module: str) -> int:
    return min(LEVELS[user] for user in USERS[room(module)]) if room(module) in USERS else LEVELS[room(module)]


def allowed(it: Import) -> bool:
    """Whether a module may import another of tfopt's own."""
    by, what = room(it.by), room(it.what)
    if not what:  # tfopt itself: its version
        return True
    if by == what:  # its __init__ all of its own; the others private ones and bases, so that techniques don't import each other
        return it.by == by or it.what.rpartition(".")[2].startswith("_") or it.what in BASES
    if (it.by, it.what) in METHODS:
        return it.called
    if what in USERS:
        return by in USERS[what] or (by in USERS and USERS[by] <= USERS[what])
    return level(it.what) < level(it.by)


def placed(module: str) -> bool:
    return room(module) in {"", *LEVELS, *USERS}


def is_class_file(module: str) -> bool:
    return module.rpartition(".")[2].startswith("_tf_")


def knows(module: str, package: str) -> bool:
    return module in DOORS[package] or ("_tf_*" in DOORS[package] and is_class_file(module))


def foreign_outside_doors(found: list[Import]) -> list[Import]:
    return [it for it in found if it.foreign and it.what in DOORS and not knows(it.by, it.what)]


def hidden(found: list[Import]) -> list[Import]:
    """Imports inside functions, which only the command line and the users of `_tf_*` modules may have."""
    return [it for it in found if it.inside and it.by != "cli" and (it.foreign or not is_class_file(it.what))]


def eager_classes(found: list[Import]) -> list[Import]:
    """Imports of `_tf_*` modules that are not inside a function: they would load TensorFlow with their user."""
    return [it for it in found if not it.foreign and is_class_file(it.what) and not it.inside and not is_class_file(it.by)]


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return imports_of(sources())


def test_every_module_has_its_place():
    missing = [module for module in sources() if not placed(module)]
    assert not missing, "say in LEVELS (public) or USERS (private) where these belong"


def test_modules_import_lower_levels_only(found):
    assert [str(it) for it in found if not it.foreign and not allowed(it)] == []


def test_tfopt_itself_imports_nothing_of_its_own(found):
    assert [str(it) for it in found if it.by == "" and not it.foreign] == []


def test_there_are_no_cycles(found):
    graph = {module: set() for module in sources()}
    for it in found:
        if not it.foreign and it.what != it.by and it.what and (it.by, it.what) not in METHODS:
            graph[it.by].add(it.what)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_each_heavy_package_has_its_one_door(found):
    assert [str(it) for it in foreign_outside_doors(found)] == []


def test_imports_stand_at_the_top(found):
    assert [str(it) for it in hidden(found)] == []


def test_classes_that_inherit_from_tensorflow_are_imported_inside_functions(found):
    assert [str(it) for it in eager_classes(found)] == []


INVENTED = {"": "", "types": "", "errors": "", "backend": "", "loading": "", "describing": "", "training": "", "_tf_training": "",
            "techniques": "", "techniques.pruning": "",
            "techniques.clustering": "", "techniques._shared": "", "runs": "", "cli": ""}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("loading", "from . import training"),  # a higher level
        ("training", "from .models import convnet"),  # its own level
        ("errors", "from tfopt.types import Data"),  # the same, written in full
        ("types", "from . import describing"),  # a noun's verb, not from inside its method
        ("types", "importlib.import_module('tfopt.describing')"),
        ("techniques.pruning", "from .clustering import cluster"),  # techniques never import techniques
        ("techniques.pruning", "from . import clustering"),
        ("techniques.pruning", "from ..runs import Run"),
        ("runs", "from . import _tf_training"),  # another's private module
    ],
)
def test_a_forbidden_import_is_found(module, source):
    modules = {**INVENTED, "models": "", module: source}
    assert [it for it in imports_of(modules) if not it.foreign and not allowed(it)]


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (foreign_outside_doors, "training", "import tensorflow as tf"),
        (foreign_outside_doors, "training", "def door():\n    return importlib.import_module('tf_keras.layers')"),
        (foreign_outside_doors, "training", "importlib.import_module(f'keras.{name}')"),
        (hidden, "training", "def train():\n    from . import backend"),
        (hidden, "training", "class Trainer:\n    def train(self):\n        import json"),
        (eager_classes, "training", "from . import _tf_training"),
    ],
)
def test_a_broken_rule_is_found(rule, module, source):
    assert rule(imports_of({**INVENTED, module: source}))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("training", "from . import backend, loading\nfrom .errors import TfoptError"),
        ("training", "def train():\n    from . import _tf_training"),
        ("techniques", "from . import pruning\nfrom .clustering import cluster"),
        ("techniques.pruning", "from .. import backend\nfrom ._shared import masks"),
        ("loading", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .training import Fit"),
        ("cli", "def run():\n    from . import runs\n    from .training import train"),
        ("types", "class Data:\n    def describe(self):\n        return importlib.import_module('tfopt.describing').describe(self)"),
    ],
)
def test_a_good_import_is_let_through(module, source):
    found = imports_of({**INVENTED, module: source})
    assert all(it.foreign or allowed(it) for it in found)
    assert not foreign_outside_doors(found) + hidden(found) + eager_classes(found)
