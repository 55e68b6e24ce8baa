"""The whole story on the digits: what it must reach, the same twice, and after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge, pipelines, recipes, reporting
from tfopt.errors import LimitError, OptionError, RecipeError, RunError, UnsupportedModel

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "digits.toml"
SMALL = {
    "name": "small",
    "data": {"use": "digits"},
    "model": {"use": "convnet", "width": 8, "dropout": 0.2},
    "fit": {"epochs": 3, "batch_size": 128, "learning_rate": 3e-3},
    "steps": [
        {"use": "prune", "sparsity": 0.5, "fit": {"epochs": 2}},
        {"use": "quantize_aware", "fit": {"epochs": 2, "learning_rate": 1e-3}},
    ],
    "export": {"formats": ["float32", "int8"]},
}


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """The recipe that everyone sees first, run once, whole."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return tfopt.run(RECIPE, out=folder), folder


def rows(report):
    return {row.artifact.name: row for row in report.rows}


def files(report):
    return {row.artifact.name: row.artifact.sha256 for row in report.rows}


def start(recipe, folder, *more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "tfopt", "run", str(recipe), "--out", str(folder), *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_digits_reach_what_they_must(digits_run):
    report, _ = digits_run
    row = rows(report)
    assert len(row) == 8
    assert row["plain-float32"].verdict.score >= 0.97
    assert row["optimized-int8"].verdict.score >= row["plain-float32"].verdict.score - 0.01
    assert row["optimized-int8"].measures.bytes <= 0.40 * row["plain-float32"].measures.bytes
    assert row["optimized-int8"].measures.gzip_bytes < row["plain-int8"].measures.gzip_bytes
    assert report.raise_for_limits() is None


def test_every_row_names_its_steps_and_says_what_is_in_the_file(digits_run):
    row = rows(digits_run[0])
    for form in ("float32", "float16", "dynamic", "int8"):
        assert row[f"plain-{form}"].artifact.steps == ("train",)
        assert row[f"optimized-{form}"].artifact.steps == ("train", "prune", *(("quantize_aware",) if form == "int8" else ()))
        assert row[f"optimized-{form}"].measures.sparsity > 0.49
        assert row[f"plain-{form}"].verdict.examples == 359
        assert len(row[f"plain-{form}"].timing.samples_ms) >= 50 and row[f"plain-{form}"].timing.machine
    kinds = {kernel.dtype for kernel in row["optimized-int8"].measures.kernels}
    assert kinds == {"int8"} and not row["optimized-int8"].measures.float_operations
    assert {kernel.dtype for kernel in row["optimized-float16"].measures.kernels} == {"float16"}
    assert {operation.dtype for operation in row["optimized-float32"].measures.operations} == {"float32"}


def test_the_trained_keras_model_and_its_float_file_agree(digits_run):
    verdict = rows(digits_run[0])["plain-float32"].verdict
    assert verdict.agreement == 1 and verdict.largest_error < 1e-4 and verdict.drop == 0
    low, high = verdict.interval
    assert low < verdict.score < high


def test_the_folder_holds_the_report_and_the_files(digits_run):
    report, folder = digits_run
    assert {"report.html", "report.json", "report.md", "recipe.toml", "artifacts"} <= {p.name for p in folder.iterdir()}
    for row in report.rows:
        assert (folder / "artifacts" / f"{row.artifact.name}.tflite").read_bytes() == row.artifact.content
    assert not [p for p in (folder / "stages").iterdir() if p.name.startswith(".")]
    assert str(reporting.load(folder)) == str(report)


def test_the_second_run_does_nothing_again(digits_run):
    report, folder = digits_run
    stamps = {p: p.stat().st_mtime_ns for p in (folder / "stages").rglob("*")}
    again = tfopt.run(RECIPE, out=folder)
    assert stamps == {p: p.stat().st_mtime_ns for p in (folder / "stages").rglob("*")}
    assert str(again) == str(report) and files(again) == files(report)


def test_a_folder_of_another_recipe_is_refused(digits_run):
    _, folder = digits_run
    with pytest.raises(RunError, match=r"width = 32.*width = 8"):
        tfopt.run(RECIPE, out=folder, settings=["model.width=8"])


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(digits_run, tmp_path):
    process = start(RECIPE, tmp_path / "digits")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    for row in digits_run[0].rows:
        assert (tmp_path / "digits" / "artifacts" / f"{row.artifact.name}.tflite").read_bytes() == row.artifact.content, row.artifact.name
    assert "report.html" in out


@pytest.mark.slow
def test_kill_9_in_the_middle_of_training_changes_no_number(tmp_path):
    recipe = tmp_path / "small.toml"
    prune, quantize = SMALL["steps"]
    steps = [prune, {"use": "cluster", "clusters": 8, "fit": {"epochs": 2}}, quantize]
    recipe.write_text(recipes.write(recipes.load({**SMALL, "steps": steps})))
    whole = tfopt.run(recipe, out=tmp_path / "whole")
    killed = 0
    for stage, epochs in (("train", 2), ("1-prune", 1), ("2-cluster", 1), ("3-quantize_aware", 1)):
        process = start(recipe, tmp_path / "killed")
        if _wait_for_epochs(process, tmp_path / "killed", stage, epochs):
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate(timeout=120)
    assert killed == 4
    resumed = tfopt.run(recipe, out=tmp_path / "killed")
    assert files(resumed) == files(whole)
    assert [row.verdict for row in resumed.rows] == [row.verdict for row in whole.rows]
    assert resumed.trace == whole.trace
    int8 = rows(whole)["optimized-int8"]
    kernels = [kernel for kernel in int8.measures.kernels if kernel.op != "DEPTHWISE_CONV_2D"]
    assert int8.artifact.steps == ("train", "prune", "cluster", "quantize_aware") and int8.measures.sparsity > 0.45
    assert all(max(kernel.distinct) <= 8 for kernel in kernels)


def _wait_for_epochs(process, folder, stage, epochs, seconds=120):
    """Waits until the stage has saved its state after that many epochs; False where it was finished first."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if list(folder.glob(f"stages/.{stage}-*.progress/fit1-epoch-{epochs:06d}.npz")):
            return True
        time.sleep(0.001)
    return False


@pytest.mark.slow
def test_quick_takes_another_folder_and_checks_no_limits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = tfopt.run({**SMALL, "limits": {"int8": {"score": 0.999}}}, quick=True)
    assert (tmp_path / "runs" / "small-quick" / "report.html").is_file()
    assert report.raise_for_limits() is None and "Quick run" in str(report)
    assert rows(report)["plain-float32"].verdict.examples == 128


@pytest.mark.slow
def test_broken_limits_end_the_command_with_3(tmp_path):
    limits = {"int8": {"bytes": 1000, "score": 0.999}}
    table = {**SMALL, "fit": {"epochs": 1}, "steps": [], "export": {"formats": ["int8"]}, "limits": limits}
    report = tfopt.run(table, out=tmp_path / "run")
    with pytest.raises(LimitError, match="bytes") as error:
        report.raise_for_limits()
    assert len(error.value.broken) == 2
    (tmp_path / "run.toml").write_text((tmp_path / "run" / "recipe.toml").read_text())
    process = start(tmp_path / "run.toml", tmp_path / "run")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3 and "bytes" in err and "score" in err and "Traceback" not in err


def test_without_quantization_the_optimized_int8_comes_from_the_pruned_model(tmp_path):
    report = tfopt.run({**SMALL, "fit": {"epochs": 1}, "steps": [{"use": "prune", "sparsity": 0.7}]}, out=tmp_path / "run")
    assert {name: row.artifact.steps for name, row in rows(report).items()} == {
        "plain-float32": ("train",),
        "plain-int8": ("train",),
        "optimized-float32": ("train", "prune"),
        "optimized-int8": ("train", "prune"),
    }
    assert rows(report)["optimized-int8"].measures.sparsity > 0.69


def test_quantize_aware_alone_makes_no_second_float_row(tmp_path):
    limits = {"float32": {"score": 1.0}, "int8": {"bytes": 1_000_000}}
    table = {**SMALL, "fit": {"epochs": 1}, "steps": [{"use": "quantize_aware"}], "limits": limits}
    report = tfopt.run(table, out=tmp_path / "run")
    assert set(rows(report)) == {"plain-float32", "plain-int8", "optimized-int8"}
    with pytest.raises(LimitError, match=r"^plain-float32: score"):  # the only row of its format is the one that is judged
        report.raise_for_limits()


@pytest.mark.slow
def test_a_run_under_two_replicas(tmp_path):
    table = {**SMALL, "strategy": {"use": "mirrored", "devices": ["CPU:0", "CPU:1"]}}
    report = tfopt.run(table, out=tmp_path / "run")
    assert rows(report)["optimized-int8"].measures.sparsity > 0.49
    assert rows(report)["plain-float32"].verdict.agreement == 1


# A model of one's own


@pytest.fixture(scope="module")
def mine(tmp_path_factory, digits):
    """A Keras 3 model of the user's own, trained a little, in a file."""
    keras = bridge.keras3()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(10, activation="softmax", name="dense"),
        ],
        name="mine",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own, of NumPy
        model.fit(*pipelines.to_arrays(digits.train), epochs=3, verbose=0)
        model.save(path := tmp_path_factory.mktemp("mine") / "mine.keras")
    return path, np.asarray(model(pipelines.to_arrays(digits.test)[0]))


def test_a_model_from_a_file_is_taken_as_it_is(mine, digits, tmp_path):
    path, outputs = mine
    table = {key: value for key, value in SMALL.items() if key != "fit"}
    prune = {"use": "prune", "sparsity": 0.5, "fit": {"epochs": 1}}
    table |= {"model": {"path": str(path)}, "steps": [prune], "export": {"formats": ["float32"]}}
    report = tfopt.run(table, out=tmp_path / "run")
    assert rows(report)["plain-float32"].artifact.steps == ("load",)
    assert rows(report)["optimized-float32"].artifact.steps == ("load", "prune")
    score = np.mean(outputs.argmax(1) == pipelines.to_arrays(digits.test)[1])
    assert rows(report)["plain-float32"].verdict.baseline == pytest.approx(score)
    assert rows(report)["plain-float32"].verdict.agreement == 1
    assert rows(report)["optimized-float32"].measures.sparsity > 0.49
    assert f"The model was taken from {path} as it is" in str(report)
    assert reporting.load(tmp_path / "run").recipe == report.recipe
    assert (tmp_path / "run" / "models" / "load.h5").is_file()
    before = sorted((tmp_path / "run" / "stages").glob("load-*"))
    changed = tfopt.load(path)
    changed.set_weights([weight * 0.5 for weight in changed.get_weights()])
    moved = path.with_name("other.keras")
    path.rename(moved)
    try:
        tfopt.save(changed, path)  # the same path, another model
        tfopt.run(table, out=tmp_path / "run")
    finally:
        moved.rename(path)
    assert len(list((tmp_path / "run" / "stages").glob("load-*"))) == len(before) + 1


def test_a_model_from_a_file_is_trained_further_where_there_is_a_fit(mine, tmp_path):
    report = tfopt.run({**SMALL, "model": {"path": str(mine[0])}, "fit": {"epochs": 1}, "steps": []}, out=tmp_path / "run", quick=True)
    assert rows(report)["plain-float32"].artifact.steps == ("train",)
    assert "taken from" not in str(report)


def test_what_a_recipe_can_not_work_on_is_refused_with_the_reason(mine, tmp_path):
    tf = backend.tensorflow()
    module = tf.Module()
    module.predict = tf.function(
        lambda x: {"y": x}, input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="x")], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path / "graph"), signatures=module.predict)
    table = {**SMALL, "steps": [], "model": {"path": str(tmp_path / "graph")}}
    with pytest.raises(
        UnsupportedModel, match="graph: can't be trained or changed: it holds a graph of operations and no config of Keras layers"
    ):
        tfopt.run(table, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_recipe_starts_nothing(tmp_path):
    with pytest.raises(RecipeError, match="sparsity"):
        tfopt.run({**SMALL, "steps": [{"use": "prune", "sparsity": 1.2}]}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("step", [{"where": "cnov1"}, {"sparsity": {"cnov1": 0.5}}])
def test_a_layer_that_is_not_there_is_found_before_anything_is_trained(tmp_path, step):
    table = {**SMALL, "steps": [SMALL["steps"][0], {"use": "prune", **step}]}
    with pytest.raises(OptionError, match=rf"steps\[1\]\.{next(iter(step))} = 'cnov1': no layer.*did you mean 'conv1'"):
        tfopt.run(table, out=tmp_path / "run")
    assert not list((tmp_path / "run").glob("stages/*train*/model.h5"))


def test_texts_go_through_a_recipe_and_bring_the_size_of_their_vocabulary(tmp_path):
    words = ["fine", "good", "great", "bad", "poor", "awful"]
    lines = [f"{'no' if number % 2 else 'yes'} it is {words[number % 3 + 3 * (number % 2)]} number{number % 5}" for number in range(60)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    recipe = {
        "name": "texts",
        "data": {"use": "text_file", "file": str(tmp_path / "lines.txt"), "length": 6},
        "model": {"use": "textcnn", "filters": 4, "embedding": 8},
        "fit": {"epochs": 2},
        "export": {"formats": ["int8"]},
    }
    report = tfopt.run(recipe, out=tmp_path / "run")
    model = tfopt.load(tmp_path / "run" / "models" / "train.h5")
    assert model.get_layer("embedding").input_dim == 2 + len(["it", "is"]) + 6 + 5  # with those to fill up and for unknown words
    assert report.rows[0].verdict.examples == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", ["spoken_digits", "trec", "fashion_lenet5", "penguins_mass", "nab", "bccd_unet", "bccd_ssd", "joined_digits", "number_words"]
)
def test_the_other_recipes_keep_their_limits(recipe, tmp_path, unpackable, data_folder, monkeypatch):
    sounds = unpackable("free_spoken_digit/fsdd.zip")
    (tmp_path / "free_spoken_digit").symlink_to(sounds.parent)
    (tmp_path / "bccd.zip").symlink_to(unpackable("bccd.zip"))
    for name in ("text", "fashion_mnist", "tables", "nab"):
        (tmp_path / name).symlink_to(data_folder(name))
    monkeypatch.setenv("TFOPT_DATA", str(tmp_path))
    report = tfopt.run(Path(__file__).parents[1] / "recipes" / f"{recipe}.toml", out=tmp_path / "run")
    report.raise_for_limits()
