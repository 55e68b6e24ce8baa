"""Recipes: a whole run written down as TOML; read, checked and written here, without TensorFlow.

A table with `use` is a function call and its other keys are keyword arguments, so the functions' signatures are the schema: what may
stand in `[data]`, `[model]`, a step, a format or `strategy` is read from DATASETS, MODELS, TECHNIQUES, FORMATS and STRATEGIES, and
what may stand in `[fit]` from the fields of `types.Fit`. Everything that is wrong is found before anything heavy is loaded, and all
of it at once::

    recipes/mine.toml: 3 problems
      - data.use = 'digit': no such dataset; did you mean 'digits'? (there are: arrays, cifar10, digits, fashion_mnist)
      - fit.epoch: unknown key; did you mean 'epochs'? (there are: batch_size, epochs, ...)
      - steps[0].sparsity = 1.2: should be less than 1
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import _recipe_text, _toml, conversion, datasets, models, strategies, tasks, techniques, verification
from .errors import OptionError, RecipeError, nearest, shown
from .options import options_of, problem_of_type, problems_with
from .types import Call, Fit, ModelFile, Recipe, Step, problem_in_fit

_TOP = ("name", "note", "seed", "quick", "strategy", "embeddings")
_SECTIONS = (*_TOP, "data", "task", "model", "fit", "unfreeze", "steps", "export", "limits")
_FIT_KEYS = tuple(field.name for field in dataclasses.fields(Fit) if field.name != "seed")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_MISSING = object()


def read(path: str | os.PathLike, *, settings: str | Sequence[str] = (), quick: bool = False) -> Recipe:
    """Reads a recipe from a TOML file and checks all of it.

    Args:
      path: of the file.
      settings: changes to it, each `KEY=VALUE`, e.g. `"fit.epochs=5"`, `"steps.0.sparsity=0.7"`: VALUE is TOML, a bare word a string.
        One alone may stand there as a string.
      quick: train one epoch in every fit and mark the recipe as quick.

    Raises:
      RecipeError: with everything that is wrong in `problems`.
    """
    return parse(_toml.read_table(path), source=str(path), settings=settings, quick=quick)


def load(recipe: Recipe | str | os.PathLike | Mapping[str, Any], *, settings: str | Sequence[str] = (), quick: bool = False) -> Recipe:
    """A checked recipe from whatever a user has: a path, a dict laid out like the TOML file, or a `Recipe`. Otherwise like `read`."""
    if isinstance(recipe, Recipe):
        return parse(_recipe_text.table_of(recipe), source=f"recipe {shown(recipe.name)}", settings=settings, quick=quick)
    if isinstance(recipe, Mapping):
        return parse(recipe, source="recipe", settings=settings, quick=quick)
    if not isinstance(recipe, str | os.PathLike):
        raise RecipeError("recipe", [f"should be the path of a TOML file, a dict laid out like one, or a Recipe, not {shown(recipe)}"])
    return read(recipe, settings=settings, quick=quick)


def parse(table: Mapping[str, Any], *, source: str, settings: str | Sequence[str] = (), quick: bool = False) -> Recipe:
    """A recipe from a dict laid out like the TOML file; `source` opens the error message. Otherwise like `read`.

    >>> parse({"name": "mine", "data": {"use": "digits"}, "model": {"use": "mlp"}}, source="mine").fit.epochs
    10
    """
    problems: list[str] = []
    recipe = None
    try:
        for setting in _listed(settings, problems):
            table = _toml.with_setting(table, setting, problems)
        recipe = _recipe(_toml.resolved(table, "", problems), problems)
    except RecursionError:
        problems.append(_toml.TOO_DEEP)
    if problems:
        raise RecipeError(source, tuple(dict.fromkeys(problems)))
    return _quick(recipe) if quick else recipe


def write(recipe: Recipe) -> str:
    """A recipe as TOML text, which reads back to the same recipe.

    Raises:
      RecipeError: it holds what TOML has no word for, such as an array in memory or a function.
    """
    return _recipe_text.text_of(recipe)


def task_call(source: str) -> Call | None:
    """The call for the task of a recipe's file, where it has one."""
    return read(source).task if _is_file(source) else None


def _is_file(source: str) -> bool:
    return source.endswith(".toml") or os.sep in source


def data_call(source: str, *, settings: str | Sequence[str] = ()) -> Call:
    """The call for the data that a dataset's name or a recipe's file asks for, with `settings` such as "classes=3" put in and checked.

    Raises:
      OptionError: no such dataset, or an option of it that is wrong.
      RecipeError: the file is no good recipe.
    """
    table: dict[str, Any] = {"use": source}
    if _is_file(source):
        recipe = read(source)
        table = {"use": recipe.data.use, **recipe.data.options}
    problems: list[str] = []
    for setting in _listed(settings, problems):
        table = _toml.with_setting(table, setting, problems)
    return _only_call(table, datasets.DATASETS, "data", "dataset", problems)


def format_call(name: str, **options: Any) -> Call:
    """The call for a format, checked.

    Raises:
      OptionError: no such format, or an option of it that is wrong.
    """
    return _only_call({"use": name, **options}, conversion.FORMATS, "format", "format", [])


def _listed(settings: Any, problems: list[str]) -> Sequence[str]:
    """The settings as a list; a string alone is one."""
    if isinstance(settings, str):
        return [settings]
    if isinstance(settings, list | tuple) and all(isinstance(setting, str) for setting in settings):
        return settings
    problems.append(f"settings = {shown(settings)}: should be a list of KEY=VALUE, like fit.epochs=5")
    return []


def _only_call(table: Mapping[str, Any], functions: Mapping[str, Callable], where: str, kind: str, problems: list[str]) -> Call:
    call = _call(_toml.resolved(table, where, problems), functions, where, kind, problems)
    if problems:
        raise OptionError("; ".join(problems))
    return call


# From the tree to the recipe


def _recipe(table: Any, problems: list[str]) -> Recipe | None:
    """The recipe, or None with the reasons added to `problems`."""
    if not isinstance(table, Mapping):
        problems.append(f"should be a table, not {shown(table)}")
        return None
    _refuse_unknown(table, _SECTIONS, "", problems)
    name = _name(table, problems)
    seed = _typed(table, "seed", int, 0, problems)
    if not 0 <= seed < 2**31:
        problems.append(f"seed = {shown(seed)}: should be from 0 to 2**31 - 1")
        seed = 0
    note = _typed(table, "note", str, "", problems)
    quick = _typed(table, "quick", bool, False, problems)
    embeddings = _typed(table, "embeddings", str | bool, False, problems)
    strategy = _call(table.get("strategy", "auto"), strategies.STRATEGIES, "strategy", "strategy", problems)
    data = _call(table.get("data", _MISSING), datasets.DATASETS, "data", "dataset", problems)
    task = _call(table["task"], tasks.TASKS, "task", "task", problems) if "task" in table else None
    model = _model(table.get("model", _MISSING), problems)
    base = _fit(table.get("fit", {}), Fit(seed=seed), "fit", problems)
    fit = None if isinstance(model, ModelFile) and "fit" not in table else base
    unfreeze = _unfreeze(table["unfreeze"], fit, problems) if "unfreeze" in table else None
    steps = _steps(table.get("steps", []), base, problems)
    formats = _formats(table.get("export", {}), problems)
    limits = _limits(table.get("limits", {}), formats, tasks.bounded(task, data and datasets.own_task(data)), problems)
    if problems:
        return None
    if "seed" in options_of(datasets.DATASETS[data.use]):
        data = Call(data.use, {"seed": seed, **data.options})
    recipe = Recipe(
        name=name,
        data=data,
        task=task,
        embeddings=embeddings,
        model=model,
        fit=fit,
        unfreeze=unfreeze,
        steps=steps,
        formats=formats,
        limits=limits,
        strategy=strategy,
        seed=seed,
        note=note,
    )
    return _quick(recipe) if quick else recipe


def _quick(recipe: Recipe) -> Recipe:
    def one_epoch(fit: Fit) -> Fit:
        return dataclasses.replace(fit, epochs=1, warmup_epochs=fit.warmup_epochs / fit.epochs)

    def quick(step: Step) -> Step:
        fit = step.options.get("fit")
        return Step(step.use, {**step.options, "fit": one_epoch(fit)}) if fit else step

    fit, unfreeze = recipe.fit and one_epoch(recipe.fit), recipe.unfreeze and quick(recipe.unfreeze)
    return dataclasses.replace(recipe, fit=fit, unfreeze=unfreeze, steps=tuple(map(quick, recipe.steps)), quick=True)


def _model(value: Any, problems: list[str]) -> Call | ModelFile | None:
    """A call for one of tfopt's models, or a file."""
    if isinstance(value, Mapping) and "path" not in value and "use" not in value:
        listing = nearest("", models.MODELS)
        problems.append(f"model: needs either 'use', a model of tfopt's ({listing}), or 'path', the file of one of your own")
        return None
    if not isinstance(value, Mapping) or "path" not in value:
        return _call(value, models.MODELS, "model", "model", problems)
    if "use" in value:
        problems.append("model: has both 'use' and 'path'; the one builds a new model, the other reads one from a file")
        return None
    before = len(problems)
    _refuse_unknown(value, ("path", "trust"), "model", problems)
    path, trust = value["path"], value.get("trust", False)
    if not isinstance(path, str) or not os.path.exists(path):  # of the current folder, as all paths
        problems.append(f"model.path = {shown(path)}: there is no such file; expected a .keras or .h5 file, or a SavedModel's folder")
    elif path.endswith(".tflite"):
        problems.append(
            f"model.path = {shown(path)}: a .tflite is converted already and can't be trained or changed; give what it was made from"
        )
    if problem := problem_of_type(bool, trust):
        problems.append(f"model.trust = {shown(trust)}: {problem}")
    return ModelFile(path, trust) if len(problems) == before else None


def _name(table: Mapping[str, Any], problems: list[str]) -> str:
    if "name" not in table:
        problems.append('name: missing; it names the run\'s folder, like name = "digits"')
        return ""
    name = _typed(table, "name", str, "unnamed", problems)
    if not _NAME.fullmatch(name):
        problems.append(f"name = {shown(name)}: should be 1 to 100 letters, digits, dots, dashes or underscores, not starting with a dot")
    return name


def _typed(table: Mapping[str, Any], key: str, kind: type, default: Any, problems: list[str]) -> Any:
    value = table.get(key, default)
    if problem := problem_of_type(kind, value):
        problems.append(f"{key} = {shown(value)}: {problem}")
        return default
    return value


def _call(value: Any, functions: Mapping[str, Callable], where: str, kind: str, problems: list[str], fit: Fit | None = None) -> Call | None:
    """A call from a table with `use`, or from a name alone where that is all; `fit` is what the table's own `fit` builds upon."""
    if value is _MISSING:
        problems.append(f'{where}: missing; it should be a table, like {where} = {{ use = "{min(functions)}" }}')
        return None
    if not isinstance(value, str | Mapping):
        problems.append(f"{where} = {shown(value)}: should be a table with a key 'use'")
        return None
    path, use, options = (where, value, {}) if isinstance(value, str) else (f"{where}.use", value.get("use", _MISSING), dict(value))
    options.pop("use", None)
    if use is _MISSING:
        problems.append(f"{path}: missing; name a {kind} ({nearest('', functions)})")
        return None
    if not isinstance(use, str) or use not in functions:
        problems.append(f"{path} = {shown(use)}: no such {kind}; {nearest(use if isinstance(use, str) else '', functions)}")
        return None
    schema = options_of(functions[use])
    if fit is not None and "fit" in schema and options.get("fit") is not None:
        options["fit"] = _fit(options["fit"], fit, f"{where}.fit", problems)
    if found := problems_with(functions[use], options):
        problems += [f"{where}.{problem}" for problem in found]
        return None
    return Call(use, {key: inner for key, inner in options.items() if inner is not None or schema[key].default is not None})


def _fit(value: Any, base: Fit, where: str, problems: list[str]) -> Fit:
    """`base` with the table's values put in; where they are wrong, `base` and a problem for each."""
    if not isinstance(value, Mapping):
        problems.append(f"{where} = {shown(value)}: should be a table, like {{ epochs = 5, learning_rate = 1e-3 }}")
        return base
    if "seed" in value:
        problems.append(f"{where}.seed: belongs at the top of the recipe, as seed = {shown(value['seed'])}; there it is everything's seed")
    _refuse_unknown({key: inner for key, inner in value.items() if key != "seed"}, _FIT_KEYS, where, problems)
    wrong = {key: problem for key, inner in value.items() if key in _FIT_KEYS and (problem := _problem_in_fit(key, inner))}
    problems += [f"{_toml.join(where, key)} = {shown(value[key])}: {problem}" for key, problem in wrong.items()]
    given = {key: inner for key, inner in value.items() if key in _FIT_KEYS and key not in wrong}
    anew = {
        name: getattr(Fit, name)  # its default
        for key, names in _recipe_text.FOLLOWERS.items()
        if given.get(key, getattr(base, key)) != getattr(base, key)
        for name in names
    }
    try:
        return dataclasses.replace(base, **{**anew, **given})
    except OptionError as error:  # values that are right alone
        problems.append(f"{where}.{error}")
        return base


def _problem_in_fit(key: str, value: Any) -> str | None:
    return problem_of_type(_fit_types()[key], value) or problem_in_fit(key, value)


@functools.cache
def _fit_types() -> Mapping[str, Any]:
    return typing.get_type_hints(Fit)


def _unfreeze(value: Any, fit: Fit | None, problems: list[str]) -> Step | None:
    """The second phase of transfer learning; its `fit` builds upon that of the first."""
    if not isinstance(value, Mapping) or "fit" not in value:
        problems.append("unfreeze: should be a table that says how to train on, like { layers = 30, fit = { learning_rate = 1e-5 } }")
        return None
    if fit is None:
        problems.append("unfreeze: is the second phase of training, and the recipe has no first; add a table [fit]")
        return None
    _refuse_unknown(value, ("layers", "fit"), "unfreeze", problems)
    layers = value.get("layers", "all")
    if (problem := problem_of_type(int | str | list[str], layers)) or layers in ("", []) or (isinstance(layers, int) and layers < 1):
        problems.append(f"unfreeze.layers = {shown(layers)}: {problem or 'should be how many, at least 1, names, or all'}")
    return Step("unfreeze", {"layers": layers, "fit": _fit(value["fit"], fit, "unfreeze.fit", problems)})


def _steps(value: Any, fit: Fit, problems: list[str]) -> tuple[Step, ...]:
    if not isinstance(value, list | tuple):
        problems.append(f"steps = {shown(value)}: should be a list of tables, each opened by [[steps]]")
        return ()
    calls = [_call(step, techniques.TECHNIQUES, f"steps[{index}]", "technique", problems, fit) for index, step in enumerate(value)]
    if all(calls):  # what is wrong with one alone is said already
        problems += [f"steps[{index}].{problem}" for index, problem in techniques.problems_in(calls)]
    return tuple(Step(call.use, call.options) for call in calls if call)


def _formats(table: Any, problems: list[str]) -> tuple[Call, ...] | None:
    """The calls, or None where one of them is wrong."""
    if not isinstance(table, Mapping):
        problems.append(f"export = {shown(table)}: should be a table with a key 'formats'")
        return None
    _refuse_unknown(table, ("formats",), "export", problems)
    if "formats" not in table:
        return Recipe.formats
    value = table["formats"]
    if not isinstance(value, list | tuple) or not value:
        problems.append(f'export.formats = {shown(value)}: should be a list with at least one format, like ["float32", "int8"]')
        return None
    before = len(problems)
    calls = tuple(_call(inner, conversion.FORMATS, f"export.formats[{index}]", "format", problems) for index, inner in enumerate(value))
    if len(problems) > before:
        return None
    labels = [conversion.label(call) for call in calls]
    problems += [f"export.formats: {label!r} stands there twice" for label in dict.fromkeys(labels) if labels.count(label) > 1]
    return calls


def _limits(table: Any, formats: tuple[Call, ...] | None, bounded: bool, problems: list[str]) -> dict[str, dict[str, float]]:
    """The limits; `bounded` says that a score is at most 1."""
    if not isinstance(table, Mapping):
        problems.append(f"limits = {shown(table)}: should be tables, like [limits.int8] score_drop = 0.01")
        return {}
    labels = None if formats is None else [conversion.label(call) for call in formats]
    for label, limits in table.items():
        where = _toml.join("limits", label)
        if labels is not None and label not in labels:
            problems.append(f"{where}: no such format among export.formats; {nearest(label, set(labels))}")
        if not isinstance(limits, Mapping):
            problems.append(f"{where} = {shown(limits)}: should be a table, like [limits.int8] score_drop = 0.01")
            continue
        _refuse_unknown(limits, verification.LIMITS, where, problems)
        for key, value in limits.items():
            if key in verification.LIMITS and (problem := _problem_with_limit(key, value, bounded)):
                problems.append(f"{_toml.join(where, key)} = {shown(value)}: {problem}")
    return {label: dict(limits) for label, limits in table.items() if isinstance(limits, Mapping)}


def _problem_with_limit(key: str, value: Any, bounded: bool) -> str | None:
    if problem := problem_of_type(float, value):
        return problem
    if key in ("score", "score_drop") and not bounded:
        return None if math.isfinite(value) else "should be finite; leave out a limit that is none"
    if key == "score_drop":  # a model may be asked to be better than before, so below 0 is no mistake; 1 for one percent is
        return None if -1 < value < 1 else "should be a share below 1; one percent is 0.01"
    if key in ("score", "agreement"):
        return None if 0 <= value <= 1 else "should be a share from 0 to 1; 97 percent are 0.97"
    return None if 0 < value < math.inf else "should be above 0 and finite; leave out a limit that is none"


def _refuse_unknown(table: Mapping[str, Any], known: typing.Iterable[str], where: str, problems: list[str]) -> None:
    problems += [f"{_toml.join(where, key)}: unknown key; {nearest(key, known)}" for key in table if key not in known]
