"""The command line: what it prints, and that whatever goes wrong ends as one message and the right exit code."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tfopt
from tfopt import backend, cli, errors

ROOT = Path(__file__).parents[1]
DIGITS = str(ROOT / "recipes" / "digits.toml")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}  # so that it is this tfopt from any folder
HEAVY = ("tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "ai_edge_litert", "matplotlib", "sklearn")


def tfopt_command(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    kwargs = {"capture_output": True, "text": True, "timeout": 120, "env": ENVIRONMENT, **kwargs}
    return subprocess.run([sys.executable, "-m", "tfopt", *arguments], check=False, **kwargs)


def invoke(*arguments: str):
    return CliRunner().invoke(cli.app, arguments)


# Help


def test_help_explains_the_flow_in_one_screen():
    done = tfopt_command("--help", env={**ENVIRONMENT, "COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert "data -> train -> steps -> convert -> verify -> benchmark -> report" in done.stdout
    commands = [
        line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line.startswith("  ") and not line.startswith("  Exit")
    ]
    assert commands == ["list", "check", "data", "find", "run", "report", "inspect", "convert", "verify", "benchmark"]
    assert len(lines) <= 26
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", ["list", "check", "data", "find", "run", "report", "inspect", "convert", "verify", "benchmark"])
def test_every_command_has_help(command):
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert f"{command} [OPTIONS]" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["check", DIGITS], ["list"], ["check", "none.toml"], ["convert", "--help"]]
)
def test_what_needs_no_tensorflow_does_not_load_it(arguments):
    code = f"""
import sys
from tfopt import cli
sys.argv = ["tfopt", *{arguments!r}]
try:
    cli.main()
except SystemExit:
    pass
heavy = set({HEAVY!r}) & set(sys.modules)
assert not heavy, heavy
if {arguments!r} == ["--help"]:
    assert "pydantic" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def test_version():
    assert invoke("--version").stdout == f"tfopt {tfopt.__version__}\n"


# check and list


def test_check_says_what_would_run():
    done = invoke("check", DIGITS, "--set", "fit.epochs=5", "--set", "strategy=one")
    assert done.exit_code == 0
    for words in (
        "digits: good, nothing is wrong with it",
        "convnet width=32",
        "5 epochs of batches of 64, adam from 0.003, cosine, strategy one",
        "1. prune sparsity=0.5, then 6 epochs",
        "2. quantize_aware, then 3 epochs",
        "float32, float16, dynamic, int8, of the plain and of the optimized model",
        "int8: score_drop 0.01",
    ):
        assert words in done.stdout


def test_check_says_that_a_model_of_ones_own_is_not_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.keras").write_bytes(b"")
    Path("mine.toml").write_text('name = "mine"\ndata = { use = "digits" }\nmodel = { path = "mine.keras", trust = true }\n')
    done = invoke("check", "mine.toml")
    assert "mine.keras, whose own Python code may run" in done.stdout
    assert "no: the model is taken as it is, since there is no [fit]" in done.stdout
    assert "2 epochs of batches" in invoke("check", "mine.toml", "--set", "fit.epochs=2").stdout
    Path("mine.keras").unlink()
    done = invoke("check", "mine.toml")
    assert done.exit_code == 2 and "model.path = 'mine.keras': there is no such file" in done.stderr


def test_list_shows_everything_with_its_options():
    done = invoke("list")
    assert done.exit_code == 0
    tables = {
        "datasets": tfopt.datasets.DATASETS,
        "models": tfopt.models.MODELS,
        "techniques": tfopt.techniques.TECHNIQUES,
        "formats": tfopt.conversion.FORMATS,
    }
    for kind, functions in tables.items():
        alone = invoke("list", kind).stdout
        assert alone in done.stdout
        for name, function in functions.items():
            assert f"  {name}: {function.__doc__.splitlines()[0]}" in alone
            for option in tfopt.options.options_of(function):
                assert f"\n    {option} " in alone
    assert "float (at least 0, less than 1)" in done.stdout


def test_list_tells_what_an_app_repeats_from_what_changes_training_examples_only():
    done = invoke("list", "preprocessing")
    assert done.exit_code == 0
    preparations, augmentations = done.stdout.split("preprocessing: augmentations, of training examples only\n")
    assert preparations.startswith("preprocessing: preparations, of all examples; an app repeats them\n")
    for text, table in ((preparations, tfopt.preprocessing.PREPARATIONS), (augmentations, tfopt.preprocessing.AUGMENTATIONS)):
        assert [line.split(":")[0].strip() for line in text.splitlines() if line.startswith("  ") and line[2] != " "] == list(table)


def test_output_in_a_pipe_is_plain_and_does_not_wrap():
    done = tfopt_command("list", env={**ENVIRONMENT, "COLUMNS": "40"})
    assert "\x1b" not in done.stdout
    assert any(len(line.rstrip()) > 80 for line in done.stdout.splitlines())


def test_output_survives_a_pipe_that_knows_only_ascii(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(Path(DIGITS).read_text(encoding="utf-8").replace("real data", "données réelles"), encoding="utf-8")
    done = tfopt_command("check", str(recipe), env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "donn?es" in done.stdout


# What goes wrong


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """A folder to be in, with files that are not what they should be."""
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text(Path(DIGITS).read_text(encoding="utf-8").replace("sparsity = 0.5", "sparsity = 1.2"), encoding="utf-8")
    Path("binary.toml").write_bytes(bytes(range(256)))
    Path("cut.tflite").write_bytes(b"\x1c\0\0\0TFL3 and no more")
    Path("cut.h5").write_bytes(b"\x89HDF no more")
    Path("empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "none.toml"], 2, "none.toml: there is no such file; did you mean"),
        (["run", "bad.toml"], 2, "bad.toml: steps[0].sparsity = 1.2: should be less than 1"),
        (["run", DIGITS, "--set", "fit.epoch=5"], 2, "fit.epoch: unknown key; did you mean 'epochs'?"),
        (["run", DIGITS, "--set", "fit"], 2, "setting 'fit': should be KEY=VALUE"),
        (["check", "binary.toml"], 2, "binary.toml: is not a text file in UTF-8"),
        (["check", "empty"], 2, "empty: is a folder, not a recipe"),
        (["list", "techniqes"], 2, "'techniqes': no such kind; did you mean 'techniques'?"),
        (["report", "empty"], 1, "report.json: there is no such file; give the folder of a finished run"),
        (["convert", "none.h5", "--format", "int9", "--out", "x.tflite"], 2, "format.use = 'int9': no such format; did you mean 'int8'?"),
        (
            ["convert", "none.h5", "--format", "int8", "--io", "int4", "--out", "x.tflite"],
            2,
            "format.io = 'int4': should be 'int8', 'uint8'",
        ),
        (["convert", "none.h5", "--format", "float32", "--io", "int8", "--out", "x.tflite"], 2, "format.io: unknown option"),
        (["convert", "none.h5", "--format", "int8", "--data", "digit", "--out", "x.tflite"], 2, "data.use = 'digit': no such dataset"),
        (["convert", "none.h5", "--format", "int8", "--set", "seed=1", "--out", "x.tflite"], 2, "name the data with --data"),
        (["verify", "none.tflite", "--against", "none.h5", "--data", "digits"], 1, "none.tflite: no such file; give the path of a .tflite"),
        (["verify", "empty", "--against", "none.h5", "--data", "digits"], 1, "empty: can't be read (Is a directory); give the path"),
        (["benchmark", "none.tflite"], 1, "none.tflite: no such file; expected a .keras or .h5 file"),
        (["verify", "cut.tflite", "--against", "none.h5", "--data", "digits"], 1, "cut.tflite: "),
        (["convert", "none.h5", "--format", "float32", "--out", "x.tflite"], 1, "none.h5: no such file"),
        (["convert", "cut.h5", "--format", "float32", "--out", "x.tflite"], 1, "cut.h5: is damaged or no model"),
        (["benchmark", "cut.tflite"], 1, "cut.tflite: "),
        (["benchmark", "cut.tflite", "--data", "digits", "--set", "sed=1"], 2, "data.sed: unknown option; did you mean 'seed'?"),
        (["benchmark", "cut.tflite", "--threads", "0"], 2, "Invalid value for '--threads'"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["run"], 2, "Missing argument 'RECIPE'"),
    ],
    ids=lambda value: " ".join(value).replace(DIGITS, "digits.toml") if isinstance(value, list) else None,
)
def test_bad_input_ends_in_one_message_and_its_exit_code(bad, arguments, code, message):
    before = sorted(bad.rglob("*"))
    done = invoke(*arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(bad.rglob("*")) == before, "nothing may be left behind"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.LimitError(["int8: bytes 5 > 4"]), 3, "tfopt: the run is finished, but a limit is broken: int8: bytes 5 > 4\n"),
        (errors.DataError("x.gz: is cut short"), 1, "tfopt: x.gz: is cut short\n"),
        (errors.OptionError("width = 0: too small"), 2, "tfopt: width = 0: too small\n"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "tfopt: runs/x: No space left on device; free some space\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs"),
            1,
            "tfopt: runs: Permission denied; choose another place or change its",
        ),
        (MemoryError(), 1, "tfopt: out of memory; a smaller batch_size or model needs less\n"),
        (KeyboardInterrupt(), 130, "tfopt: interrupted; the same command continues where it stopped\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "tfopt: Broken pipe\n"),
        (ZeroDivisionError("\n  by\nzero"), 1, "tfopt: unexpected ZeroDivisionError: by (TFOPT_TRACEBACK=1 shows where it comes from)\n"),
        (AssertionError(), 1, "tfopt: unexpected AssertionError: no message (TFOPT_TRACEBACK=1 shows"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_a_run_raises_is_a_message_and_an_exit_code(monkeypatch, error, code, message):
    from tfopt import pipeline

    def run(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.delenv("TFOPT_TRACEBACK", raising=False)
    done = invoke("run", DIGITS)
    assert done.exit_code == code
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr
    monkeypatch.setenv("TFOPT_TRACEBACK", "1")
    done = invoke("run", DIGITS)
    assert done.exit_code == code
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_said():
    with open("/dev/full", "w") as full:
        done = tfopt_command("list", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "tfopt: No space left on device; free some space\n"


def test_a_reader_that_goes_away_gets_no_message():
    read, write = os.pipe()
    os.close(read)
    done = tfopt_command("list", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


# convert, verify, benchmark on real data


def test_a_model_file_is_converted_verified_and_benchmarked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tfopt.datasets.digits()
    model = tfopt.train(tfopt.models.mlp(data.input_shape, data.num_classes), data, tfopt.Fit(epochs=2, batch_size=32))
    tfopt.save(model, "mlp.h5")

    done = invoke("convert", "mlp.h5", "--format", "int8", "--io", "uint8", "--data", DIGITS, "--out", "small.tflite")
    assert done.exit_code == 0, done.stderr
    size = Path("small.tflite").stat().st_size
    assert done.stdout == (f"small.tflite: {size:,} bytes\nsmall.preprocessing.json: what is done to an example before the model\n")
    assert tfopt.load_preprocessing("small.preprocessing.json") == tfopt.preprocessing_of(data)

    done = invoke("verify", "small.tflite", "--against", "mlp.h5", "--data", "digits", "--set", "seed=0")
    assert done.exit_code == 0, done.stderr
    rows = {line[:15].strip(): line[15:] for line in done.stdout.splitlines()}
    assert list(rows) == ["accuracy", "baseline", "drop", "agreement", "largest error"]
    assert float(rows["agreement"].split()[0]) > 0.97

    done = invoke("benchmark", "small.tflite", "--runs", "60", "--data", "digits")
    assert done.exit_code == 0, done.stderr
    assert "60 after 10 to warm up, on test examples" in done.stdout

    tfopt.save(tfopt.load("mlp.h5"), "mlp.keras")  # of Keras 3
    for other in ("mlp.keras", "small.tflite"):
        done = invoke("verify", "small.tflite", "--against", other, "--data", "digits")
        assert done.exit_code == 0, done.stderr
        expected = rows["baseline" if other == "mlp.keras" else "accuracy"].split()[0]
        assert next(line for line in done.stdout.splitlines() if line.startswith("baseline")).split()[1] == expected
    done = invoke("benchmark", "mlp.keras")
    assert done.exit_code == 0, done.stderr
    assert "mlp.keras, converted to float32 for this" in done.stdout

    Path("other.tflite").write_bytes(b"someone's")
    done = invoke("convert", "mlp.h5", "--format", "float32", "--out", "other.tflite")
    assert done.exit_code == 1
    assert "other.tflite: another file stands here already" in done.stderr
    assert Path("other.tflite").read_bytes() == b"someone's"


def test_python_code_in_a_file_runs_only_where_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras = backend.keras()
    tfopt.save(keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1, name="plus")]), "code.h5")
    done = invoke("convert", "code.h5", "--format", "float32", "--out", "code.tflite")
    assert done.exit_code == 1 and "code.h5: holds Python code of its own (layer 'plus')" in done.stderr
    assert invoke("convert", "code.h5", "--format", "float32", "--out", "code.tflite", "--trust").exit_code == 0


# find


def test_find_suggests_and_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("find", DIGITS, "--set", "fit.batch_size=128", "--set", "model.width=4")
    assert done.exit_code == 0, done.stderr
    assert re.match(r"at batch size 128: learning rate 0\.\d+ suggested", done.stdout)
    assert [line.split()[0] for line in done.stdout.splitlines()[2:9]] == ["batch", "16", "32", "64", "128", "256", "512"]
    assert f"plots: {tmp_path / 'runs' / 'digits-rates.png'} and {tmp_path / 'runs' / 'digits-batches.png'}" in done.stdout
    assert all((tmp_path / "runs" / f"digits-{name}.png").read_bytes().startswith(b"\x89PNG") for name in ("rates", "batches"))


# A whole run


@pytest.mark.slow
def test_a_quick_run_is_interrupted_continued_and_reported_again(tmp_path):
    arguments = [sys.executable, "-m", "tfopt", "run", DIGITS, "--quick", "--out", "out"]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/stages/train-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message.splitlines()[-1] == "tfopt: interrupted; the same command continues where it stopped"
    assert "Traceback" not in output + message

    done = tfopt_command(*arguments[3:], cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'out' / 'report.html'}"
    assert "\x1b" not in done.stdout

    shutil.rmtree(tmp_path / "out" / "stages")
    again = tfopt_command("report", "out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
