"""Pictures in folders and archives: every kind of file as other programs see it, and what is wrong with files told by their names."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import tfopt
from tfopt import backend, pipelines
from tfopt.datasets import _unpacking
from tfopt.errors import DataError, OptionError
from tfopt.types import Fit

SIZE = (20, 30)


def picture(seed=0, size=SIZE, block=5):
    """RGB squares of random colors, which JPEG keeps well."""
    rows, columns = -(-size[0] // block), -(-size[1] // block)
    colors = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(colors, np.ones((block, block, 1), np.uint8))[: size[0], : size[1]])


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def fill(folder, classes=("cat", "dog"), count=10, first=0):
    """So many good PNGs of each class; all pictures differ."""
    for index, name in enumerate(classes):
        for number in range(first, first + count):
            write(folder / name / f"{number:03}.png", encoded(picture(1000 * index + number), "PNG"))
    return folder


def load(folder, **options):
    return tfopt.datasets.image_folder(folder=folder, **{"size": list(SIZE), **options})


def paths(data, part):
    held, _ = pipelines.behind(getattr(data, part))
    return [Path(one.decode()) for one in held.x["path"]]


def pixels(data):
    """The raw pictures of all parts, by their file's name."""
    held = [pipelines.behind(getattr(data, part))[0] for part in ("train", "validation", "test")]
    everything = {key: np.concatenate([one.x[key] for one in held]) for key in held[0].x}
    together = dataclasses.replace(held[0], x=everything, y=np.concatenate([one.y for one in held]), cache="none")
    x, _ = pipelines.to_arrays(pipelines.dataset_of(together))
    assert x.dtype == np.uint8
    return {Path(path.decode()).name: one for path, one in zip(everything["path"], x, strict=True)}


# Real pictures


@pytest.fixture(scope="module")
def grocery(unpackable):
    return unpackable("grocery10.zip")


def test_an_archive_of_train_val_and_test(grocery):
    data = load(grocery, size=[24, 24])
    assert data.name == "grocery10"
    assert data.num_classes == 10
    assert data.classes == tuple(sorted(data.classes))
    assert data.raw_shape == (24, 24, 3)
    assert (data.raw_dtype, data.notes, data.task) == ("uint8", (), "classification")
    archived = [Path(name) for name in zipfile.ZipFile(grocery).namelist() if name.endswith(".jpg")]
    for part, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        found = paths(data, part)
        assert {path.parts[-3:] for path in found} == {path.parts[-3:] for path in archived if path.parts[1] == folder}
        held, _ = pipelines.behind(getattr(data, part))
        assert [data.classes[label] for label in held.y] == [path.parent.name for path in found]
    assert {tuple(paths(data, "calibration"))} & {tuple(paths(data, "train"))} == set()
    assert set(paths(data, "calibration")) <= set(paths(data, "train"))


def test_photos_are_what_another_decoder_sees(grocery):
    tf = backend.tensorflow()
    data = load(grocery, size=[48, 64])
    x, _ = pipelines.to_arrays(pipelines.raw(data.test), 40)
    for path, seen in zip(paths(data, "test"), x, strict=False):
        with Image.open(path) as image:
            expected = tf.image.resize(np.asarray(image.convert("RGB"), np.float32), [48, 64]).numpy()
        assert np.abs(seen - expected).mean() < 2  # levels of 255, between two ways of decoding a JPEG
        assert np.abs(seen - expected).max() < 25


@pytest.mark.slow
def test_a_small_resnet_learns_groceries_from_scratch(grocery):
    augmented = ["random_flip", {"use": "pad_and_crop", "padding": 8}]
    data = load(grocery, size=[96, 96], preprocess=augmented)
    model = tfopt.models.resnet(data.input_shape, data.num_classes, depth=8, width=16)
    model = tfopt.train(model, data, Fit(epochs=30, batch_size=32, learning_rate=3e-3))
    x, y = pipelines.to_arrays(data.test)
    right = int((model.predict(x, verbose=0).argmax(axis=1) == y).sum())
    low, high = _wilson(right, len(y))
    print(f"grocery10: {right / len(y):.1%} of {len(y)} test pictures, 95 % interval {low:.1%} to {high:.1%}; chance 10 %")
    assert right / len(y) >= 0.35
    assert low > 0.3


def _wilson(right, count, z=1.96):
    share, spread = right / count, z * z / count
    middle, half = share + spread / 2, z * np.sqrt(share * (1 - share) / count + spread / count / 4)
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


# Kinds of files


def variants():
    """File name -> (content, the picture that it should be seen as)."""
    image = picture(7)
    gray, palette = image.convert("L"), image.quantize(16)
    deep = np.random.default_rng(3).integers(0, 65536, SIZE).astype(np.uint16)
    other = picture(8)
    rgba = Image.fromarray(np.dstack([np.asarray(image), np.full(SIZE, 90, np.uint8)]))
    cmyk = image.convert("CMYK")
    return {
        "rgb.png": (encoded(image, "PNG"), image),
        "UPPER.PNG": (encoded(image, "PNG"), image),
        "is_a_png.jpg": (encoded(image, "PNG"), image),
        "gray.png": (encoded(gray, "PNG"), gray),
        "palette.png": (encoded(palette, "PNG"), palette),
        "one_bit.png": (encoded(image.convert("1"), "PNG"), image.convert("1")),
        "rgba.png": (encoded(rgba, "PNG"), image),
        "gray_alpha.png": (encoded(gray.convert("LA"), "PNG"), gray),
        "deep.png": (encoded(Image.fromarray(deep), "PNG"), Image.fromarray((deep >> 8).astype(np.uint8))),
        "good.jpg": (encoded(image, "JPEG", quality=95, subsampling=0), image),
        "gray.jpeg": (encoded(gray, "JPEG", quality=95), gray),
        "steps.jpg": (encoded(image, "JPEG", quality=95, subsampling=0, progressive=True), image),
        "tail.jpg": (encoded(image, "JPEG", quality=95, subsampling=0) + b"a camera's own notes", image),
        "cmyk.jpg": (encoded(cmyk, "JPEG", quality=95), cmyk),
        "lossless.webp": (encoded(image, "WEBP", lossless=True), image),
        "moving.webp": (encoded(image, "WEBP", lossless=True, save_all=True, append_images=[other]), image),
        "plain.bmp": (encoded(image, "BMP"), image),
        "palette.bmp": (encoded(palette, "BMP"), palette),
        "one_bit.bmp": (encoded(image.convert("1"), "BMP"), image.convert("1")),
        "still.gif": (encoded(palette, "GIF"), palette),
        "moving.gif": (encoded(palette, "GIF", save_all=True, append_images=[other.quantize(16)]), palette),
    }


@pytest.mark.parametrize("channels", [3, 1])
def test_each_kind_of_file_is_seen_as_other_programs_see_it(tmp_path, channels):
    fill(tmp_path)
    for name, (content, _) in variants().items():
        write(tmp_path / "cat" / name, content)
    data = load(tmp_path, channels=channels)
    assert data.notes == ()
    assert data.source["channels"] == channels
    found = pixels(data)
    for name, (content, expected) in variants().items():
        lossy = content[:2] == b"\xff\xd8"
        expected = Image.open(io.BytesIO(content)) if lossy else expected
        expected = np.asarray(expected.convert("RGB" if channels == 3 else "L"), int).reshape(*SIZE, channels)
        difference = np.abs(found[name] - expected)
        assert difference.max() <= (25 if lossy else 1), name
        assert difference.mean() <= (3 if lossy else 1), name


def test_photos_are_turned_upright(tmp_path):
    fill(tmp_path)
    expected = {}
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        content = encoded(picture(turn), "JPEG", quality=95, subsampling=0, exif=exif)
        write(tmp_path / "cat" / f"turn{turn}.jpg", content)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        expected[f"turn{turn}.jpg"] = backend.tensorflow().image.resize(np.asarray(upright), SIZE).numpy()
    found = pixels(load(tmp_path))
    for name, upright in expected.items():
        assert np.abs(found[name] - upright).mean() < 3, name  # the wrong way up it is 80


def bilinear(image, size):
    """By the definition: each new pixel's center between the four old ones around it."""
    for axis, new in enumerate(size):
        old = image.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if one == axis else 1 for one in range(3)])
        image = image.take(low, axis) * (1 - share) + image.take(np.minimum(low + 1, old - 1), axis) * share
    return image


def test_resizing_stretches_crops_or_pads(tmp_path):
    fill(tmp_path)
    wide, high = (np.asarray(picture(50, (40, 100))), np.asarray(picture(51, (90, 30))))
    write(tmp_path / "cat" / "wide.png", encoded(Image.fromarray(wide), "PNG"))
    write(tmp_path / "cat" / "high.png", encoded(Image.fromarray(high), "PNG"))
    seen = {mode: pixels(load(tmp_path, size=[20, 20], resize=mode)) for mode in ("stretch", "crop", "pad")}
    for name, image in (("wide.png", wide), ("high.png", high)):
        np.testing.assert_allclose(seen["stretch"][name], bilinear(image, (20, 20)), atol=0.51)
    np.testing.assert_allclose(seen["crop"]["wide.png"], bilinear(wide[:, 30:70], (20, 20)), atol=0.51)
    np.testing.assert_allclose(seen["crop"]["high.png"], bilinear(high[30:60], (20, 20)), atol=0.51)
    np.testing.assert_allclose(seen["pad"]["wide.png"][6:14], bilinear(wide, (8, 20)), atol=0.51)
    assert not seen["pad"]["wide.png"][:6].any()
    assert not seen["pad"]["wide.png"][14:].any()
    assert not seen["pad"]["high.png"][:, [0, 5, 14, 19]].any()


# Which files, which part


def test_a_plain_folder_is_divided_by_seed_with_the_classes_alike(tmp_path):
    fill(tmp_path, count=20)
    data, same, other = load(tmp_path), load(tmp_path), load(tmp_path, seed=1)
    sizes = {part: [path.parent.name for path in paths(data, part)] for part in ("train", "validation", "test")}
    assert {part: (names.count("cat"), names.count("dog")) for part, names in sizes.items()} == {
        "train": (13, 13),
        "validation": (3, 3),
        "test": (4, 4),
    }
    everything = [path for part in sizes for path in paths(data, part)]
    assert len(set(everything)) == len(everything) == 40
    assert paths(data, "test") == paths(same, "test") != paths(other, "test")
    assert data.fingerprint == same.fingerprint != other.fingerprint


def test_the_fingerprint_tells_content_not_places(tmp_path):
    data = load(fill(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert load(tmp_path / "elsewhere").fingerprint == data.fingerprint
    write(tmp_path / "elsewhere/cat/003.png", encoded(picture(99), "PNG"))
    assert load(tmp_path / "elsewhere").fingerprint != data.fingerprint
    assert load(tmp_path / "one", resize="pad").fingerprint != data.fingerprint


def test_parts_that_have_no_folder_are_drawn_from_train(tmp_path):
    fill(tmp_path / "Train", count=10)
    fill(tmp_path / "TEST", count=4, first=50)
    data = load(tmp_path)
    assert {path.parts[-3] for path in paths(data, "validation")} == {"Train"}
    assert {path.parts[-3] for path in paths(data, "test")} == {"TEST"}
    assert [len(paths(data, part)) for part in ("train", "validation", "test")] == [17, 3, 8]
    fill(tmp_path / "valid", count=2, first=80)
    assert {path.parts[-3] for path in paths(load(tmp_path), "validation")} == {"valid"}
    shutil.rmtree(tmp_path / "TEST")
    assert {path.parts[-3] for path in paths(load(tmp_path), "test")} == {"Train"}


def test_hidden_files_are_ignored_nested_ones_found_others_noted(tmp_path):
    fill(tmp_path)
    write(tmp_path / "cat" / "by_month" / "may" / "nested.png", encoded(picture(60), "PNG"))
    write(tmp_path / "cat" / ".DS_Store", b"finder")
    write(tmp_path / "cat" / "._000.png", b"finder")
    write(tmp_path / ".git" / "000.png", encoded(picture(61), "PNG"))
    write(tmp_path / "__MACOSX" / "cat" / "000.png", b"finder")
    write(tmp_path / "cat" / "licence.txt", b"yours")
    write(tmp_path / "stray.png", encoded(picture(62), "PNG"))
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert sum(len(paths(data, part)) for part in ("train", "validation", "test")) == 21
    assert "nested.png" in pixels(data)
    assert [note for note in data.notes if "licence.txt" in note]
    assert [note for note in data.notes if "stray.png" in note and "no class folder" in note]
    assert len(data.notes) == 2


def test_a_class_that_a_part_lacks(tmp_path):
    fill(tmp_path / "train", ("cat", "cow", "dog"))
    fill(tmp_path / "val", ("cat", "dog"), count=3, first=50)
    fill(tmp_path / "test", ("cat", "cow", "dog"), count=3, first=80)
    (note,) = load(tmp_path).notes
    assert "validation" in note
    assert "cow" in note
    fill(tmp_path / "test", ("yak",), count=3)
    with pytest.raises(DataError, match="no picture to learn from of the class yak"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: None, "no such folder"),
        (lambda folder: fill(folder, ("cat",)), "one class, 'cat'"),
        (lambda folder: fill(folder, count=2), "too few examples"),
        (lambda folder: (fill(folder), (folder / "yak").mkdir()), "class yak"),
        (lambda folder: write(folder / "a.png", encoded(picture(), "PNG")), "stand in no class folders"),
        (lambda folder: write(folder / "cat" / "a.tiff", b"II"), "a.tiff.*should hold JPEG, PNG"),
        (lambda folder: write(folder, b"no archive"), "neither a folder nor a .zip or .tar archive"),
    ],
)
def test_a_folder_that_no_data_can_be_made_of(tmp_path, made, message):
    made(tmp_path / "data")
    with pytest.raises(DataError, match=f"data.*{message}"):
        load(tmp_path / "data")


@pytest.mark.parametrize("size", [[0, 20], [20], [20, 20, 3], [20, 100_000]])
def test_a_size_that_is_none(tmp_path, size):
    with pytest.raises(OptionError, match="size"):
        load(fill(tmp_path), size=size)


# Files that can't be read


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def corrupt_files():
    """Name -> (content, what is said of it)."""
    image = picture(9, (60, 60))
    jpeg, png, webp, bmp, gif = (encoded(image, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF"))
    exif = Image.Exif()
    exif[0x010E] = "a thumbnail's end: \xff\xd9"
    huge = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:29]
    return {
        "text.jpg": (b"<html>404</html>", "is none of JPEG, PNG"),
        "nothing.png": (b"", "is empty"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "cut off"),
        "head.jpg": (jpeg[:40], "cut off"),
        "no_end.jpg": (jpeg[:-2], "cut off"),
        "end_in_exif.jpg": (encoded(image, "JPEG", exif=exif)[:-200], "cut off"),
        "half.png": (png[: len(png) // 2], "cut off"),
        "no_end.png": (png[:-12], "cut off"),
        "bit.png": (flipped(png, len(png) // 2), "damaged"),
        "huge.png": (huge + zlib.crc32(huge[12:]).to_bytes(4, "big") + png[33:], "60,000 x 60,000"),
        "half.webp": (webp[: len(webp) // 2], "cut off"),
        "noise.webp": (webp[:40] + np.random.default_rng(0).bytes(len(webp) - 40), "WebP"),
        "half.bmp": (bmp[: len(bmp) // 2], "BMP"),
        "half.gif": (gif[: len(gif) // 2], "GIF"),
        "head.gif": (gif[:8], "GIF"),
    }


def test_corrupt_files_are_left_out_and_listed(tmp_path):
    fill(tmp_path)
    bad = corrupt_files()
    for name, (content, _) in bad.items():
        write(tmp_path / "dog" / name, content)
    data = load(tmp_path, corrupt=0.5)
    assert sum(len(paths(data, part)) for part in ("train", "validation", "test")) == 20
    (note,) = data.notes
    assert f"{len(bad)} of {20 + len(bad)} pictures" in note
    told = {one.partition(" ")[0].removeprefix("dog/"): one for one in note.partition("read: ")[2].split("; ")}
    for name, (_, reason) in bad.items():
        assert reason in told[name]


def test_one_of_many_is_tolerated_more_are_an_error(tmp_path):
    fill(tmp_path, count=20)
    write(tmp_path / "cat" / "bad1.jpg", b"text")
    assert "cat/bad1.jpg" in load(tmp_path).notes[0]
    with pytest.raises(DataError, match=r"bad1\.jpg"):
        load(tmp_path, corrupt=0.0)
    write(tmp_path / "cat" / "bad2.jpg", b"text")
    write(tmp_path / "dog" / "bad3.jpg", b"text")
    with pytest.raises(DataError, match=r"3 of 43.*bad1.jpg is none of.*bad2.jpg.*dog/bad3.jpg.*corrupt = 0.05"):
        load(tmp_path)


def hollow_jpeg():
    """One that is whole by its segments, with a second frame of a kind that no decoder takes in the middle of its picture."""
    content = encoded(picture(3, (60, 60)), "JPEG", quality=95)
    at = len(content) - 200
    return content[:at] + b"\xff\xc7" + content[at + 2 :]


@pytest.mark.parametrize("damage", ["hollow", "gone"])
def test_a_file_that_only_decoding_finds_damaged_is_named(tmp_path, damage):
    fill(tmp_path / "train")
    fill(tmp_path / "val", count=3, first=50)
    fill(tmp_path / "test", count=3, first=80)
    victim = tmp_path / "train" / "dog" / "victim.jpg"
    write(victim, hollow_jpeg() if damage == "hollow" else encoded(picture(), "JPEG"))
    data = load(tmp_path, calibration=1)  # which decodes one picture; by this seed another one
    if damage == "gone":
        victim.unlink()
    model = tfopt.models.mlp(data.input_shape, data.num_classes)
    with pytest.raises(DataError, match=r"train/dog/victim.jpg: can't be read any more"):
        tfopt.train(model, data, Fit(epochs=1, batch_size=4))
    with pytest.raises(DataError, match=r"victim\.jpg"):
        pipelines.to_arrays(data.train)


# Archives


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def link(name, to, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def zip_link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("ending", "mode"), [("zip", ""), ("tar", "w"), ("tar.gz", "w:gz"), ("TGZ", "w:gz"), ("tar.xz", "w:xz"), ("tbz", "w:bz2")]
)
def test_archives_are_unpacked_once_and_found_again(tmp_path, ending, mode):
    fill(tmp_path / "photos")
    members = {str(path.relative_to(tmp_path)): path.read_bytes() for path in sorted((tmp_path / "photos").rglob("*.png"))}
    archive = tmp_path / "in" / f"photos.{ending}"
    archive.parent.mkdir()
    tarred(archive, members, mode) if mode else zipped(archive, members)
    folder = _unpacking.folder_of(archive)
    assert folder.is_relative_to(archive.parent)
    assert folder.name == "photos"
    assert {str(path.relative_to(folder.parent)): path.read_bytes() for path in folder.rglob("*.png")} == members
    (folder / "mine").touch()
    assert _unpacking.folder_of(archive) == folder
    assert (folder / "mine").exists()  # was not unpacked again
    os.utime(archive, (1, 1))
    assert _unpacking.folder_of(archive) != folder


def test_an_archive_is_the_data_of_its_folder(tmp_path):
    fill(tmp_path / "photos")
    shutil.make_archive(tmp_path / "photos", "zip", tmp_path, "photos")
    packed, plain = load(tmp_path / "photos.zip"), load(tmp_path / "photos")
    assert packed.fingerprint == plain.fingerprint
    assert packed.name == plain.name == "photos"


ESCAPING = [
    (lambda path: zipped(path, {"../evil.png": b"x"}), "../evil.png"),
    (lambda path: zipped(path, {"good.png": b"x", "a/../../evil.png": b"x"}), "a/../../evil.png"),
    (lambda path: zipped(path, {"/tmp/evil.png": b"x"}), "/tmp/evil.png"),
    (lambda path: zipped(path, {"C:/evil.png": b"x"}), "C:/evil.png"),
    (lambda path: zipped(path, {"..\\evil.png": b"x"}), "evil.png"),
    (lambda path: zipped(path, {zip_link("evil"): b"/etc"}), "'evil', a link"),
    (lambda path: tarred(path, {"good.png": b"x", "../evil.png": b"x"}), "../evil.png"),
    (lambda path: tarred(path, {"/tmp/evil.png": b"x"}), "/tmp/evil.png"),
    (lambda path: tarred(path, {link("evil", "/etc"): b"", "evil/passwd": b"x"}), "'evil', a link"),
    (lambda path: tarred(path, {link("evil", "/etc/passwd", tarfile.LNKTYPE): b""}), "'evil', a link"),
    (lambda path: tarred(path, {link("evil", "", tarfile.FIFOTYPE): b""}), "'evil', a link or device"),
]


@pytest.mark.parametrize(("make", "name"), ESCAPING)
def test_no_archive_writes_outside_of_its_folder(tmp_path, make, name):
    (tmp_path / "in").mkdir()
    archive = make(tmp_path / "in" / "photos.data")
    with pytest.raises(DataError) as caught:
        load(archive)
    assert str(archive) in str(caught.value)
    assert name in str(caught.value)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["in", "in/photos.data"]  # nothing is left behind


def test_bombs_are_refused(tmp_path):
    zeros = bytes(_unpacking.HARMLESS + 1)
    zipped(tmp_path / "bomb.zip", {"a.png": zeros}, compression=zipfile.ZIP_DEFLATED)
    tarred(tmp_path / "bomb.tar.gz", {"a.png": zeros}, "w:gz")
    for name in ("bomb.zip", "bomb.tar.gz"):
        with pytest.raises(DataError, match=f"{name}: would unpack to more than"):
            load(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
def test_damaged_archives(tmp_path, kind):
    fill(tmp_path / "photos")
    members = {path.name: path.read_bytes() for path in (tmp_path / "photos" / "cat").iterdir()}
    archive = tmp_path / f"photos.{kind}"
    zipped(archive, members) if kind == "zip" else tarred(archive, members, "w:gz" if kind == "tar.gz" else "w")
    content = archive.read_bytes()
    broken = content[:200] + bytes([content[200] ^ 255]) + content[201:] if kind == "zip" else content[: len(content) // 3]
    archive.write_bytes(broken)
    with pytest.raises(DataError, match=f"photos.{kind}: is cut off or damaged"):
        load(archive)
    assert not list(tmp_path.glob("*unpacked*"))


def test_where_nothing_can_be_written_the_cache_is_used(monkeypatch):
    """As a user who may not write there: root may everywhere, so it becomes somebody else for a moment."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        fill(top / "data" / "photos")
        archive = zipped(top / "data" / "p.zip", {f"p/{one}": b"x" for one in ("a.txt", "b.txt")})
        (top / "cache").mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(top / "cache"))
        top.chmod(0o755)
        (top / "cache").chmod(0o777)
        archive.parent.chmod(0o555)
        is_root = os.geteuid() == 0
        try:
            if is_root:
                os.seteuid(65534)
            folder = _unpacking.folder_of(archive)
            assert _unpacking.folder_of(archive) == folder
        finally:
            if is_root:
                os.seteuid(0)
            archive.parent.chmod(0o755)
        assert folder.is_relative_to(top / "cache" / "tfopt")
        assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"]
