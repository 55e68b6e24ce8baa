"""Sounds: every way of writing WAV that is read, features as an independent computation has them, and what is refused with which words."""

from __future__ import annotations

import shutil
import struct
import wave
import zipfile

import numpy as np
import pytest
import scipy.fft
import scipy.io.wavfile
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

import tfopt
from tfopt import backend, options, pipelines, preprocessing
from tfopt.errors import DataError, OptionError
from tfopt.preprocessing import _wav, audio
from tfopt.types import Fit

DIGITS = {"rate": 8000, "pattern": r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)\.wav", "test_pattern": r".*_[0-4]\.wav"}


def seed(number=0):
    return backend.tensorflow().constant([number, 7], "int32")


def noise(*shape, scale=0.2, number=0):
    return (np.random.default_rng(number).standard_normal(shape) * scale).astype(np.float32)


def write(path, samples, rate=16_000):
    """A WAV file of int16 from floats, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.wavfile.write(path, rate, np.round(samples * 32767).astype(np.int16))
    return path


def write_24(path, samples, rate=16_000):
    """samples: (frames, channels) int32 whose lowest byte is 0."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(3)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(samples).view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())


def riff(*chunks):
    body = b"".join(name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def form(tag=1, channels=1, rate=16_000, bits=16, width=None):
    width = channels * bits // 8 if width is None else width
    return b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)


def extensible(tag, channels, bits):
    name, head = form(0xFFFE, channels, 16_000, bits)
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return name, head + struct.pack("<HHI", 22, bits, 3) + guid


def read(path, rate=16_000, samples=16_000):
    tf = backend.tensorflow()
    sound = _wav.inspect(path)
    row = {name: tf.constant(values[0]) for name, values in _wav.rows([path], [sound]).items()}
    return _wav.reader([sound.kind], rate, samples)(row).numpy()


def two_classes(folder, each=6, rate=16_000, seconds=0.1):
    """Two tones, a class each, with a little noise."""
    time = np.arange(round(rate * seconds)) / rate
    for label, hertz in (("high", 1500), ("low", 300)):
        for index in range(each):
            tone = 0.5 * np.sin(2 * np.pi * hertz * time) + noise(len(time), scale=0.05, number=index)
            write(folder / label / f"{label}_{index}.wav", tone, rate)
    return folder


# WAV files.


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("encoding", ["uint8", "int16", "int24", "int32", "float32", "float64"])
def test_all_encodings_are_read_as_scipy_reads_them(tmp_path, encoding, channels):
    path, wanted = tmp_path / "a.wav", noise(501, channels)
    if encoding == "uint8":
        scipy.io.wavfile.write(path, 16_000, np.round(wanted * 100 + 128).astype(np.uint8))
    elif encoding == "int24":
        write_24(path, (wanted * 2**30).astype(np.int32) & ~0xFF)
    elif encoding.startswith("int"):
        scipy.io.wavfile.write(path, 16_000, (wanted * np.iinfo(encoding).max).astype(encoding))
    else:
        scipy.io.wavfile.write(path, 16_000, wanted.astype(encoding))
    _, there = scipy.io.wavfile.read(path)
    there = there.reshape(501, channels).astype(np.float64)
    scaled = {"uint8": (there - 128) / 128, "int16": there / 2**15, "int24": there / 2**31, "int32": there / 2**31}.get(encoding, there)
    assert _wav.inspect(path).kind == _wav.Kind(encoding, channels, 16_000)
    np.testing.assert_allclose(read(path, samples=600), np.pad(scaled.mean(1), (0, 99)), atol=1e-7)
    np.testing.assert_allclose(read(path, samples=300), scaled.mean(1)[:300], atol=1e-7)


@pytest.mark.parametrize(("tag", "bits", "dtype"), [(1, 16, "<i2"), (1, 32, "<i4"), (3, 32, "<f4")])
def test_an_extensible_header_and_other_chunks_before_the_samples(tmp_path, tag, bits, dtype):
    values = (noise(40, 2) * (1 if tag == 3 else 2 ** (bits - 1))).astype(dtype)
    path = tmp_path / "a.wav"
    path.write_bytes(
        riff((b"LIST", b"odd"), extensible(tag, 2, bits), (b"fact", b"\0\0\0\0"), (b"data", values.tobytes()), (b"id3 ", b"x"))
    )
    scale = 1 if tag == 3 else 2.0 ** (1 - bits)
    np.testing.assert_allclose(read(path, samples=40), (values.astype(np.float64) * scale).mean(1), atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("frames", [37, 20_000])
def test_resampling_is_that_of_scipy(tmp_path, rate, frames):
    path = write(tmp_path / "a.wav", noise(frames), rate)
    divisor = np.gcd(rate, 16_000)
    _, there = scipy.io.wavfile.read(path)
    wanted = scipy.signal.resample_poly(there / 2**15, 16_000 // divisor, rate // divisor)[:8000]
    np.testing.assert_allclose(read(path, samples=8000), np.pad(wanted, (0, 8000 - len(wanted))), atol=1e-6)


def test_a_rate_that_is_no_simple_ratio_keeps_the_pitch(tmp_path):
    rate = 15_991  # prime: exactly, it would take 16,000 filters
    path = write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate), rate)
    spectrum = np.abs(np.fft.rfft(read(path)))
    assert spectrum.argmax() == 1000


def test_samples_that_go_to_the_end_of_the_file(tmp_path):
    path, values = tmp_path / "a.wav", np.arange(100, dtype="<i2")
    content = riff(form(), (b"data", values.tobytes()))
    path.write_bytes(content.replace(b"data" + struct.pack("<I", 200), b"data\xff\xff\xff\xff"))
    np.testing.assert_array_equal(read(path, samples=100), values / np.float32(2**15))


BAD = {
    "is empty": b"",
    "is no WAV file": b"ID3\x04" + bytes(100),
    "cut off before its samples": riff(form()),
    "cut off: holds 10 of the 100 bytes": riff(form(), (b"data", bytes(100)))[:-90],
    "rare form RF64": b"RF64" + bytes(40),
    "written in mu-law": riff(form(tag=7, bits=8), (b"data", bytes(10))),
    "written in the format 4660": riff(form(tag=0x1234), (b"data", bytes(10))),
    "holds no samples": riff(form(), (b"data", b"")),
    "0 samples a second": riff(form(rate=0), (b"data", bytes(10))),
    "16 bits a sample and 0 channels": riff(form(channels=0), (b"data", bytes(10))),
    "16 bits a sample and 1 channels in 1 bytes": riff(form(width=1), (b"data", bytes(10))),
    "cut off in its header": riff((b"fmt ", b"\x01\0"), (b"data", bytes(10))),
    "how its samples are written": riff((b"data", bytes(10))),
    "holds NaN": riff(form(tag=3, bits=32), (b"data", np.array([1, np.nan], "<f4").tobytes())),
}


@pytest.mark.parametrize("words", BAD)
def test_what_can_not_be_read_is_said(tmp_path, words):
    path = tmp_path / "a.wav"
    path.write_bytes(BAD[words])
    with pytest.raises(ValueError, match=words):
        _wav.inspect(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_header_never_promises_more_than_the_file_holds(tmp_path_factory, data):
    content = bytearray(riff(extensible(1, 2, 24), (b"LIST", b"abc"), (b"data", bytes(600))))
    for place in data.draw(st.lists(st.integers(0, 80), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    path.write_bytes(content)
    try:
        sound = _wav.inspect(path)
    except ValueError:
        return
    assert sound.frames > 0
    assert sound.start + sound.frames * sound.kind.width <= len(content)
    assert sound.kind.rate in _wav.RATES


# Folders of them.


def sizes(data):
    return {part: pipelines.size(getattr(data, part)) for part in ("train", "validation", "test")}


def test_class_folders(tmp_path):
    data = tfopt.datasets.audio_folder(folder=two_classes(tmp_path, each=10), seconds=0.25)
    assert data.classes == ("high", "low")
    assert sizes(data) == {"train": 13, "validation": 3, "test": 4}
    assert (data.input_shape, data.input_dtype, data.raw_shape) == ((4000,), "float32", (4000,))
    assert data.source["rate"] == 16_000
    assert data.notes == ()
    waves, labels = pipelines.to_arrays(data.train)
    assert not waves[:, 1600:].any()  # a tenth of a second, and silence
    hertz = np.abs(np.fft.rfft(waves[:, :1600])).argmax(1) * 10
    np.testing.assert_array_equal(hertz, np.where(labels == 0, 1500, 300))  # each wave stayed with its label


def test_folders_that_say_the_parts(tmp_path):
    for part, each in (("Train", 8), ("val", 2), ("TEST", 3)):
        two_classes(tmp_path / part, each)
    assert sizes(tfopt.datasets.audio_folder(folder=tmp_path)) == {"train": 16, "validation": 4, "test": 6}
    with pytest.raises(OptionError, match="a folder named test as well"):
        tfopt.datasets.audio_folder(folder=tmp_path, test_pattern=".*_1.wav")
    shutil.rmtree(tmp_path / "val")
    assert sizes(tfopt.datasets.audio_folder(folder=tmp_path, validation=0.25)) == {"train": 12, "validation": 4, "test": 6}


def test_a_class_without_sounds_is_said(tmp_path):
    two_classes(tmp_path)
    (tmp_path / "middle").mkdir()
    with pytest.raises(DataError, match="too few examples of 1 of the 3 classes: 'middle' has 0"):
        tfopt.datasets.audio_folder(folder=tmp_path, corrupt=0.0)


def test_steps_are_told_the_rate_of_the_sounds(tmp_path):
    steps = [{"use": "time_shift", "max_ms": 50.0}, {"use": "log_mel", "window_ms": 20.0}, {"use": "mfcc", "rate": 8000}]
    data = tfopt.datasets.audio_folder(folder=two_classes(tmp_path), rate=8000, preprocess=steps[:2])
    assert [step.options["rate"] for step in data.steps] == [8000, 8000]
    assert data.input_shape == (50, 40, 1)  # of 20 ms each; at 16,000 samples a second there would be 25
    given = tfopt.datasets.audio_folder(folder=tmp_path, rate=16_000, preprocess=steps[2:])
    assert given.steps[0].options["rate"] == 8000


def test_a_class_may_be_called_train(tmp_path):
    two_classes(tmp_path)
    (tmp_path / "low").rename(tmp_path / "train")
    assert tfopt.datasets.audio_folder(folder=tmp_path).classes == ("high", "train")


def test_labels_in_names_are_ordered_as_numbers(tmp_path):
    for label in (2, 10, 1):
        for index in range(5):
            write(tmp_path / f"{label}_bob_{index}.wav", noise(500), 8000)
    write(tmp_path / "remark.wav", noise(500))
    data = tfopt.datasets.audio_folder(folder=tmp_path, validation=0.25, pattern=r"(?P<label>\d+)_.*\.wav", test_pattern=r".*_0\.wav")
    assert data.classes == ("1", "2", "10")
    assert sizes(data) == {"train": 9, "validation": 3, "test": 3}
    assert sorted(pipelines.to_arrays(data.test)[1]) == [0, 1, 2]
    assert "1 WAV files were left out, whose names the pattern does not fit: remark.wav" in data.notes[0]


def test_files_of_several_kinds_side_by_side(tmp_path):
    two_classes(tmp_path, each=8)
    two_classes(tmp_path / "other", each=8, rate=44_100)
    for label in ("high", "low"):
        for path in (tmp_path / "other" / label).iterdir():
            shutil.move(path, tmp_path / label / f"44100_{path.name}")
        write_24(tmp_path / label / "24.wav", np.full((1600, 2), 2**29, np.int32))
    shutil.rmtree(tmp_path / "other")
    data = tfopt.datasets.audio_folder(folder=tmp_path, seconds=0.1)
    waves = np.concatenate([pipelines.to_arrays(part)[0] for part in (data.train, data.validation, data.test)])
    assert waves.shape == (34, 1600)
    flat = np.all(waves == 0.25, axis=1)
    assert flat.sum() == 2
    assert set(np.abs(np.fft.rfft(waves[~flat])).argmax(1) * 10) == {300, 1500}


def test_unreadable_files_are_left_out_and_named(tmp_path):
    two_classes(tmp_path, each=20)
    (tmp_path / "low" / "broken.wav").write_bytes(b"nothing")
    path = tmp_path / "high" / "short.wav"
    path.write_bytes((tmp_path / "high" / "high_0.wav").read_bytes()[:1000])
    data = tfopt.datasets.audio_folder(folder=tmp_path)
    assert sum(sizes(data).values()) == 40
    (note,) = data.notes
    assert "2 of 42 WAV files can't be read" in note
    assert "low/broken.wav is no WAV file" in note
    assert "high/short.wav is cut off: holds 956 of the 3,200 bytes" in note
    with pytest.raises(DataError, match=r"2 of 42 WAV files can't be read: .*allow more than corrupt = 0.04"):
        tfopt.datasets.audio_folder(folder=tmp_path, corrupt=0.04)


def test_what_is_left_out_or_cut_off_is_told(tmp_path):
    two_classes(tmp_path)
    write(tmp_path / "_background_noise_" / "hum.wav", noise(500))
    write(tmp_path / "loose.wav", noise(500))
    (tmp_path / "low" / "a.mp3").write_bytes(b"x")
    (tmp_path / "low" / "._low_1.wav").write_bytes(b"what some systems leave")
    (tmp_path / "README.md").write_text("x")
    others, unlabelled, long = tfopt.datasets.audio_folder(folder=tmp_path, seconds=0.05).notes
    assert "1 .mp3 files" in others
    assert "_background_noise_/hum.wav" in unlabelled
    assert "loose.wav" in unlabelled
    assert "12 of 12 sounds are longer than seconds = 0.05" in long


def test_a_class_that_is_missing_in_a_part(tmp_path):
    two_classes(tmp_path, each=8)
    for index in range(4):
        write(tmp_path / "train" / "click" / f"{index}.wav", noise(500))
    for part, label in (("train", "high"), ("train", "low"), ("test", "low")):
        (tmp_path / part).mkdir(exist_ok=True)
        shutil.copytree(tmp_path / label, tmp_path / part / label)
    data = tfopt.datasets.audio_folder(folder=tmp_path)
    assert data.classes == ("click", "high", "low")
    assert any("test has no example of 'click', 'high'" in note for note in data.notes)
    shutil.move(tmp_path / "train" / "click", tmp_path / "test" / "click")
    with pytest.raises(DataError, match="train has no example of 'click'"):
        tfopt.datasets.audio_folder(folder=tmp_path)


def make_empty(folder):
    pass


def make_text_only(folder):
    (folder / "README.md").write_text("x")


def make_mp3(folder):
    (folder / "a.mp3").write_bytes(b"x")


def make_one_class(folder):
    shutil.rmtree(two_classes(folder) / "low")


def make_few(folder):
    two_classes(folder, each=2)


def make_flat(folder):
    for index in range(9):
        write(folder / f"{index % 3}_{index}.wav", noise(500))


@pytest.mark.parametrize(
    ("make", "given", "words"),
    [
        (make_empty, {}, "is empty"),
        (make_text_only, {}, "holds no .wav files; name the folder"),
        (make_mp3, {}, "holds no .wav files, but 1 .mp3; convert them"),
        (make_one_class, {}, "all 6 examples are of one class, 'high'"),
        (make_few, {}, "too few examples of 2 of the 2 classes: 'high' has 2"),
        (make_flat, {}, "its 9 WAV files stand in no class folders"),
        (make_flat, {"pattern": r"(?P<label>\d)_\d"}, "fits none of its 9 WAV files, such as '0_0.wav'; it has to fit the whole name"),
        (make_flat, {"pattern": r"(?P<label>\d)_\d.wav", "test_pattern": "x"}, "fits none of 9 WAV files, such as '0_0.wav'"),
        (make_flat, {"pattern": r"(?P<label>\d)_\d.wav", "test_pattern": ".*"}, "fits all 9 WAV files"),
        (make_flat, {"pattern": r"\d_\d.wav"}, "should have a group that is the label"),
        (make_flat, {"pattern": "("}, "is no regular expression"),
        (make_flat, {"test_pattern": "["}, "is no regular expression"),
        (make_few, {"seconds": 1e-9}, "not one sample"),
        (make_few, {"rate": 10}, "greater than or equal to 1000"),
    ],
)
def test_a_folder_that_is_none_of_sounds(tmp_path, make, given, words):
    make(tmp_path)
    with pytest.raises((DataError, OptionError)) as error:
        tfopt.datasets.audio_folder(folder=tmp_path, **given)
    assert words in str(error.value)


def test_a_recipe_is_told_before_any_file_is_read():
    (problem,) = options.problems_with(tfopt.datasets.DATASETS["audio_folder"], {"folder": "nowhere", "pattern": r"\d.wav"})
    assert "should have a group that is the label" in problem
    assert not options.problems_with(tfopt.datasets.DATASETS["audio_folder"], {"folder": "nowhere", **DIGITS, "preprocess": ["mfcc"]})


def test_reading_needs_no_python_so_that_other_machines_can_do_it(tmp_path):
    tf = backend.tensorflow()
    path = write(tmp_path / "a.wav", noise(500), 8000)
    sound = _wav.inspect(path)
    row = {name: values[0] for name, values in _wav.rows([path], [sound]).items()}
    graph = tf.function(lambda row: _wav.reader([sound.kind], 16_000, 1000)(row)).get_concrete_function(
        {name: tf.TensorSpec([], tf.constant(value).dtype) for name, value in row.items()}
    )
    assert {op.type for op in graph.graph.get_operations()}.isdisjoint({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


def test_the_cache_changes_nothing_and_other_settings_are_other_data(tmp_path):
    folder = two_classes(tmp_path / "sounds")
    made = [tfopt.datasets.audio_folder(folder=folder, cache=cache) for cache in ("memory", "none", tmp_path / "cache")]
    assert len({data.fingerprint for data in made}) == 1
    batches = [[x for x, _ in pipelines.training_batches(data, Fit(epochs=2, batch_size=4)).as_numpy_iterator()] for data in made]
    for others in batches[1:]:
        for one, other in zip(batches[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
    others = [tfopt.datasets.audio_folder(folder=folder, **given) for given in ({"seconds": 0.5}, {"rate": 8000})]
    assert len({data.fingerprint for data in [made[0], *others]}) == 3


# Features.


def mel(hertz):
    return 1127 * np.log1p(np.asarray(hertz, np.float64) / 700)


def expected_log_mel(waves, rate, window, stride, bins, low, high):
    """The same in float64, frame by frame, without TensorFlow."""
    length = 2 ** int(np.ceil(np.log2(window)))
    frames = np.stack([waves[:, at : at + window] for at in range(0, waves.shape[1] - window + 1, stride)], axis=1).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", window), length))
    edges, places = np.linspace(mel(low), mel(high), bins + 2), mel(np.arange(length // 2 + 1) * rate / length)
    weights = np.stack([np.interp(places, edges[at : at + 3], [0, 1, 0]) for at in range(bins)], axis=1)
    weights[0] = 0
    return np.log(spectrum @ weights + 1e-6)


SETTINGS = [
    ({}, (16_000, 480, 320, 40, 20, 4000), 49),
    (
        {"rate": 8000, "window_ms": 25.0, "stride_ms": 10.0, "bins": 24, "low_hz": 100.0, "high_hz": 3500.0},
        (8000, 200, 80, 24, 100, 3500),
        98,
    ),
    ({"rate": 8000, "window_ms": 32.0, "stride_ms": 50.0}, (8000, 256, 400, 40, 20, 4000), 20),  # windows with gaps between them
]


@pytest.mark.parametrize(("given", "in_samples", "frames"), SETTINGS)
def test_features_are_those_of_an_independent_computation(given, in_samples, frames):
    waves = noise(3, in_samples[0])
    waves[1] = 0.5 * np.sin(np.arange(in_samples[0])) + waves[1] / 100  # alone, a tone leaves nothing but float32's roundings elsewhere
    waves[2, 500:] = 0
    wanted = expected_log_mel(waves, *in_samples)
    got = audio.log_mel(waves, **given)
    assert got.shape == (3, frames, in_samples[3], 1)
    np.testing.assert_allclose(got[..., 0], wanted, atol=1e-3)
    np.testing.assert_allclose(got[0, ..., 0], wanted[0], atol=1e-4)
    coefficients = scipy.fft.dct(wanted, type=2, axis=-1)[..., :13] / np.sqrt(2 * in_samples[3])
    np.testing.assert_allclose(audio.mfcc(waves, coefficients=13, **given)[..., 0], coefficients, atol=2e-3)


def test_the_defaults_are_those_of_mlperf_tiny():
    assert audio.mfcc(np.zeros((2, 16_000), np.float32)).shape == (2, 49, 10, 1)
    np.testing.assert_allclose(audio.log_mel(np.zeros((1, 16_000), np.float32)), np.log(1e-6), rtol=1e-6)


@pytest.mark.parametrize("step", ["log_mel", "mfcc"])
def test_features_run_in_litert_with_builtin_operations(step):
    tf = backend.tensorflow()
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    function = tf.function(preprocessing.PREPARATIONS[step], input_signature=[tf.TensorSpec([None, 16_000])]).get_concrete_function()
    with backend.stderr_held_back():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        session = interpreter.Interpreter(model_content=converter.convert())
        waves, place = noise(3, 16_000), session.get_input_details()[0]["index"]
        session.resize_tensor_input(place, waves.shape)
        session.allocate_tensors()
        session.set_tensor(place, waves)
        session.invoke()
    got = session.get_tensor(session.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, preprocessing.PREPARATIONS[step](waves), atol=1e-4)


@pytest.mark.parametrize(
    ("step", "shape", "words"),
    [
        ({"use": "log_mel", "rate": 8000, "high_hz": 4001.0}, (8000,), "rate / 2 = 4000"),
        ({"use": "log_mel", "low_hz": 4000.0}, (8000,), "low_hz < high_hz"),
        ({"use": "mfcc", "coefficients": 41}, (8000,), "at most bins = 40"),
        ({"use": "mfcc"}, (479,), "a window of 480 and a stride of 320 samples on waves of 479"),
        ({"use": "log_mel"}, (8, 8, 1), "should be waves"),
    ],
)
def test_features_that_can_not_be_made(step, shape, words):
    with pytest.raises(DataError) as error:
        tfopt.datasets.arrays(x=noise(20, *shape), y=np.arange(20) % 2, preprocess=[step])
    assert words in str(error.value)


# Augmentations.


def augmented(name, x, number=0, **given):
    y = np.arange(len(x), dtype=np.int32)
    changed, labels = preprocessing.AUGMENTATIONS[name](x, y, seed(number), **given)
    np.testing.assert_array_equal(labels, y)
    assert (changed.shape, changed.dtype.name) == (x.shape, "float32")
    return changed.numpy()


@pytest.mark.parametrize(("name", "shape"), [("time_shift", (8, 1000)), ("background_noise", (8, 1000)), ("spec_augment", (8, 49, 40, 1))])
def test_the_same_seed_changes_each_example_in_the_same_way_of_its_own(name, shape):
    tf = backend.tensorflow()
    x = np.tile(noise(1, *shape[1:]), (shape[0], *[1] * (len(shape) - 1)))
    once = augmented(name, x)
    np.testing.assert_array_equal(once, augmented(name, x))
    assert (once != augmented(name, x, 1)).any()
    assert len({one.tobytes() for one in once}) > 5
    in_graph = tf.function(
        lambda x: preprocessing.AUGMENTATIONS[name](x, 0, seed())[0], input_signature=[tf.TensorSpec([None, *shape[1:]])]
    )
    assert in_graph.get_concrete_function().output_shapes.as_list() == [None, *shape[1:]]
    np.testing.assert_allclose(in_graph(x), once, atol=1e-6)


def test_a_shifted_wave_is_the_same_wave_elsewhere():
    wave = 1 + np.arange(100, dtype=np.float32)
    shifted = augmented("time_shift", np.tile(wave, (500, 1)), max_ms=5.0, rate=1000)
    shifts = []
    for one in shifted:
        (offset,) = {int(value - wave[place]) for place, value in enumerate(one) if value}
        shifts.append(offset)
        np.testing.assert_array_equal(one, np.pad(wave, 5)[5 + offset : 105 + offset])
    assert set(shifts) == set(range(-5, 6))


@pytest.mark.parametrize(("color", "slope"), [("white", 0), ("pink", -1)])
def test_noise_is_as_loud_and_of_the_color_that_was_asked_for(color, slope):
    waves = np.zeros((200, 8000), np.float32)
    waves[:] = 0.01 * np.sin(np.arange(8000))
    added = augmented("background_noise", waves, min_snr=10.0, max_snr=20.0, color=color, share=1.0) - waves
    ratios = 10 * np.log10(np.square(waves).mean(1) / np.square(added).mean(1))
    assert ratios.min() >= 9.99
    assert ratios.max() <= 20.01
    assert ratios.std() > 2  # not one for all
    power = np.square(np.abs(np.fft.rfft(added))).mean(0)
    assert np.polyfit(np.log(np.arange(20, 3000)), np.log(power[20:3000]), 1)[0] == pytest.approx(slope, abs=0.05)
    assert np.abs(np.corrcoef(added)[np.triu_indices(200, 1)]).mean() < 0.1  # each wave has its own


def test_noise_comes_to_a_share_and_stays_in_range_and_silence_stays_silent():
    waves = noise(300, 200, scale=1.0).clip(-1, 1)
    waves[:10] = 0
    changed = augmented("background_noise", waves, min_snr=0.0, max_snr=0.0, share=0.5)
    assert np.abs(changed).max() <= 1
    assert not changed[:10].any()
    assert 0.4 < (changed != waves).any(1)[10:].mean() < 0.6


def test_recorded_noise_is_cut_from_the_files(tmp_path):
    ramp = np.arange(1, 901) / 1000  # of 0.001 to 0.9: each piece tells where it was cut out
    write(tmp_path / "a" / "long.wav", ramp, 8000)
    write(tmp_path / "short.WAV", -ramp[:30], 8000)
    waves = np.full((400, 100), 0.001, np.float32)
    added = augmented("background_noise", waves, folder=str(tmp_path), rate=8000, min_snr=40.0, max_snr=40.0, share=1.0) - waves
    pieces = [np.pad(ramp, 0)[at : at + 100] for at in range(801)] + [np.tile(-ramp[:30], 4)[at : at + 100] for at in range(21)]
    pieces = np.stack([piece / np.linalg.norm(piece) for piece in pieces])
    found = added / np.linalg.norm(added, axis=1, keepdims=True) @ pieces.T
    assert found.max(1).min() > 0.9999
    where = found.argmax(1)
    assert where.min() < 100
    assert (where > 800).any()
    assert len(set(where)) > 200


def test_noise_that_can_not_be_had(tmp_path):
    waves = noise(2, 100)
    with pytest.raises(DataError, match=r"holds no \.wav file"):
        augmented("background_noise", waves, folder=str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"x" * 50)
    with pytest.raises(DataError, match=r"a\.wav is no WAV file"):
        augmented("background_noise", waves, folder=str(tmp_path))
    with pytest.raises(OptionError, match="min_snr <= max_snr"):
        augmented("background_noise", waves, min_snr=30.0, max_snr=5.0)
    with pytest.raises(OptionError, match="put it behind log_mel"):
        augmented("spec_augment", waves)
    with pytest.raises(OptionError, match="put it before the features"):
        augmented("time_shift", noise(2, 49, 40, 1))


def test_spec_augment_masks_whole_frames_and_bins():
    x = noise(300, 20, 15, 1)
    same = augmented("spec_augment", x, time_masks=1, time_width=4, frequency_masks=1, frequency_width=3)[..., 0] == x[..., 0]
    frames, bins = ~same.any(2), ~same.any(1)
    np.testing.assert_array_equal(~same, frames[:, :, np.newaxis] | bins[:, np.newaxis, :])
    assert set(frames.sum(1)) == {0, 1, 2, 3, 4}
    assert set(bins.sum(1)) == {0, 1, 2, 3}
    assert (np.abs(np.diff(frames.astype(int), axis=1, prepend=0, append=0)).sum(1) <= 2).all()  # one piece
    assert frames.any(0).all()
    assert bins.any(0).all()
    changed = augmented("spec_augment", x, time_masks=2, time_width=99, frequency_masks=0)
    means = np.broadcast_to(x.mean((1, 2, 3), keepdims=True), x.shape)
    np.testing.assert_allclose(changed[changed != x], means[changed != x], atol=1e-6)
    np.testing.assert_array_equal(augmented("spec_augment", x, time_masks=0, frequency_width=0), x)


# Spoken digits.


@pytest.fixture(scope="module")
def spoken(unpackable):
    return unpackable("free_spoken_digit/fsdd.zip")


def test_spoken_digits_have_their_official_test_set(spoken):
    data = tfopt.datasets.audio_folder(folder=spoken, preprocess=[{"use": "mfcc", "rate": 8000}], **DIGITS)
    assert data.name == "fsdd"
    assert data.classes == tuple("0123456789")
    assert sizes(data) == {"train": 2295, "validation": 405, "test": 300}
    assert data.input_shape == (49, 10, 1)
    np.testing.assert_array_equal(np.bincount(pipelines.to_arrays(data.test)[1]), 30)
    first = pipelines.to_arrays(pipelines.raw(pipelines.first(data.test, 1)))[0][0]
    with zipfile.ZipFile(spoken) as archive, archive.open("recordings/0_george_0.wav") as file:
        _, there = scipy.io.wavfile.read(file)
    np.testing.assert_array_equal(first[: len(there)], there / np.float32(2**15))
    assert not first[len(there) :].any()


@pytest.mark.slow
def test_a_small_net_understands_spoken_digits(spoken):
    steps = [{"use": "time_shift", "rate": 8000}, {"use": "mfcc", "rate": 8000}, "z_score"]
    data = tfopt.datasets.audio_folder(folder=spoken, preprocess=steps, **DIGITS)
    model = tfopt.models.convnet(data.input_shape, data.num_classes, width=16, blocks=3)
    model = tfopt.train(model, data, Fit(epochs=15, batch_size=32, learning_rate=3e-3))
    x, y = pipelines.to_arrays(data.test)
    assert (model.predict(x, verbose=0).argmax(1) == y).mean() >= 0.9
