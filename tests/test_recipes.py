"""Recipes are read, or refused with everything that is wrong with them; nothing else can happen, whatever the bytes."""

from __future__ import annotations

import copy
import datetime
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfopt import conversion, recipes, verification
from tfopt.errors import OptionError, RecipeError
from tfopt.types import Call, Fit, ModelFile, Recipe, Step

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "recipes" / "digits.toml"
GOOD_TEXT = DIGITS.read_text(encoding="utf-8")
GOOD = tomllib.loads(GOOD_TEXT)
SMALL = {"name": "small", "data": {"use": "digits"}, "model": {"use": "mlp"}}


def problems_of(table, **kwargs) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        recipes.parse(table, source="mine", **kwargs)
    return caught.value.problems


def only_problem_of(table, **kwargs) -> str:
    (problem,) = problems_of(table, **kwargs)
    return problem


def changed(**sections) -> dict:
    return {**copy.deepcopy(GOOD), **sections}


# Good recipes


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_good_and_says_how_to_run_it_and_what_to_expect(path, monkeypatch):
    monkeypatch.setenv("TFOPT_DATA", "somewhere")
    assert isinstance(recipes.read(path), Recipe)
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith(f"# tfopt run recipes/{path.name} ")
    assert second.startswith("# expect: ")


def test_the_digits_recipe_is_what_its_text_says():
    recipe = recipes.read(DIGITS)
    assert recipe.name == "digits"
    assert recipe.model == Call("convnet", {"width": 32})
    assert recipe.strategy == Call("auto")
    assert [step.use for step in recipe.steps] == ["prune", "quantize_aware"]
    assert [conversion.label(call) for call in recipe.formats] == ["float32", "float16", "dynamic", "int8"]
    assert recipe.limits == {"int8": {"score_drop": 0.01}}
    assert not recipe.quick


def test_what_may_be_left_out_has_the_defaults_of_the_nouns():
    recipe = recipes.parse(SMALL, source="mine")
    assert recipe.fit == Fit()
    assert (recipe.steps, recipe.limits, recipe.note, recipe.seed) == ((), {}, "", 0)
    assert recipe.formats == (Call("float32"), Call("int8"))


def test_what_a_steps_fit_leaves_out_comes_from_the_recipes_fit():
    table = changed(fit={"epochs": 7, "batch_size": 16, "patience": 3}, steps=[{"use": "prune", "fit": {"epochs": 2}}])
    (step,) = recipes.parse(table, source="mine").steps
    assert step.options["fit"] == Fit(epochs=2, batch_size=16, patience=3)


@pytest.mark.parametrize("step", [{"use": "prune"}, {"use": "prune", "fit": None}])
def test_a_step_without_fit_does_not_train(step):
    assert recipes.parse({**SMALL, "steps": [step]}, source="mine").steps == (Step("prune"),)


def test_the_recipes_seed_is_the_seed_of_every_fit_and_of_the_data():
    recipe = recipes.parse(changed(seed=7), source="mine")
    assert recipe.seed == recipe.fit.seed == recipe.data.options["seed"] == 7
    assert [step.options["fit"].seed for step in recipe.steps] == [7, 7]


def test_the_data_may_have_a_seed_of_its_own():
    recipe = recipes.parse(changed(seed=7, data={"use": "digits", "seed": 3}), source="mine")
    assert recipe.data.options["seed"] == 3
    assert recipe.fit.seed == 7


def test_quick_is_one_epoch_everywhere_and_marked():
    recipe = recipes.read(DIGITS, quick=True)
    assert recipe.quick
    assert recipe.name == "digits"
    assert [recipe.fit.epochs, *(step.options["fit"].epochs for step in recipe.steps)] == [1, 1, 1]


def test_strategy_and_formats_may_be_tables_or_names():
    strategy = {"use": "mirrored", "devices": ["CPU:0", "CPU:1"]}
    formats = ["int8", {"use": "int8", "io": "uint8"}]
    recipe = recipes.parse({**SMALL, "strategy": strategy, "export": {"formats": formats}}, source="mine")
    assert recipe.strategy == Call("mirrored", {"devices": ["CPU:0", "CPU:1"]})
    assert [conversion.label(call) for call in recipe.formats] == ["int8", "int8-uint8"]


def test_environment_variables_are_put_in(monkeypatch):
    monkeypatch.setenv("TFOPT_DATA", "somewhere")
    table = {**SMALL, "data": {"use": "fashion_mnist", "folder": "${TFOPT_DATA}/fashion_mnist"}}
    assert recipes.parse(table, source="mine").data.options["folder"] == "somewhere/fashion_mnist"


def test_a_path_from_python_is_a_string_as_it_would_be_in_toml():
    recipe = recipes.load({**SMALL, "data": {"use": "fashion_mnist", "folder": Path("some/where")}})
    assert recipe.data.options["folder"] == os.path.join("some", "where")
    assert recipes.parse(tomllib.loads(recipes.write(recipe)), source="mine") == recipe


def test_load_takes_a_path_a_dict_and_a_recipe():
    recipe = recipes.read(DIGITS)
    assert recipes.load(DIGITS) == recipes.load(str(DIGITS)) == recipes.load(GOOD) == recipes.load(recipe) == recipe
    assert recipes.load(recipe, settings=["seed=4"]) == recipes.read(DIGITS, settings=["seed=4"])
    assert recipes.load(recipe, quick=True) == recipes.read(DIGITS, quick=True) == recipes.load(recipes.read(DIGITS, quick=True))


def test_load_checks_a_recipe_made_by_hand():
    recipe = Recipe("mine", Call("digits"), Call("mlp"), Fit(), steps=(Step("prune", {"sparsity": 1.2}),))
    with pytest.raises(RecipeError, match=r"recipe 'mine': steps\[0\].sparsity = 1.2: should be less than 1"):
        recipes.load(recipe)
    with pytest.raises(RecipeError, match=r"fit.seed: belongs at the top of the recipe, as seed = 5"):
        recipes.load(Recipe("mine", Call("digits"), Call("mlp"), Fit(seed=5), seed=3))


def test_load_leaves_values_that_only_python_has_as_they_are():
    def where(layer):
        return layer.name != "logits"

    recipe = recipes.load({**SMALL, "steps": [{"use": "prune", "where": where}]})
    assert recipe.steps[0].options["where"] is where
    with pytest.raises(RecipeError, match=r"steps\[0\].where: TOML has no word for <function"):
        recipes.write(recipe)


# What is wrong


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"nmae": "x"}, "nmae: unknown key; did you mean 'name'? (there are: data, embeddings, "),
        ({"name": "a/b"}, "name = 'a/b': should be 1 to 100 letters, digits, dots, dashes or underscores, not starting with a dot"),
        ({"name": ".hidden"}, "name = '.hidden': should be"),
        ({"name": ""}, "name = '': should be"),
        ({"name": "n" * 101}, "name = 'nnn"),
        ({"name": 5}, "name = 5: should be a valid string"),
        ({"seed": -1}, "seed = -1: should be from 0 to 2**31 - 1"),
        ({"seed": 2**31}, "seed = 2147483648: should be from 0 to 2**31 - 1"),
        ({"seed": 1.0}, "seed = 1.0: should be a valid integer"),
        ({"seed": True}, "seed = True: should be a valid integer"),
        ({"note": 1}, "note = 1: should be a valid string"),
        ({"quick": "yes"}, "quick = 'yes': should be a valid boolean"),
        ({"strategy": "mirored"}, "strategy = 'mirored': no such strategy; did you mean 'mirrored'? (there are: auto, mirrored, one)"),
        ({"strategy": 2}, "strategy = 2: should be a table with a key 'use'"),
        ({"data": {}}, "data.use: missing; name a dataset (there are: "),
        ({"data": {"use": 3}}, "data.use = 3: no such dataset; there are: "),
        ({"data": {"use": ["digits"]}}, "data.use = ['digits']: no such dataset; there are: "),
        ({"data": {"use": "digit"}}, "data.use = 'digit': no such dataset; did you mean 'digits'? (there are: "),
        ({"data": {"use": "digits", "sed": 1}}, "data.sed: unknown option; did you mean 'seed'?"),
        ({"model": {"use": "convnet", "width": 0}}, "model.width = 0: should be greater than or equal to 1"),
        ({"model": {"use": "convnet", "width": "32"}}, "model.width = '32': should be a valid integer"),
        ({"model": {"width": 8}}, "model: needs either 'use', a model of tfopt's (there are: autoencoder, "),
        ({"model": {"path": "mine.keras", "use": "mlp"}}, "model: has both 'use' and 'path'"),
        ({"model": {"path": "mine.keras"}}, "model.path = 'mine.keras': there is no such file; expected a .keras or .h5 file"),
        ({"model": {"path": 5}}, "model.path = 5: there is no such file"),
        ({"model": {"path": __file__, "trust": 1}}, "model.trust = 1: should be a valid boolean"),
        ({"model": {"path": __file__, "thrust": True}}, "model.thrust: unknown key; did you mean 'trust'? (there are: path, trust)"),
        ({"fit": []}, "fit = []: should be a table, like { epochs = 5"),
        ({"fit": {"epoch": 3}}, "fit.epoch: unknown key; did you mean 'epochs'? (there are: accumulate, batch_size, "),
        ({"fit": {"epochs": 0}}, "fit.epochs = 0: should be a whole number, at least 1"),
        ({"fit": {"epochs": 3.0}}, "fit.epochs = 3.0: should be a valid integer"),
        ({"fit": {"learning_rate": 0}}, "fit.learning_rate = 0: should be a number above 0"),
        ({"fit": {"schedule": "cosin"}}, "fit.schedule = 'cosin': should be 'constant', 'step', 'exponential', 'cosine', "),
        ({"fit": {"seed": 3}}, "fit.seed: belongs at the top of the recipe, as seed = 3; there it is everything's seed"),
        ({"steps": {"use": "prune"}}, "steps = {'use': 'prune'}: should be a list of tables, each opened by [[steps]]"),
        ({"steps": [7]}, "steps[0] = 7: should be a table with a key 'use'"),
        ({"steps": [{"use": "prun"}]}, "steps[0].use = 'prun': no such technique; did you mean 'prune'?"),
        ({"steps": [{"use": "prune", "sparsity": 1.2}]}, "steps[0].sparsity = 1.2: should be less than 1"),
        ({"steps": [{"use": "prune", "fit": {"epochs": 0}}]}, "steps[0].fit.epochs = 0: should be a whole number, at least 1"),
        ({"steps": [{"use": "prune", "fit": {"seed": 1}}]}, "steps[0].fit.seed: belongs at the top"),
        ({"steps": [{"use": "quantize_aware"}, {"use": "prune"}]}, "steps[0].use = 'quantize_aware': should be the last step; its layers"),
        ({"steps": [{"use": "quantize_aware"}, {"use": "quantize_aware"}]}, "steps[0].use = 'quantize_aware': should be the last step;"),
        ({"export": ["int8"]}, "export = ['int8']: should be a table with a key 'formats'"),
        ({"export": {"formats": []}}, "export.formats = []: should be a list with at least one format"),
        ({"export": {"formats": "int8"}}, "export.formats = 'int8': should be a list"),
        ({"export": {"formats": ["int8", "int9"]}}, "export.formats[1] = 'int9': no such format; did you mean 'int8'?"),
        ({"export": {"formats": ["int8", {"use": "int8", "io": "int8"}]}}, "export.formats: 'int8' stands there twice"),
        ({"export": {"formats": [{"use": "int8", "io": "int4"}]}}, "export.formats[0].io = 'int4': should be 'int8', 'uint8' or 'float32'"),
        ({"export": {"formats": ["int8"], "format": 1}}, "export.format: unknown key; did you mean 'formats'?"),
        ({"limits": 3}, "limits = 3: should be tables, like [limits.int8]"),
        ({"limits": {"int8": 3}}, "limits.int8 = 3: should be a table"),
        ({"limits": {"int9": {}}}, "limits.int9: no such format among export.formats; did you mean 'int8'?"),
        ({"limits": {"int8": {"scor_drop": 1}}}, "limits.int8.scor_drop: unknown key; did you mean 'score_drop'?"),
        ({"limits": {"int8": {"score_drop": "1 %"}}}, "limits.int8.score_drop = '1 %': should be a valid number"),
        ({"limits": {"int8": {"score_drop": 1}}}, "limits.int8.score_drop = 1: should be a share below 1; one percent is 0.01"),
        ({"limits": {"int8": {"agreement": 97}}}, "limits.int8.agreement = 97: should be a share from 0 to 1; 97 percent are 0.97"),
        ({"limits": {"int8": {"bytes": 0}}}, "limits.int8.bytes = 0: should be above 0 and finite"),
        ({"limits": {"int8": {"latency_ms": float("inf")}}}, "limits.int8.latency_ms = inf: should be above 0 and finite"),
        ({"note": {1: 2}}, "note.1: keys should be strings"),
        ({"weird key\n": 1}, r"'weird key\n': unknown key"),
    ],
)
def test_what_is_wrong_is_said(change, problem):
    base = {**SMALL, "export": {"formats": ["float32", "int8"]}}
    assert problems_of({**base, **change})[0].startswith(problem)


@pytest.mark.parametrize(("key", "hint"), [("name", 'name = "digits"'), ("data", 'data = { use = "'), ("model", 'model = { use = "')])
def test_what_must_be_there_is_asked_for(key, hint):
    problem = only_problem_of({k: v for k, v in SMALL.items() if k != key})
    assert problem.startswith(f"{key}: missing; ")
    assert hint in problem


def test_everything_is_said_at_once_and_once():
    table = changed(data={"use": "digit"}, fit={"epoch": 3}, steps=[{"use": "prune", "sparsity": 1.2}])
    with pytest.raises(RecipeError) as caught:
        recipes.parse(table, source="recipes/mine.toml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "recipes/mine.toml: 3 problems"
    assert lines[1].startswith("  - data.use = 'digit': no such dataset; did you mean 'digits'? (there are: ")
    assert lines[2].startswith("  - fit.epoch: unknown key; did you mean 'epochs'? (there are: ")
    assert lines[3] == "  - steps[0].sparsity = 1.2: should be less than 1"
    assert len(lines) == 4


@pytest.mark.parametrize("limit", verification.LIMITS)
def test_every_limit_takes_a_small_number(limit):
    assert recipes.load({**SMALL, "limits": {"int8": {limit: 0.5}}}).limits == {"int8": {limit: 0.5}}


def test_an_unset_environment_variable_is_named(monkeypatch):
    monkeypatch.delenv("TFOPT_NOWHERE", raising=False)
    table = {**SMALL, "data": {"use": "fashion_mnist", "folder": "${TFOPT_NOWHERE}/x"}}
    assert only_problem_of(table) == "data.folder = '${TFOPT_NOWHERE}/x': the environment variable TFOPT_NOWHERE is not set"


def test_the_given_dict_stays_as_it_is():
    table = copy.deepcopy(GOOD)
    recipes.parse(table, source="mine", settings=["fit.epochs=3", "steps.0.fit.epochs=1"])
    assert table == GOOD


# Settings


@pytest.mark.parametrize(
    ("setting", "look"),
    [
        ("fit.epochs=5", lambda r: r.fit.epochs == 5),
        ("fit.patience = 2", lambda r: r.fit.patience == 2),
        ("steps.0.sparsity=0.7", lambda r: r.steps[0].options["sparsity"] == 0.7),
        ("steps.1.fit.epochs=9", lambda r: r.steps[1].options["fit"].epochs == 9),
        ("steps=[]", lambda r: r.steps == ()),
        ('name="x"', lambda r: r.name == "x"),
        ("name=other-name", lambda r: r.name == "other-name"),
        ("note=a = b", lambda r: r.note == "a = b"),
        ("note=", lambda r: r.note == ""),
        ("strategy=one", lambda r: r.strategy == Call("one")),
        ('export.formats=["float32", "int8"]', lambda r: len(r.formats) == 2),
        ('export.formats.3={use="int8", io="float32"}', lambda r: r.formats[3].options["io"] == "float32"),
        ("limits.float16.score_drop=0.1", lambda r: r.limits["float16"] == {"score_drop": 0.1}),
    ],
)
def test_a_setting_changes_a_value(setting, look):
    keep = [] if "formats" not in setting else ["limits={}"]
    assert look(recipes.read(DIGITS, settings=[setting, *keep]))


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("fit.epoch=5", "fit.epoch: unknown key; did you mean 'epochs'?"),
        ("fti.epochs=5", "fti: unknown key; did you mean 'fit'?"),
        ("fit.epochs=many", "fit.epochs = 'many': should be a valid integer"),
        ("fit.epochs", "setting 'fit.epochs': should be KEY=VALUE, like fit.epochs=5"),
        ("=5", "setting '=5': should be KEY=VALUE"),
        ("fit..epochs=5", "setting 'fit..epochs=5': should be KEY=VALUE"),
        ("steps.2.sparsity=0.1", "setting 'steps.2.sparsity=0.1': there is no element '2'; the list has 2, counted from 0"),
        ("steps.-1.sparsity=0.1", "setting 'steps.-1.sparsity=0.1': there is no element '-1'"),
        ("name.x=1", "setting 'name.x=1': 'digits' holds no key 'x'; set the whole of it instead"),
        ('name="x', "setting 'name=\"x': the value is not valid TOML"),
        ("seed=1\nname='x'", r"""setting "seed=1\nname='x'": one value at a time"""),
        ("seed=[" + "[" * 100_000, "tables or arrays are nested too deeply"),
        ("a." * 3_000 + "a=1", "tables or arrays are nested too deeply"),
    ],
    ids=lambda text: text[:20],
)
def test_a_wrong_setting_is_refused(setting, problem):
    assert only_problem_of(GOOD, settings=[setting]).startswith(problem)


# Files


def refused_file(path) -> str:
    with pytest.raises(RecipeError) as caught:
        recipes.read(path)
    return str(caught.value)


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "digits.toml").write_text("")
    assert "digit.toml: there is no such file; did you mean 'digits.toml'? (there are: " in refused_file(tmp_path / "digit.toml")
    assert "there is no such file; its folder" in refused_file(tmp_path / "nowhere" / "digit.toml")
    assert "is a folder, not a recipe; there are: digits.toml" in refused_file(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is a folder, not a recipe; the folder" in refused_file(tmp_path / "empty")


def test_a_path_that_is_none_is_refused():
    assert "is not a path" in refused_file("a\0b.toml")
    assert "can't be read: " in refused_file("a" * 5000 + ".toml")
    assert "can't be read: Not a directory" in refused_file(DIGITS / "x.toml")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "4 problems"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8 (byte 0 is wrong); give the .toml file"),
        (b"name = 'x'\n[data\n", "is not valid TOML: Expected ']' at the end of a table declaration (at line 2, column 6)"),
        (b"name = 'x'\nname = 'y'\n", "is not valid TOML: Cannot overwrite a value"),
        (b"seed = " + b"9" * 5000, "is not valid TOML: Exceeds the limit"),
        (b"seed = 0x" + b"f" * 5000, "seed = a number of thousands of digits: should be from 0"),
        (b"x = " + b"[" * 50_000, "nested too deeply"),
        (b"x" + b".x" * 3_000 + b" = 1", "nested too deeply"),
        (b"#" * 100_001, "is 100,001 bytes large, which no recipe is"),
    ],
    ids=range(9),
)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(tmp_path, content, problem):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    message = refused_file(path)
    assert message.startswith(f"{path}: ")
    assert problem.replace("4 problems", "3 problems") in message


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD_TEXT.encode())
    assert recipes.read(path) == recipes.read(DIGITS)


# Writing


def test_what_is_written_reads_back():
    for quick in (False, True):
        recipe = recipes.read(DIGITS, quick=quick)
        assert recipes.parse(tomllib.loads(recipes.write(recipe)), source="mine") == recipe


def test_a_step_that_gives_up_patience_can_not_be_written_but_stays_as_it_is():
    table = {**SMALL, "fit": {"patience": 3}, "steps": [{"use": "prune", "fit": {"patience": None}}]}
    recipe = recipes.load(table)
    assert recipes.load(recipe) == recipe
    assert recipe.steps[0].options["fit"].patience is None
    with pytest.raises(RecipeError, match=r"steps\[0\].fit.patience = None: TOML has no word for it, and left out it would be 3"):
        recipes.write(recipes.load(table))


# A model of one's own


def test_a_model_may_come_from_a_file_and_is_trained_only_where_that_is_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELS", str(tmp_path))
    (tmp_path / "mine.keras").write_bytes(b"")
    table = {**SMALL, "model": {"path": "${MODELS}/mine.keras"}, "steps": [{"use": "prune", "fit": {"epochs": 3}}], "seed": 7}
    taken, trained = recipes.load(table), recipes.load({**table, "fit": {"epochs": 2}, "model": {"path": "mine.keras", "trust": True}})
    assert (taken.model, taken.fit) == (ModelFile(str(tmp_path / "mine.keras")), None)
    assert taken.steps[0].options["fit"] == Fit(epochs=3, seed=7)
    assert (trained.model, trained.fit.epochs) == (ModelFile("mine.keras", trust=True), 2)
    for recipe in (taken, trained, recipes.load(table, quick=True)):
        assert recipes.parse(tomllib.loads(recipes.write(recipe)), source="mine") == recipe == recipes.load(recipe)


def test_a_tflite_is_no_model_to_work_on(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"")
    assert "a .tflite is converted already" in only_problem_of({**SMALL, "model": {"path": str(tmp_path / "x.tflite")}})


# Single calls, for the command line


def test_a_data_call_is_a_name_or_a_recipes(tmp_path):
    assert recipes.data_call("digits") == Call("digits")
    assert recipes.data_call("digits", settings=["seed=3"]) == Call("digits", {"seed": 3})
    mine = tmp_path / "mine.toml"
    mine.write_text(GOOD_TEXT.replace("seed = 0", "seed = 7"), encoding="utf-8")
    assert recipes.data_call(str(mine)) == Call("digits", {"seed": 7})
    with pytest.raises(OptionError, match=r"data.use = 'digit': no such dataset; did you mean 'digits'"):
        recipes.data_call("digit")
    with pytest.raises(OptionError, match=r"data.sed: unknown option; did you mean 'seed'"):
        recipes.data_call("digits", settings=["sed=3"])
    with pytest.raises(RecipeError, match="there is no such file"):
        recipes.data_call(str(tmp_path / "none.toml"))


def test_a_format_call_is_checked():
    assert recipes.format_call("int8", io="uint8") == Call("int8", {"io": "uint8"})
    with pytest.raises(OptionError, match=r"format.io = 'int4': should be"):
        recipes.format_call("int8", io="int4")
    with pytest.raises(OptionError, match=r"format.use = 'int9': no such format; did you mean 'int8'"):
        recipes.format_call("int9")


# Laws


def test_reading_and_checking_load_nothing_heavy():
    code = f"""
import sys
from tfopt import recipes
recipes.write(recipes.read({str(DIGITS)!r}))
try:
    recipes.parse({{"name": 1}}, source="mine")
except recipes.RecipeError:
    pass
heavy = {{"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "ai_edge_litert", "matplotlib", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


def recipe_or_problems(read):
    """Calls; whatever else than a recipe or a RecipeError that is fit to print comes out fails the test."""
    try:
        recipe = read()
    except RecipeError as error:
        assert error.problems
        assert len(set(error.problems)) == len(error.problems)
        assert all(problem.isprintable() and len(problem) < 1000 for problem in error.problems)
        return error
    assert isinstance(recipe, Recipe)
    return recipe


quickly = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

WORDS = sorted({*GOOD_TEXT.replace('"', " ").split(), "path", "io", "patience", "schedule", "strategy"})
ODD = ["${HOME}", "${NOT_SET_ANYWHERE}", 10**4000, datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), datetime.time(1)]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 3),
    st.floats(),
    st.text(max_size=10),
    st.sampled_from(WORDS),
    st.sampled_from(ODD),
)
keys = st.one_of(st.sampled_from(WORDS), st.text(max_size=6))
trees = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)), max_leaves=12)


@quickly
@given(content=st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_bytes_are_a_recipe_or_a_recipe_error(tmp_path, content):
    path = tmp_path / "any.toml"
    path.write_bytes(content)
    recipe_or_problems(lambda: recipes.read(path))


@quickly
@given(data=st.data())
def test_any_change_to_a_good_file_is_a_recipe_or_a_recipe_error(tmp_path, data):
    text = GOOD_TEXT
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        words = st.sampled_from([*WORDS, "\n", "[", "]", "[[", "]]", "{", "}", '"', "=", ".", ",", "-", "1e999", "nan", "0x", "\r", "\0"])
        text = text[:start] + data.draw(st.one_of(words, st.text(max_size=3))) + text[end:]
    path = tmp_path / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    recipe_or_problems(lambda: recipes.read(path))


@quickly
@given(tree=trees)
def test_any_tree_is_a_recipe_or_a_recipe_error(tree):
    recipe_or_problems(lambda: recipes.parse(tree, source="mine"))


@quickly
@given(tree=trees, data=st.data())
def test_any_tree_in_the_place_of_a_good_value_is_a_recipe_or_a_recipe_error(tree, data):
    table = copy.deepcopy(GOOD)
    node = table
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = tree
    recipe_or_problems(lambda: recipes.parse(table, source="mine"))


@quickly
@given(setting=st.one_of(st.text(), st.tuples(st.sampled_from(["fit.epochs=", "steps.0=", "name=", "x.y="]), st.text()).map("".join)))
def test_any_setting_gives_a_recipe_or_a_recipe_error(setting):
    recipe_or_problems(lambda: recipes.read(DIGITS, settings=[setting]))


fits = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 100),
        "batch_size": st.integers(1, 1000),
        "learning_rate": st.floats(1e-9, 10),
        "schedule": st.sampled_from(["constant", "cosine"]),
        "optimizer": st.sampled_from(["adam", "sgd", "rmsprop"]),
        "patience": st.integers(1, 9),
    },
)
prunes = st.fixed_dictionaries(
    {"use": st.just("prune")}, optional={"sparsity": st.floats(0, 0.99), "where": st.just(["a", "b*"]), "fit": fits}
)
qats = st.fixed_dictionaries({"use": st.just("quantize_aware")}, optional={"fit": fits})
good_tables = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "data": st.fixed_dictionaries({"use": st.just("digits")}, optional={"seed": st.integers(0, 9)}),
        "model": st.one_of(st.just("mlp"), st.fixed_dictionaries({"use": st.just("convnet")}, optional={"width": st.integers(1, 64)})),
    },
    optional={
        "seed": st.integers(0, 2**31 - 1),
        "note": st.text(st.characters(codec="utf-8"), max_size=40).filter(lambda text: "$" not in text),
        "quick": st.booleans(),
        "strategy": st.sampled_from(["auto", "one", {"use": "mirrored", "devices": ["CPU:0", "CPU:1"]}]),
        "fit": fits,
        "steps": st.tuples(st.lists(prunes, max_size=2), st.lists(qats, max_size=1)).map(lambda both: both[0] + both[1]),
        "export": st.fixed_dictionaries(
            {}, optional={"formats": st.lists(st.sampled_from([*conversion.FORMATS]), min_size=1, unique=True).map(lambda some: [*some])}
        ),
    },
)


@quickly
@given(table=good_tables, quick=st.booleans())
def test_any_good_recipe_is_written_so_that_it_reads_back(tmp_path, table, quick):
    path = tmp_path / "any.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8", newline="")
    recipe = recipes.read(path, quick=quick)
    path.write_text(recipes.write(recipe), encoding="utf-8", newline="")
    assert recipes.read(path) == recipe
    assert recipes.load(recipe) == recipe


# Arguments of another type


@pytest.mark.parametrize("recipe", [None, 5, ["digits.toml"]])
def test_what_is_no_recipe_is_refused(recipe):
    with pytest.raises(RecipeError, match="recipe: should be the path of a TOML file, a dict laid out like one, or a Recipe, not"):
        recipes.load(recipe)


def test_a_setting_alone_may_be_a_string():
    assert recipes.load(SMALL, settings="fit.epochs=3").fit.epochs == 3
    assert recipes.data_call("digits", settings="seed=3").options == {"seed": 3}


@pytest.mark.parametrize("wrong", [None, 5, [5]])
def test_settings_that_are_no_strings_are_one_problem(wrong):
    assert only_problem_of(SMALL, settings=wrong) == f"settings = {wrong}: should be a list of KEY=VALUE, like fit.epochs=5"


def test_a_format_that_stands_there_twice_is_listed_once():
    problems = problems_of({**SMALL, "export": {"formats": ["int8", "int8"]}, "limits": {"int9": {"bytes": 1}}})
    assert "limits.int9: no such format among export.formats; did you mean 'int8'? (there are: int8)" in problems
