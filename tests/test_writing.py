"""Sequence to sequence and generation: sources of texts to write, losses and scores, what a model writes by itself, and the way to int8."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn import metrics as sk

import tfopt
from tfopt import backend, models, pipelines, recipes, tasks, verification
from tfopt.datasets import _pairs
from tfopt.errors import DataError, OptionError, RecipeError
from tfopt.types import Fit

RNG = np.random.default_rng(0)
PARTS = ("train", "validation", "test")
WORDS = ["ant", "bee", "cat", "dog", "eel", "fox"]


def written(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    """Three animals, and their initials."""
    every = [" ".join(three) for three in itertools.product(WORDS, repeat=3)]
    lines = [f"{line}\t{''.join(word[0] for word in line.split())}" for line in every]
    file = written(tmp_path_factory.mktemp("animals") / "animals.tsv", lines)
    return tfopt.datasets.text_pairs(file=file, target_unit="characters", length=3, target_length=4)


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """Lines of the alphabet from some letter on."""
    alphabet = "abcdefgh" * 3
    lines = [alphabet[start : start + length] for start in range(8) for length in range(4, 12)]
    return tfopt.datasets.text_lines(file=written(tmp_path_factory.mktemp("letters") / "letters.txt", lines * 2), length=12)


def small(data, **more):
    words = len(data.source["text"]["vocabulary"])
    with backend.seeded(0):
        return models.seq2seq(data.input_shape, data.num_classes, words=words, width=16, encoder=1, decoder=1, heads=2, **more)


# Sources


def test_numbers_are_said_as_in_britain():
    for number, words in {
        0: "zero",
        10: "ten",
        21: "twenty one",
        100: "one hundred",
        312: "three hundred and twelve",
        1005: "one thousand and five",
        40_700: "forty thousand seven hundred",
        312_045: "three hundred and twelve thousand and forty five",
        2_000_001: "two million and one",
        999_999_999_999: "nine hundred and ninety nine billion nine hundred and ninety nine million nine hundred and ninety nine thousand "
        "nine hundred and ninety nine",
    }.items():
        assert _pairs.in_words(number) == words


def read_off(data, part):
    """The texts of a part and what they become, as strings."""
    x, y = pipelines.to_arrays(getattr(data, part))
    vocabulary = data.source["text"]["vocabulary"]
    texts = [" ".join(vocabulary[word] for word in row if word) for row in x["text"]]
    return texts, ["".join(data.classes[symbol] for symbol in row if symbol >= 0) for row in y]


def test_number_words_are_pairs_of_different_numbers():
    data = tfopt.datasets.number_words(limit=10_000, examples=3000)
    assert (data.task, data.input_dtype) == ("sequence_to_sequence", {"text": "int32", "before": "int32"})
    seen = {}
    for part in PARTS:
        texts, numbers = read_off(data, part)
        assert all(number.endswith("[END]") for number in numbers)
        assert texts == [_pairs.in_words(int(number.removesuffix("[END]"))) for number in numbers]
        seen[part] = {int(number.removesuffix("[END]")) for number in numbers}
    assert [len(seen[part]) for part in PARTS] == [1950, 450, 600]
    assert len(set.union(*seen.values())) == 3000  # none is in two parts
    assert set(range(1000)) < set.union(*seen.values())  # of 1 to 3 digits all, of 4 as many as are left
    assert data.notes == ("generated: 3,000 numbers below 10,000 in English words, and their digits",)
    again, other = (tfopt.datasets.number_words(limit=10_000, examples=3000, seed=seed) for seed in (0, 1))
    assert data.fingerprint == again.fingerprint != other.fingerprint
    with pytest.raises(OptionError, match="examples = 200: there are only 100 numbers below limit = 100"):
        tfopt.datasets.number_words(limit=100, examples=200)
    assert sum(pipelines.size(getattr(tfopt.datasets.number_words(limit=100, examples=100), part)) for part in PARTS) == 100


@pytest.mark.parametrize("which", ["animals", "letters"])
def test_before_is_what_is_written_a_place_earlier(which, request):
    data = request.getfixturevalue(which)
    for part in PARTS:
        x, y = pipelines.to_arrays(getattr(data, part))
        before = x["before"] if isinstance(x, dict) else x
        assert before.dtype == y.dtype == np.int32 and not before[:, 0].any()
        np.testing.assert_array_equal(before[:, 1:], y[:, :-1] + 1)
        assert ((y == data.classes.index("[END]")).sum(axis=1) == 1).all()
    facts = data.source.get("before", data.source)
    assert tuple(facts["vocabulary"][1:]) == data.classes  # so that an index there is that of the class, plus 1


def test_pairs_are_words_or_characters(animals, tmp_path):
    texts, initials = read_off(animals, "test")
    assert len(texts) == 43 and all(
        initial == "".join(word[0] for word in text.split()) + "[END]" for text, initial in zip(texts, initials, strict=True)
    )
    lines = [f"a{n}; B {n} c" for n in range(20)]
    data = tfopt.datasets.text_pairs(file=written(tmp_path / "a.txt", lines), separator=";", unit="characters", length=2, target_length=3)
    assert data.source["text"]["pattern"] == "(?s)." and not data.source["text"]["lower"] and data.source["before"]["lower"]
    assert {"b", "c"} < set(data.classes)
    assert data.notes == ("10 of 20 texts have more than length = 2 characters; their ends were cut off",
                          "20 of 20 targets have more than target_length - 1 = 2 words; their ends were cut off")  # fmt: skip
    official = tfopt.datasets.text_pairs(file=tmp_path / "a.txt", separator=";", test_file=written(tmp_path / "b.txt", lines[:2]))
    assert [pipelines.size(getattr(official, part)) for part in PARTS] == [17, 3, 2]


def test_what_is_wrong_in_a_file_is_said(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt, line 2: is 'no tab'; should be 'text\\tother text'"):
        tfopt.datasets.text_pairs(file=written(tmp_path / "a.txt", ["one\t1", "no tab", "two\t2"]))
    with pytest.raises(OptionError, match="separator = ''"):
        tfopt.datasets.text_pairs(file=tmp_path / "a.txt", separator="")
    with pytest.raises(DataError, match=r"a\.txt: has 2 lines; should have at least 3"):
        tfopt.datasets.text_pairs(file=written(tmp_path / "a.txt", ["one\t1", "two\t2"]))
    with pytest.raises(DataError, match=r"its 3 lines leave none for validation; give more, or a larger share"):
        tfopt.datasets.text_lines(file=written(tmp_path / "a.txt", ["one", "two", "three"]))
    with pytest.raises(DataError, match=r"line 2: is 'alone', of which skip = 1 leaves nothing"):
        tfopt.datasets.text_lines(file=written(tmp_path / "a.txt", ["0 one", "alone", "1 two"]), skip=1)


def test_reviews_come_without_their_labels(data_folder):
    data = tfopt.datasets.text_lines(file=data_folder("text") / "rt-polarity.all", encoding="latin-1", skip=1, symbols=64, length=100)
    assert data.num_classes == 63 and data.classes[:4] == ("[UNK]", "[END]", " ", "e")
    lines = (data_folder("text") / "rt-polarity.all").read_text(encoding="latin-1").split("\n")
    whole = {line[2:].strip()[:100] for line in lines}
    _, y = pipelines.to_arrays(data.test)
    texts = ["".join(data.classes[symbol] for symbol in row if symbol >= 0).removesuffix("[END]") for row in y]
    assert len(texts) == 2132 and all(text in whole for text in texts if "[UNK]" not in text)
    assert "lines have more than length - 1 = 99 characters" in data.notes[0]
    found = tfopt.describe(data)
    assert not found.warnings and found.words[0].vocabulary == 62


# Numbers


def of(data, truth, outputs):
    return tasks.of(data).scores(truth, outputs, outputs)


def saying(symbols, classes):
    """Outputs whose likeliest symbols are these."""
    return 5 * np.eye(classes, dtype=np.float32)[symbols]


def test_what_is_written_is_compared_up_to_its_end(animals):
    end = animals.classes.index("[END]")
    a, b, c = (animals.classes.index(letter) for letter in "abc")
    truth = np.array([[a, b, c, end], [a, a, end, -1], [b, b, b, end]], np.int32)
    outputs = saying([[a, b, c, end], [a, c, end, c], [end, b, b, b]], animals.num_classes)
    found = of(animals, truth, outputs)
    assert found.metrics == {"exact_match": 1 / 3, "token_accuracy": (4 + 2 + 0) / 11} and found.metric == "exact_match"
    assert found.interval == tasks.wilson(1, 3) and found.share
    outputs[0, 1, 0] = np.nan
    assert of(animals, truth, outputs).metrics == {"exact_match": 0, "token_accuracy": 5 / 11}


def test_a_perplexity_is_that_of_all_symbols_together(letters):
    y = np.where(np.arange(12) < RNG.integers(3, 13, (40, 1)), RNG.integers(0, letters.num_classes, (40, 12)), -1).astype(np.int32)
    logits = 3 * RNG.normal(size=(40, 12, letters.num_classes)).astype(np.float32)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    there = y >= 0
    entropy = sk.log_loss(y[there], p[there], labels=range(letters.num_classes))
    expected = {"perplexity": np.exp(entropy), "accuracy": sk.accuracy_score(y[there], logits[there].argmax(axis=-1))}
    found = of(letters, y, logits)
    assert found.metrics == pytest.approx(expected, rel=1e-5) and not found.greater_is_better
    assert found.interval[0] < found.value < found.interval[1]
    assert of(letters, y, p.astype(np.float32)).metrics == pytest.approx(expected, rel=1e-5)  # probabilities in place of logits
    logits[0, 0] = np.nan  # counts as a probability of 1e-7
    worse = (entropy * there.sum() + np.log(p[0, 0, y[0, 0]]) - np.log(1e-7)) / there.sum()
    assert of(letters, y, logits).value == pytest.approx(np.exp(worse), rel=1e-5)


@pytest.mark.parametrize("ending", [None, "softmax"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_all_symbols(letters, ending, smoothing):
    keras, tf = backend.keras(), backend.tensorflow()
    layers = [keras.layers.Embedding(20, 4), keras.layers.Dense(letters.num_classes, activation=ending)]
    model = keras.Sequential([keras.Input((12,), dtype="int32"), *layers])
    x, y = pipelines.to_arrays(letters.test)
    outputs, there = model(x), y >= 0
    found = tf.function(tasks.of(letters).loss(model, smoothing=smoothing))(y, outputs).numpy()
    usual = keras.losses.CategoricalCrossentropy(from_logits=ending is None, label_smoothing=smoothing, reduction="none")
    expected = usual(np.eye(letters.num_classes, dtype=np.float32)[y[there]], outputs[there]).numpy().mean()
    assert found.shape == (len(y),) and found.mean() == pytest.approx(expected, rel=1e-4)


# Writing


def test_a_model_goes_on_from_what_it_has_written_itself(animals):
    """A model that writes the class after the one before, until the last: whatever stands in "before" of the data is not looked at."""
    classes, end, calls = animals.num_classes, animals.classes.index("[END]"), []

    def run(x):
        calls.append((len(x["text"]), x["before"].copy()))
        return saying(np.where(x["before"] == 0, x["text"], x["before"] % classes), classes)

    x, _ = pipelines.to_arrays(animals.test)
    x = {"text": np.array([[3, 3, 3, 3], [0, 0, 0, 0]]), "before": x["before"][:2] + 1}
    outputs = tasks.of(animals).predict(run, x)
    assert outputs.shape == (2, 4, classes) and outputs.dtype == np.float32
    assert outputs[0].argmax(axis=-1).tolist() == [3, 4, 5, 6] and outputs[1, :2].argmax(axis=-1).tolist() == [0, end]
    assert not outputs[1, 2:].any()  # behind the end
    assert [count for count, _ in calls] == [2, 2, 1, 1]
    assert calls[-1][1].tolist() == [[0, 4, 5, 6]] and not calls[0][1].any()


@pytest.mark.parametrize("which", ["animals", "letters"])
def test_no_output_depends_on_what_comes_later(which, request):
    data = request.getfixturevalue(which)
    model = small(data) if which == "animals" else models.tcn(data.input_shape, data.num_classes, words=20, width=16)
    x, _ = pipelines.to_arrays(data.test)
    before = model.predict(x, verbose=0)
    changed = {**x, "before": x["before"].copy()} if isinstance(x, dict) else x.copy()
    (changed["before"] if isinstance(x, dict) else changed)[:, 3:] = 2
    after = model.predict(changed, verbose=0)
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 1e-3


def test_pairs_are_learnt_and_written_alike_in_keras_and_on_litert(animals):
    model = tfopt.train(small(animals, dropout=0.0), animals, Fit(epochs=40, batch_size=32, learning_rate=1e-2))
    reference = verification.reference(model, animals)
    plain = tfopt.verify(tfopt.convert(model), against=reference, data=animals)
    int8 = tfopt.convert(tfopt.quantize_aware(model, animals), "int8")
    assert not tfopt.measure(int8).float_operations
    small_ = tfopt.verify(int8, against=reference, data=animals)
    assert plain.score == plain.baseline > 0.9 and plain.agreement == 1 and plain.largest_error < 1e-3
    assert small_.score > 0.85 and small_.agreement > 0.85 and small_.metrics["token_accuracy"] > 0.9


def test_texts_are_learnt_and_scored_alike_in_keras_and_on_litert(letters, tmp_path):
    with backend.seeded(0):
        model = models.tcn(letters.input_shape, letters.num_classes, words=20, width=16, blocks=2, dropout=0.0)
    model = tfopt.train(model, letters, Fit(epochs=40, batch_size=16, learning_rate=1e-2))
    reference = verification.reference(model, letters)
    plain = tfopt.verify(tfopt.convert(model), against=reference, data=letters)
    int8 = tfopt.convert(tfopt.quantize_aware(model, letters), "int8")
    assert not tfopt.measure(int8).float_operations
    small_ = tfopt.verify(int8, against=reference, data=letters)
    assert plain.metric == "perplexity" and plain.score == pytest.approx(plain.baseline, rel=1e-4) and plain.agreement > 0.99
    assert 1 < plain.score < 2.2  # the next letter is certain but for the first one and where the line ends
    assert abs(small_.drop) < 0.2 and plain.interval[0] < plain.score < plain.interval[1]


@pytest.mark.slow
def test_a_recurrent_net_of_ones_own_generates_in_the_formats_that_it_has(letters):
    keras = backend.keras()
    with backend.seeded(0):
        layers = [keras.layers.Embedding(20, 8), keras.layers.GRU(16, return_sequences=True), keras.layers.Dense(letters.num_classes)]
        model = keras.Sequential([keras.Input((12,), dtype="int32"), *layers])
    model = tfopt.train(model, letters, Fit(epochs=30, batch_size=16, learning_rate=1e-2))
    reference = verification.reference(model, letters)
    verdict = tfopt.verify(tfopt.convert(model, data=letters), against=reference, data=letters)
    assert verdict.score == pytest.approx(reference.score, rel=1e-3) and verdict.score < 3


def test_a_recipe_writes_numbers(tmp_path):
    recipe = {
        "name": "numbers",
        "data": {"use": "number_words", "limit": 1000, "examples": 300},
        "model": {"use": "seq2seq", "width": 8, "encoder": 1, "decoder": 1, "heads": 1},
        "fit": {"epochs": 1},
        "export": {"formats": ["float32"]},
    }
    report = tfopt.run(recipe, out=tmp_path / "run")
    (row,) = report.rows
    assert row.verdict.metric == "exact_match" and row.verdict.agreement == 1 and row.verdict.examples == 60
    assert "before" in (tmp_path / "run" / "artifacts" / "preprocessing.json").read_text()
    found = tfopt.describe(tfopt.datasets.number_words(limit=1000, examples=300))
    assert not found.warnings and found.save_sheet(tmp_path / "sheet.png").stat().st_size > 10_000


# What does not fit


def test_what_does_not_fit_is_said(animals, letters, digits):
    with pytest.raises(DataError, match="sequence_to_sequence needs an input 'before' beside that of the text, int32 of y's shape"):
        tasks.of(tasks.sequence_to_sequence(letters))
    with pytest.raises(DataError, match="generation needs one input, int32 of y's shape"):
        tasks.of(tasks.generation(animals))
    with pytest.raises(DataError, match=r"y is int32 of shape \(\); generation needs the indices of classes"):
        tasks.of(tasks.generation(digits))
    with pytest.raises(DataError, match=r"has no class '\[END\]', with which each y ends"):
        tasks.of(dataclasses.replace(animals, classes=tuple("abcdefgh")))
    with pytest.raises(DataError, match=r"outputs of shape \(8,\).*needs \(12, 10\); end the model in Dense\(10\)"):
        tfopt.train(models.lstm(letters.input_shape, 8), letters, Fit(epochs=1))


def test_a_limit_of_a_perplexity_may_be_above_1():
    recipe = {
        "name": "letters",
        "data": {"use": "text_lines", "file": "letters.txt"},
        "task": {"use": "generation"},
        "model": {"use": "tcn"},
        "limits": {"int8": {"score": 8, "score_drop": 2}},
    }
    assert recipes.parse(recipe, source="mine").limits["int8"]["score"] == 8
    with pytest.raises(RecipeError, match="should be a share from 0 to 1"):
        recipes.parse({**recipe, "task": {"use": "generation", "score": "accuracy"}}, source="mine")


# What does not fit


def test_inputs_that_are_not_what_comes_before_are_refused():
    text = RNG.integers(0, 5, (60, 7)).astype(np.int32)
    usual = tfopt.datasets.arrays(x=text[:, :-1], y=text[:, 1:], task="generation")
    model = models.tcn((6,), 5, words=6, width=4, blocks=1)
    with pytest.raises(DataError, match="x does not hold what comes before each symbol: should be 0 at the first place"):
        tfopt.train(model, usual, Fit(epochs=1))
    shifted = np.concatenate([np.zeros((60, 1), np.int32), text[:, :-1] + 1], axis=1)
    tasks.check_fits(models.tcn((7,), 5, words=6, width=4, blocks=1), tfopt.datasets.arrays(x=shifted, y=text, task="generation"))


def test_a_perplexity_is_limited_without_a_task_in_the_recipe(tmp_path):
    file = written(tmp_path / "lines.txt", WORDS * 5)
    recipe = {"name": "x", "model": {"use": "tcn"}, "limits": {"int8": {"score": 7}}}
    read = recipes.load({**recipe, "data": {"use": "text_lines", "file": str(file)}})
    assert read.limits == {"int8": {"score": 7}}
    with pytest.raises(RecipeError, match=r"limits.int8.score = 7: should be a share"):
        recipes.load({**recipe, "data": {"use": "digits"}})


def test_few_numbers_are_drawn_of_very_many():
    data = tfopt.datasets.number_words(limit=10**11 + 1, examples=30)
    assert sum(pipelines.size(getattr(data, part)) for part in PARTS) == 30
    assert sorted(_pairs._drawn(1001, 1001, 0)) == list(range(1001))


def test_words_of_pairs_are_not_dropped(tmp_path):
    file = written(tmp_path / "pairs.tsv", [f"{word}\t{word[0]}" for word in WORDS * 4])
    with pytest.raises(DataError, match="token_dropout: takes one input, and the examples have 2"):
        tfopt.datasets.text_pairs(file=file, preprocess=["token_dropout"])


def test_a_loss_of_ones_own_is_not_smoothed(animals):
    data = tasks.sequence_to_sequence(animals, loss=lambda y, outputs: outputs[:, 0, 0])
    with pytest.raises(OptionError, match="a loss of your own is given the labels as they are"):
        tfopt.train(models.seq2seq(data.input_shape, data.num_classes, width=8), data, Fit(epochs=1, label_smoothing=0.1))
