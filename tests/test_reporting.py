"""Reports: what they say, that they come back from disk as they were, and that the HTML stands alone.

Most of it is tested on invented results, of which only the form counts; one test goes through real files and real measurements.
"""

from __future__ import annotations

import dataclasses
import html.parser
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

import tfopt
from tfopt import measures, reporting, strategies, timing, verification
from tfopt.errors import ArtifactError, LimitError, RunError
from tfopt.results import Kernel, Measures, Operation, Row, Timing, Verdict
from tfopt.types import Artifact, Call, Fit, Recipe, Step

TRAINED, PRUNED, QUANTIZED = ("train",), ("train", "prune"), ("train", "prune", "quantize_aware")
RECIPE = Recipe(
    name="digits",
    data=Call("digits"),
    model=Call("convnet", {"width": 32}),
    fit=Fit(epochs=3),
    steps=(Step("prune", {"sparsity": 0.5, "fit": Fit(epochs=2, learning_rate=1e-4)}), Step("quantize_aware", {"fit": Fit(epochs=1)})),
    formats=tuple(map(Call, ("float32", "float16", "dynamic", "int8"))),
    limits={"int8": {"bytes": 30_000}},
)
TRACE = (
    {"kind": "curve", "name": "train", "history": {"loss": [1.0, 0.5, 0.2], "accuracy": [0.6, 0.8, 0.9], "val_loss": [1, 0.6, 0.3]}},
    {
        "kind": "choices",
        "technique": "prune",
        "choices": [
            {"layer": "stem", "treated": True, "reason": "a kernel of 288 weights"},
            {"layer": "norm", "treated": False, "reason": "no kernel"},
        ],
    },
    {"kind": "ranges", "technique": "quantize_aware", "ranges": {"stem": [-1.5, 2.25]}},
    {"kind": "note", "text": "three layers stayed float"},
)


def row(format, steps, score, size, zipped, ms, *, broken=(), quantized=False, error=0.02):
    dtype = "int8" if quantized else "float32"
    kernel = Kernel("net/conv", "CONV_2D", dtype, (2, 3, 3, 1), (0.5, 0.25), (3, 9), (0.75, 1.5))
    operations = (Operation("CONV_2D", "net/conv", dtype, dtype), Operation("SOFTMAX", "net/out", "float32", None))
    return Row(
        Artifact(f"{'optimized' if len(steps) > 1 else 'plain'}-{format}", format, f"{format} {steps}".encode(), steps),
        Verdict("accuracy", score, (score - 0.02, score + 0.01), 0.9861, 0.994, error, 360, broken),
        Timing(tuple(ms + 0.001 * i for i in range(11)), 10, 1, "LiteRT 2.3.0", "a CPU, 2 cores", "test examples"),
        Measures(size, zipped, 28_842, 1_200_768, 0.5, (kernel,), operations),
    )


def rows(**changes):
    made = [
        row("float32", TRAINED, 0.9861, 118_316, 108_212, 0.043),
        row("float16", TRAINED, 0.9861, 61_404, 54_310, 0.043),
        row("dynamic", TRAINED, 0.9833, 35_816, 29_911, 0.032, quantized=True),
        row("int8", TRAINED, 0.9806, 36_520, 29_870, 0.014, quantized=True),
        row("float32", PRUNED, 0.9833, 118_316, 71_212, 0.043),
        row("float16", PRUNED, 0.9833, 61_404, 37_310, 0.043),
        row("dynamic", PRUNED, 0.9806, 35_816, 20_911, 0.033, quantized=True),
        row("int8", QUANTIZED, 0.9833, 36_620, 20_011, 0.014, quantized=True, **changes),
    ]
    return tuple(made)


@pytest.fixture
def report():
    return reporting.Report(RECIPE, {"tfopt": "0.1.0", "machine": "a CPU"}, rows(), TRACE, {"train": 12.3, "benchmark": 1.0})


# In the terminal


def test_the_table_sets_the_converter_alone_beside_tfopt(report):
    lines = str(report).splitlines()
    titles = ["converter alone: train", "tfopt: train + prune", "tfopt: train + prune + quantize_aware"]
    places = [lines.index(title) for title in titles]
    assert places == sorted(places)
    assert [line.split()[0] for line in lines[places[0] + 1 : places[1]]] == ["float32", "float16", "dynamic", "int8"]
    assert [line.split()[0] for line in lines[places[1] + 1 : places[2]]] == ["float32", "float16", "dynamic"]
    last = lines[places[2] + 1]
    for cell in ("int8", "98.33 %", "96.3 – 99.3", "+0.28", "99.4 %", "36,620", "0.31", "20,011", "0.0190", "0.0230", "50 %", "1/2"):
        assert cell in last
    assert max(map(len, lines[3 : places[2] + 2])) <= 110


def test_the_summary_speaks_of_the_smallest_optimized_file(report):
    assert (
        "optimized int8: accuracy 98.33 % (trained Keras model: 98.61 %), 0.31 of the plain float32 file's bytes "
        "(0.18 when both are gzipped), 2.5 times as fast"
    ) in str(report)


def test_without_a_float32_row_nothing_is_compared_with_it(report):
    alone = dataclasses.replace(report, rows=(report.rows[3],))
    assert "plain int8: accuracy 98.06 %" in str(alone)
    assert "plain float32" not in str(alone)
    assert "–" in str(alone).splitlines()[5]


def test_a_report_without_rows_says_so(report, tmp_path):
    empty = dataclasses.replace(report, rows=(), trace=())
    assert "Nothing was exported" in str(empty)
    empty.save(tmp_path)
    assert reporting.load(tmp_path).rows == ()


# Limits


def test_broken_limits_are_raised_and_shown(report, tmp_path):
    sentence = "optimized-int8: bytes is 36,620, the limit is 30,000"
    bad = dataclasses.replace(report, rows=rows(broken=(sentence,)))
    with pytest.raises(LimitError, match=re.escape(sentence)) as caught:
        bad.raise_for_limits()
    assert caught.value.broken == (sentence,)
    assert f"Limit broken: {sentence}" in str(bad)
    page = bad.save(tmp_path).read_text()
    assert sentence in page and "All limits of the recipe are kept" not in page
    assert sentence in (tmp_path / "report.md").read_text()


def test_kept_limits_raise_nothing(report, tmp_path):
    report.raise_for_limits()
    assert "All limits of the recipe are kept" in report.save(tmp_path).read_text()


def test_a_quick_run_says_that_its_limits_were_not_checked(report, tmp_path):
    quick = dataclasses.replace(report, recipe=dataclasses.replace(RECIPE, quick=True))
    quick.raise_for_limits()
    page = quick.save(tmp_path).read_text()
    for words in (str(quick), page, (tmp_path / "report.md").read_text()):
        assert "limits were not checked" in words
    assert "All limits of the recipe are kept" not in page


# On disk


def test_a_saved_report_comes_back_as_it_was(report, tmp_path):
    page = report.save(tmp_path / "new" / "run")
    assert page == tmp_path / "new" / "run" / "report.html"
    again = reporting.load(page.parent)
    assert again == dataclasses.replace(report, folder=page.parent)
    assert str(again) == str(report)
    assert sorted(f.name for f in page.parent.iterdir()) == ["artifacts", "report.html", "report.json", "report.md"]
    before = {f: f.read_bytes() for f in page.parent.rglob("*") if f.is_file()}
    again.save(page.parent)
    assert {f: f.read_bytes() for f in page.parent.rglob("*") if f.is_file()} == before


def test_the_json_holds_what_readers_want_to_know(report, tmp_path):
    report.save(tmp_path)
    last = json.loads((tmp_path / "report.json").read_text())["rows"][-1]
    assert last["artifact"]["steps"] == ["train", "prune", "quantize_aware"]
    assert last["verdict"]["drop"] == pytest.approx(0.0028)
    assert last["timing"]["median_ms"] == pytest.approx(0.019)
    assert len(last["timing"]["samples_ms"]) == 11
    assert last["artifact"]["sha256"] == report.rows[-1].artifact.sha256


def test_numbers_that_json_lacks_survive(report, tmp_path):
    odd = dataclasses.replace(report, rows=(row("float32", TRAINED, 0.1, 10, 5, 1.0, error=math.inf),))
    odd.save(tmp_path)
    json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert reporting.load(tmp_path).rows[0].verdict.largest_error == math.inf


def test_what_a_file_cannot_hold_is_named(report, tmp_path):
    def with_data(x):
        return dataclasses.replace(report, recipe=dataclasses.replace(RECIPE, data=Call("arrays", {"x": x, "where": len})))

    page = with_data(np.zeros((3, 2), np.float32)).save(tmp_path).read_text()
    assert "float32 array (3, 2), sha256" in page and "builtins.len" in page
    assert reporting.load(tmp_path).rows == report.rows
    with_data(np.zeros((3, 2), np.float32)).save(tmp_path)
    with pytest.raises(RunError, match="another recipe"):
        with_data(np.ones((3, 2), np.float32)).save(tmp_path)


def test_its_own_report_is_written_again(report, tmp_path):
    report.save(tmp_path)
    faster = dataclasses.replace(report, rows=(row("float32", TRAINED, 0.99, 10, 5, 0.001), *report.rows[1:]))
    faster.save(tmp_path)
    assert reporting.load(tmp_path).rows == faster.rows


def test_the_report_of_another_recipe_is_refused(report, tmp_path):
    report.save(tmp_path)
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    other = dataclasses.replace(report, recipe=dataclasses.replace(RECIPE, seed=1))
    with pytest.raises(RunError, match=r"another recipe \(they differ in: seed\)"):
        other.save(tmp_path)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before


def test_a_folder_that_cannot_be_written_is_named(report, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=re.escape(str(tmp_path / "file")) + ".*can't be written"):
        report.save(tmp_path / "file")


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(RunError, match=re.escape(str(tmp_path / "report.json"))):
        reporting.load(tmp_path)


NO_REPORTS = [b"", b"\xff\xfe", b"[]", b"{}", b'{"tfopt_report": 99}', b"[" * 100_000, b'{"tfopt_report": 1, "recipe": []}']


@pytest.mark.parametrize("content", NO_REPORTS, ids=range(len(NO_REPORTS)))
def test_a_file_that_is_no_report_is_named(content, report, tmp_path):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(RunError, match=r"report\.json"):
        reporting.load(tmp_path)
    with pytest.raises(RunError, match=r"report\.json"):
        report.save(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tree: tree.pop("rows"),
        lambda tree: tree["rows"][0].pop("verdict"),
        lambda tree: tree["rows"][0]["timing"].update(samples_ms="many"),
        lambda tree: tree["rows"][0].update(artifact=3),
        lambda tree: tree["recipe"]["fit"].update(epochs=-1),
        lambda tree: tree["recipe"].update(steps=[7]),
        lambda tree: tree.update(environment=None),
        lambda tree: tree.update(rows=5),
    ],
)
def test_a_spoilt_report_is_named(spoil, report, tmp_path):
    report.save(tmp_path)
    tree = json.loads((tmp_path / "report.json").read_text())
    spoil(tree)
    (tmp_path / "report.json").write_text(json.dumps(tree))
    with pytest.raises(RunError, match=r"report\.json: is not a whole report"):
        reporting.load(tmp_path)


def test_a_half_written_report_is_named(report, tmp_path):
    report.save(tmp_path)
    content = (tmp_path / "report.json").read_bytes()
    (tmp_path / "report.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"report\.json: is damaged"):
        reporting.load(tmp_path)


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_an_artifact_that_is_not_the_measured_one_is_named(change, report, tmp_path):
    report.save(tmp_path)
    change(tmp_path / "artifacts" / "optimized-int8.tflite")
    with pytest.raises(ArtifactError, match=r"optimized-int8\.tflite"):
        reporting.load(tmp_path)


# The page


class Reader(html.parser.HTMLParser):
    """The page's texts and addresses; fails on tags that are not closed in order."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, page):
        super().__init__()
        self.open, self.texts, self.addresses, self.tags = [], [], [], set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text.strip())


def test_the_page_stands_alone(report, tmp_path):
    text = report.save(tmp_path).read_text()
    page = Reader(text)
    assert all(address.startswith("#") for address in page.addresses)
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"https?:|url\((?!#)|@import", text)
    assert page.open == []


def test_the_page_says_all_of_it(report, tmp_path):
    texts = Reader(report.save(tmp_path).read_text()).texts
    for words in (
        "98.33 %", "36,620", "1.20 M", "28,842", "tfopt: train + prune + quantize_aware",  # the table
        "file size after gzip", "time of one inference, ms, median", "accuracy, %",  # the plots
        "a kernel of 288 weights", "left alone", "no kernel", "1 of 2 layers treated", "three layers stayed float", "-1.5", "2.25",
        "float outputs: SOFTMAX; float weights: none", "nothing is quantized to 8 bits", "2 × 3 × 3 × 1", "25 – 50", "3 – 9",
        "a CPU", "12.30 s", "13.3 s in all stages",
    ):  # fmt: skip
        assert words in texts, words
    assert any("sparsity = 0.5" in text for text in texts)  # the recipe


def test_names_from_outside_stay_text(report, tmp_path):
    nasty = "<script>alert(1)</script> | `x`"
    trace = (
        {"kind": "choices", "technique": nasty, "choices": [{"layer": nasty, "treated": False, "reason": nasty}]},
        {"kind": "curve", "name": nasty, "history": {"loss": [1.0, 0.5], "<b>": [1.0, 2.0]}},
        {"kind": "note", "text": nasty},
    )
    odd = dataclasses.replace(report, trace=trace, recipe=dataclasses.replace(RECIPE, note=nasty), environment={nasty: nasty})
    page = Reader(odd.save(tmp_path).read_text())
    assert "script" not in page.tags and "b" not in {tag for tag in page.tags if tag == nasty}
    assert page.texts.count(nasty) >= 6
    markdown = (tmp_path / "report.md").read_text()
    assert "<script>" not in markdown.replace("\\<script\\>", "")


def labels(page):
    """Format label -> (left, bottom, right, top) of each of its texts, in each plot of scores; widths as of a narrow sans-serif."""
    label = r'<text style="([^"]*)"[^>]*? x="([-\d.]+)" y="([-\d.]+)"[^>]*>(float32|float16|dynamic|int8)</text>'
    for plot in re.findall(r"<svg.*?</svg>", page, re.DOTALL)[:3]:
        boxes = []
        for style, x, y, text in re.findall(label, plot):
            x, y, width = float(x), float(y), 9 * 0.5 * len(text)
            left = x - width if "text-anchor: end" in style else x - width / 2 if "text-anchor: middle" in style else x
            boxes.append((left, y - 7, left + width, y))
        yield boxes


def test_the_labels_of_the_plots_do_not_lie_on_each_other(report, tmp_path):
    plots = list(labels(report.save(tmp_path).read_text()))
    assert [len(boxes) for boxes in plots] == [8, 8, 8]
    for boxes in plots:
        for index, one in enumerate(boxes):
            for other in boxes[index + 1 :]:
                apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
                assert apart, (one, other)


def test_a_page_leaves_pyplot_and_its_settings_alone(report, tmp_path):
    report.save(tmp_path)
    code = (
        "import sys, matplotlib; from tfopt import reporting\n"
        "settings = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}  # that one loads pyplot\n"
        "before = settings()\n"
        f"reporting.load({str(tmp_path)!r}).save({str(tmp_path)!r})\n"
        "assert settings() == before\n"
        "assert 'matplotlib.figure' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# The real thing


def test_the_environment_names_versions_machine_and_strategy():
    found = reporting.environment(strategies.pick("one"))
    assert found["tfopt"] == tfopt.__version__
    assert found["machine"] == timing.machine()
    assert found["strategy"].endswith("1 replica")
    assert {"python", "tensorflow", "tf_keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy", "date"} <= set(found)
    json.dumps(found)


def test_real_files_and_measurements_make_a_report(digits, tmp_path):
    model = tfopt.train(tfopt.models.mlp(digits.input_shape, digits.num_classes), digits, Fit(epochs=1))
    made = []
    for format in ("float32", "int8"):
        artifact = tfopt.convert(model, format, data=digits, name=f"plain-{format}", steps=TRAINED)
        verdict = verification.verify(artifact, against=model, data=digits)
        made.append(Row(artifact, verdict, timing.benchmark(artifact, data=digits), measures.measure(artifact)))
    report = reporting.Report(RECIPE, reporting.environment(strategies.pick("one")), tuple(made))
    report.save(tmp_path)
    again = reporting.load(tmp_path)
    assert again.rows == report.rows and again.environment == report.environment
    assert verification.verify(again.rows[1].artifact, against=model, data=digits) == made[1].verdict
    assert f"{made[0].measures.bytes:,}" in str(again)
    assert f"all {len(made[1].measures.operations)} operations are in 8 bits" in (tmp_path / "report.html").read_text()
