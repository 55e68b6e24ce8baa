"""Transcription: losses, error rates and transcripts as independent computations have them; recordings joined."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
import scipy.io.wavfile
from hypothesis import given, settings
from hypothesis import strategies as st

import tfopt
from tfopt import backend, models, pipelines, preprocessing, tasks, verification
from tfopt.errors import DataError, OptionError
from tfopt.tasks import _symbols, _transcription
from tfopt.types import Fit

RNG = np.random.default_rng(0)
FSDD = r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)\.wav"
PARTS = ("train", "validation", "test")


def tones(count, frames=24, most=3):
    """Pictures (frames, 4, 1) in which up to three of three symbols are said: each is five frames or so of one loud bin, behind silence."""
    x, y = np.zeros((count, frames, 4, 1), np.float32), np.full((count, most), -1, np.int64)
    rng = np.random.default_rng(1)
    for row, said in zip(x, y, strict=True):
        at = 0
        for number in range(rng.integers(1, most + 1)):
            said[number] = rng.integers(0, 3)
            start = at + rng.integers(1, 3)
            at = start + rng.integers(4, 6)
            row[start:at, said[number]] = 1
    return x + 0.1 * rng.standard_normal(x.shape).astype(np.float32), y


@pytest.fixture(scope="module")
def spoken():
    x, y = tones(600)
    return tfopt.datasets.arrays(x=x, y=y, task="transcription", classes=["low", "mid", "high"], name="tones")


def net(data, *, ending=None):
    keras = backend.keras()
    with backend.seeded(0):
        layers = [keras.layers.Conv2D(16, (5, 4), padding="valid", activation="relu"), keras.layers.Reshape((20, 16))]
        return keras.Sequential([keras.Input(data.input_shape), *layers, keras.layers.Dense(data.num_classes + 1, activation=ending)])


# Numbers


def levenshtein(one, other):
    """By the recursion of its definition, a table at a time."""
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, j in itertools.product(range(len(one) + 1), range(len(other) + 1)):
        if not i or not j:
            table[i, j] = i + j
        else:
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (one[i - 1] != other[j - 1]))
    return table[-1, -1]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 3), max_size=9), st.lists(st.integers(0, 3), max_size=9))
def test_edits_are_the_fewest(one, other):
    assert _symbols.edits(one, other) == levenshtein(one, other)


def test_edits_of_words():
    assert _symbols.edits(["to", "be", "or", "not"], ["to", "bee", "not"]) == 2
    assert _symbols.edits([], ["a", "b"]) == _symbols.edits(["a", "b"], []) == 2 and _symbols.edits([], []) == 0


def test_a_transcript_is_read_off_as_its_definition_says():
    places = RNG.integers(0, 4, (50, 12))
    places[0], places[1] = 3, [0, 0, 3, 0, 1, 1, 3, 3, 1, 2, 2, 2]
    found = _transcription.decoded(np.eye(4, dtype=np.float32)[places])
    for row, read in zip(places, found, strict=True):
        expected = [symbol for symbol, _ in itertools.groupby(row.tolist()) if symbol != 3]
        assert read[read >= 0].tolist() == expected and (read[len(expected) :] == -1).all()
    assert found[1, :6].tolist() == [0, 0, 1, 1, 2, -1]


def by_all_paths(logits, transcript):
    """-log of the summed probability of every path that says the transcript; of logits (frames, symbols)."""
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    blank, total = logits.shape[1] - 1, 0.0
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        if [symbol for symbol, _ in itertools.groupby(path) if symbol != blank] == transcript:
            total += np.prod(p[np.arange(len(path)), path])
    return -np.log(total)


@pytest.mark.parametrize("ending", [None, "softmax"])
def test_the_loss_is_that_of_all_paths(spoken, ending):
    tf = backend.tensorflow()
    logits = RNG.normal(size=(4, 6, 4)).astype(np.float32)
    y = np.array([[0, 1, -1], [2, 2, -1], [1, -1, -1], [0, 1, 2]], np.int32)
    outputs = tf.nn.softmax(logits) if ending else tf.constant(logits)
    loss = tf.function(tasks.of(spoken).loss(net(spoken, ending=ending)))(y, outputs)
    expected = [by_all_paths(one, [symbol for symbol in said if symbol >= 0]) for one, said in zip(logits, y.tolist(), strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def measured(data, truth, outputs):
    return tasks.of(data).scores(np.asarray(truth, np.int32), outputs, outputs)


def said(*transcripts, symbols, frames=12):
    """Outputs that say these transcripts, a blank between any two symbols."""
    places = np.full((len(transcripts), frames), symbols)
    for row, transcript in zip(places, transcripts, strict=True):
        row[: 2 * len(transcript) : 2] = transcript
    return 5 * np.eye(symbols + 1, dtype=np.float32)[places]


def test_the_word_error_rate_is_of_all_words_together(spoken):
    truth = [[0, 1, 2], [2, -1, -1], [1, 1, -1]]
    found = measured(spoken, truth, said([0, 2], [2], [1, 1, 0, 0], symbols=3))
    assert found.metrics == {"wer": 3 / 6, "exact_match": 1 / 3}  # one is missing, two are too many
    assert not found.greater_is_better and found.share and found.interval[0] <= 0.5 <= found.interval[1]
    broken = said([0, 1, 2], [2], [1, 1], symbols=3)
    assert measured(spoken, truth, broken).metrics == {"wer": 0, "exact_match": 1}
    broken[0, 5, 1] = np.nan
    assert measured(spoken, truth, broken).metrics == {"wer": 3 / 6, "exact_match": 2 / 3}


def test_words_of_characters_are_told_by_spaces():
    x = np.zeros((30, 12, 4, 1), np.float32)
    y = np.array([[0, 1, 2, 1, -1]] * 30)  # "ab b"
    data = tfopt.datasets.arrays(x=x, y=y, task="transcription", classes=["a", "b", " "])
    found = measured(data, y[:2], said([0, 1, 2, 1], [0, 2, 1], symbols=3))
    assert found.metrics == {"wer": 1 / 4, "cer": 1 / 8, "exact_match": 1 / 2}
    assert tasks.of(tasks.transcription(data, score="cer")).score == "cer"


def test_the_interval_of_an_error_rate_covers_the_truth(spoken):
    """Of 200 samples of transcripts in which a word is wrong with a chance of 0.2, about 190 intervals should hold 0.2."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = np.where(np.arange(3) < rng.integers(1, 4, (80, 1)), 1, -1)
        words = [[0 if rng.random() < 0.2 else 1 for _ in row[row >= 0]] for row in truth]
        low, high = measured(spoken, truth, said(*words, symbols=3)).interval
        held += low <= 0.2 <= high
    assert 176 <= held <= 198


# The whole way


def test_it_is_learnt_and_scored_alike_in_keras_and_on_litert(spoken):
    model = tfopt.train(net(spoken), spoken, Fit(epochs=25, batch_size=32, learning_rate=1e-2))
    reference = verification.reference(model, spoken)
    plain = tfopt.verify(tfopt.convert(model), against=reference, data=spoken)
    small = tfopt.verify(tfopt.convert(model, "int8", data=spoken), against=reference, data=spoken)
    assert plain.score == plain.baseline < 0.1 and plain.agreement == 1 and plain.metric == "wer"
    assert small.score < 0.15 and small.agreement > 0.85 and 0 <= small.interval[0] <= small.score <= small.interval[1]
    assert small.agrees == "with the trained Keras model's answers"


def test_the_builder_goes_to_int8_as_a_recipe_has_it(tmp_path):
    x, y = tones(200, frames=48)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    recipe = {
        "name": "tones",
        "data": {"use": "arrays", "x": str(tmp_path / "x.npy"), "y": str(tmp_path / "y.npy"), "task": "transcription"},
        "task": {"use": "transcription", "score": "exact_match"},
        "model": {"use": "ctc", "width": 8, "blocks": 1, "context": 1},
        "fit": {"epochs": 1},
        "steps": [{"use": "quantize_aware"}],
        "export": {"formats": ["float32", "int8"]},
        "limits": {"int8": {"score": 0.0}},
    }
    report = tfopt.run(recipe, out=tmp_path / "run")
    assert [row.artifact.name for row in report.rows] == ["plain-float32", "plain-int8", "optimized-int8"]
    assert {row.verdict.metric for row in report.rows} == {"exact_match"}
    assert not report.rows[-1].measures.float_operations
    assert "agrees: with the trained Keras model's answers" in str(report)


def test_such_data_is_described(spoken, tmp_path):
    found = tfopt.describe(spoken)
    assert not found.warnings and found.counted == "symbols"
    counted = np.bincount(pipelines.labels(spoken.train).ravel() + 1, minlength=4)[1:]
    assert [found.classes[name]["train"] for name in spoken.classes] == counted.tolist()
    assert re.search(rf"^all symbols +{counted.sum():,} ", str(found), re.MULTILINE)
    assert found.save_sheet(tmp_path / "sheet.png").stat().st_size > 10_000


# What does not fit


def test_what_does_not_fit_is_said(spoken, digits):
    with pytest.raises(DataError, match=r"y is int32 of shape \(\); transcription needs the indices of classes in their order"):
        tasks.of(tasks.transcription(digits))
    with pytest.raises(OptionError, match="score = 'cer': transcription has no such metric; did you mean 'wer'"):
        tasks.of(tasks.transcription(spoken, score="cer"))
    with pytest.raises(OptionError, match="nobody says at which place a symbol stands"):
        tfopt.train(net(spoken), spoken, Fit(epochs=1, label_smoothing=0.1))
    with pytest.raises(DataError, match="ends in sigmoid; a symbol at each place needs a softmax or logits"):
        tfopt.train(net(spoken, ending="sigmoid"), spoken, Fit(epochs=1))
    with pytest.raises(DataError, match=r"outputs of shape \(3,\).*needs \(None, 4\); end the model in Dense\(4\) of \(frames, channels\)"):
        tfopt.train(models.mlp(spoken.input_shape, 3), spoken, Fit(epochs=1))


def test_frames_that_are_too_few_for_a_transcript_are_told_before_training(spoken):
    same = dataclasses.replace(
        spoken, train=pipelines.examples(np.zeros((9, 24, 4, 1), np.float32), np.array([[1, 1, 1]] * 9, np.int32)), fingerprint="same"
    )
    model = models.ctc(same.input_shape, 3, width=4, stride=6)  # 4 frames; 1 1 1 needs 5
    with pytest.raises(DataError, match=r"gives 4 frames; the longest transcript of 'tones' needs 5, .*halve the frames less often"):
        tfopt.train(model, same, Fit(epochs=1))
    tasks.check_fits(models.ctc(same.input_shape, 3, width=4, stride=4), same)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(30, int), r"y: holds int64 of shape \(30,\); for a task of sequences should be whole numbers, \(examples, length\)"),
        (np.array([[0, -1, 1]] * 30), r"30 of 30 rows hold something else than indices from 0 to 2 with -1 behind.*index 0: \[0, -1, 1\]"),
        (np.array([[0, 3, -1]] * 30), "indices from 0 to 2 with -1 behind"),
        (np.array([[0, -2, -2]] * 30), "indices from 0 to 2 with -1 behind"),
    ],
)
def test_sequences_that_are_none_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        tfopt.datasets.arrays(x=np.zeros((30, 4), np.float32), y=y, task="transcription", classes=["a", "b", "c"])


def test_sequences_are_wrapped(spoken):
    x, y = tones(60)
    given = backend.tensorflow().data.Dataset.from_tensor_slices((x, y))
    data = tfopt.datasets.wrap(train=given, task="transcription", classes=["low", "mid", "high"])
    assert tasks.of(data).name == "transcription" and pipelines.labels(data.train).dtype == np.int32


def test_sequences_are_not_mixed():
    x, y = tones(60)
    with pytest.raises(DataError, match="mixes the labels of whole examples, and these have sequences of symbols; leave it out"):
        tfopt.datasets.arrays(x=x, y=y, task="transcription", classes=["low", "mid", "high"], preprocess=["mixup"])


# Recordings that are joined


def recordings(folder, rates=(8000,)):
    """Of two voices and three words 6 recordings each: constant waves of a loudness that tells all of them apart."""
    for number, (voice, word, take) in enumerate(itertools.product("ab", "xyz", range(6))):
        rate = rates[number % len(rates)]
        samples = np.full(rate * (100 + 10 * take) // 1000, 500 * (number + 1), np.int16)
        folder.mkdir(exist_ok=True)
        scipy.io.wavfile.write(folder / f"{word}_{voice}_{take}.wav", rate, samples)
    return {"folder": folder, "rate": 8000, "seconds": 0.6, "pattern": r"(?P<label>[xyz])_(?P<speaker>[ab])_\d\.wav"}


def heard(wave):
    """The numbers of the recordings in a wave, from its loudness, and what is between two changes of it."""
    level = np.rint(wave * 32768 / 500).astype(int)
    return [(number, len(list(run))) for number, run in itertools.groupby(level.tolist()) if number]


def test_recordings_follow_each_other_in_one_voice_and_stay_in_their_part(tmp_path):
    given = recordings(tmp_path / "sounds")
    data = tfopt.datasets.audio_folder(**given, joined=[2, 3], rounds=2)
    assert (data.task, data.input_shape, data.classes) == ("transcription", (4800,), ("x", "y", "z"))
    parts = {}
    for part in PARTS:
        x, y = pipelines.to_arrays(getattr(data, part))
        assert y.shape[1] == 3 and y.dtype == np.int32
        parts[part] = []
        for wave, labels in zip(x, y, strict=True):
            numbers, lengths = zip(*heard(wave), strict=True)
            recording = [(number - 1) // 6 for number in numbers]  # voice and word
            assert [one % 3 for one in recording] == labels[labels >= 0].tolist()
            assert len({one // 3 for one in recording}) == 1 and 2 <= len(numbers) <= 3
            assert list(lengths) == [800 + 80 * ((number - 1) % 6) for number in numbers]  # whole, one right behind the other
            parts[part] += numbers
    assert not set(parts["train"]) & set(parts["validation"]) and not set(parts["test"]) & {*parts["train"], *parts["validation"]}
    assert max(np.bincount(parts["train"])) == 2 and max(np.bincount(parts["test"])) == 1
    assert "derived: the 24 recordings of train were joined into" in data.notes[0]
    again, other = (tfopt.datasets.audio_folder(**given, joined=[2, 3], rounds=2, seed=seed) for seed in (0, 1))
    assert data.fingerprint == again.fingerprint != other.fingerprint


def test_recordings_of_several_rates_are_cut_at_their_own_length(tmp_path):
    given = recordings(tmp_path / "sounds", rates=(8000, 16_000))
    data = tfopt.datasets.audio_folder(**given, joined=[2, 2])
    x, _ = pipelines.to_arrays(data.train)
    takes = np.array([[(sound := (np.abs(wave) > 1e-4)).sum(), np.flatnonzero(sound)[-1] + 1] for wave in x])
    assert (np.abs(takes[:, 0] - takes[:, 1]) <= 40).all()  # no silence between two
    assert (takes[:, 1] % 80 == 0).all()


def test_sequences_that_are_too_long_are_left_out_and_counted(tmp_path):
    given = {**recordings(tmp_path / "sounds"), "seconds": 0.26}
    data = tfopt.datasets.audio_folder(**given, joined=[2, 2])
    assert any("more would be longer than the 2,080 samples" in note for note in data.notes)
    with pytest.raises(DataError, match="no sequence of them that is short enough"):
        tfopt.datasets.audio_folder(**{**given, "seconds": 0.1}, joined=[2, 2])
    with pytest.raises(OptionError, match=r"joined = \[3, 2\]: should be the fewest and the most recordings of a sequence"):
        tfopt.datasets.audio_folder(**given, joined=[3, 2])
    with pytest.raises(OptionError, match="rounds = 2: says how often recordings are joined anew"):
        tfopt.datasets.audio_folder(**given, rounds=2)


# Transcripts in a file


def clips(folder, lines):
    """The recordings, and lists of what is said in them."""
    given = recordings(folder)
    (folder / "list.tsv").write_text("".join(f"{line}\n" for line in lines))
    return {key: given[key] for key in ("folder", "rate")} | {"file": folder / "list.tsv", "seconds": 0.2}


def test_transcripts_are_read_from_a_list(tmp_path):
    names = [f"{word}_{voice}_{take}.wav" for voice, word, take in itertools.product("ab", "xyz", range(6))]
    given = clips(tmp_path / "clips", [f"{name}\tIt is  {name[0]}" + "!" * (number % 2) for number, name in enumerate(names)])
    data = tfopt.datasets.audio_transcripts(**given)
    assert (data.task, data.input_shape, data.classes) == ("transcription", (1600,), tuple(" !istxyz"))
    heard_in = {}
    for part in PARTS:
        for wave, y in zip(*pipelines.to_arrays(getattr(data, part)), strict=True):
            ((number, length),) = heard(wave)
            heard_in[number - 1] = "".join(data.classes[symbol] for symbol in y if symbol >= 0)
            assert length == 800 + 80 * ((number - 1) % 6)
    assert heard_in == {number: f"it is {name[0]}" + "!" * (number % 2) for number, name in enumerate(names)}
    assert list(tasks.of(data).metrics) == ["wer", "cer", "exact_match"]
    words = tfopt.datasets.audio_transcripts(**given, unit="words")
    assert words.classes == ("!", "is", "it", "x", "y", "z") and list(tasks.of(words).metrics) == ["wer", "exact_match"]
    short = tfopt.datasets.audio_transcripts(**{**given, "seconds": 0.13})
    assert short.notes == ("12 of 36 sounds are longer than the 1,040 samples that there are, and were left out",)
    assert sum(pipelines.size(getattr(short, part)) for part in PARTS) == 24


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x_a_0.wav", r"list\.tsv, line 1: is 'x_a_0.wav'; should be 'path\\twhat is said'"),
        ("x_a_0.wav\t  ", "should be 'path"),
        ("x_a_9.wav\tx", r"line 1: there is no file .*x_a_9\.wav; its path should be that from folder = "),
    ],
)
def test_what_is_wrong_in_a_list_is_said(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        tfopt.datasets.audio_transcripts(**clips(tmp_path / "clips", [line]))


def test_a_list_names_files_of_its_folder_only(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    scipy.io.wavfile.write(outside / "a.wav", 8000, np.zeros(80, np.int16))
    recordings(tmp_path / "clips")
    for path in ("../outside/a.wav", str(outside / "a.wav")):
        (tmp_path / "list.tsv").write_text(f"{path}\tone\n")
        with pytest.raises(DataError, match=r"list.tsv, line 1: .* leads out of folder = .*clips; give a path from there on"):
            tfopt.datasets.audio_transcripts(folder=tmp_path / "clips", file=tmp_path / "list.tsv")


def test_sounds_that_are_all_too_long_are_told(tmp_path):
    given = clips(tmp_path, ["x_a_0.wav\tone", "y_a_0.wav\ttwo", "z_a_0.wav\tthree"])
    with pytest.raises(DataError, match=r"all 3 sounds are longer than seconds = 0\.001; allow more"):
        tfopt.datasets.audio_transcripts(**given | {"seconds": 0.001})


def test_joined_recordings_in_several_rounds_are_not_cross_validated(tmp_path):
    data = tfopt.datasets.audio_folder(**recordings(tmp_path / "all"), joined=[1, 2], rounds=2, validation=0.3, test=0.3)
    with pytest.raises(DataError, match="holds each recording in 2 sequences, of which one would be held out"):
        tfopt.cross_validate(lambda: models.ctc(data.input_shape, 3), data, folds=2)


def test_joined_digits_are_the_recordings(unpackable):
    folder = unpackable("free_spoken_digit/fsdd.zip")
    given = {"folder": folder, "rate": 8000, "pattern": FSDD, "test_pattern": r".*_[0-4]\.wav", "seconds": 2.5}
    data = tfopt.datasets.audio_folder(**given, joined=[2, 4], preprocess=["log_mel"])
    assert data.input_shape == (124, 40, 1) and preprocessing.preparations(data.steps)
    alone = tfopt.datasets.audio_folder(**given)
    singles = {wave[: np.flatnonzero(wave)[-1] + 1].tobytes() for wave in pipelines.to_arrays(alone.test)[0]}
    (wave, *_), (labels, *_) = pipelines.to_arrays(pipelines.raw(data.test), 1)
    first = next(length for length in range(500, len(wave)) if wave[:length].tobytes() in singles)
    assert first < np.flatnonzero(wave)[-1] and (labels >= 0).sum() >= 2
