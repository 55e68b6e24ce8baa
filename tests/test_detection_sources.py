"""Pictures with boxes: where they end up, against a reading of the same files that shares no code, and what is wrong with annotations."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfopt
from tfopt import pipelines
from tfopt.errors import DataError, OptionError

SIZE = [24, 32]
WIDTH, HEIGHT = 64, 48


# A real set


@pytest.fixture(scope="module")
def cells(unpackable):
    return tfopt.datasets.voc(folder=unpackable("bccd.zip"), size=[120, 160])


def boxes_of(data, part):
    """File name -> its boxes and labels without what fills them up, as the data has them."""
    held, _ = pipelines.behind(getattr(data, part))
    found = {}
    for path, boxes, labels in zip(held.x["path"], held.y["boxes"], held.y["labels"], strict=True):
        real = labels >= 0
        assert (boxes[~real] == -1).all()
        assert (labels[~real] == -1).all()
        assert not real[np.argmin(real) :].any() or real.all()  # what is real comes first
        found[Path(path.decode()).name] = boxes[real], [data.classes[label] for label in labels[real]]
    return found


def read_otherwise(path):
    """(label, ymin, xmin, ymax, xmax) as they stand in the file, by their text alone."""
    objects = re.findall(r"<object>.*?</object>", path.read_text(), re.DOTALL)
    return [
        (
            re.search(r"<name>(.*?)</name>", one)[1],
            *(int(re.search(rf"<{side}>(\d+)<", one)[1]) for side in ("ymin", "xmin", "ymax", "xmax")),
        )
        for one in objects
    ]


def folder_in(data):
    held, _ = pipelines.behind(data.train)
    return Path(held.x["path"][0].decode()).parents[1]


def test_the_cells_are_where_their_annotations_say(cells):
    assert cells.task == "detection"
    assert cells.classes == ("Platelets", "RBC", "WBC")
    assert cells.notes == ()
    assert cells.raw_shape == (120, 160, 3)
    where, count = folder_in(cells), 0
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        found = boxes_of(cells, part)
        assert sorted(found) == [f"{one}.jpg" for one in sorted((where / f"ImageSets/Main/{name}.txt").read_text().split())]
        for name, (boxes, labels) in found.items():
            expected = read_otherwise(where / "Annotations" / name.replace(".jpg", ".xml"))
            assert labels == [label for label, *_ in expected]
            # VOC counts from 1, and a box holds its last pixel: 1..640 is a whole row of 640
            pixels = boxes * [480, 640, 480, 640] + [1, 1, 0, 0]
            np.testing.assert_allclose(pixels, [box for _, *box in expected], atol=1e-3)
            count += len(labels)
    assert count == 4888


def test_white_cells_are_blue_inside_of_their_boxes(cells):
    """The stain makes them so: if boxes were mirrored or had their axes swapped, they would lie on red cells and background."""
    bluer = []
    for x, y in pipelines.raw(cells.test).as_numpy_iterator():
        blueness = x[..., 2].astype(float) - x[..., 0]
        for box in y["boxes"][y["labels"] == cells.classes.index("WBC")]:
            (top, left), (bottom, right) = (box[:2] * [120, 160]).round().astype(int), (box[2:] * [120, 160]).round().astype(int)
            bluer.append(blueness[top:bottom, left:right].mean() - blueness.mean())
    assert len(bluer) >= 70
    assert np.mean(np.array(bluer) > 5) > 0.95


def test_examples_come_as_data_promises(cells):
    x, y = pipelines.to_arrays(cells.validation, 3)
    assert (x.dtype, x.shape, x.min() >= 0, x.max() <= 1) == (np.float32, (3, 120, 160, 3), True, True)
    most = max(len(labels) for part in ("train", "validation", "test") for _, labels in boxes_of(cells, part).values())
    assert (y["boxes"].dtype, y["boxes"].shape) == (np.float32, (3, most, 4))
    assert (y["labels"].dtype, y["labels"].shape) == (np.int32, (3, most))
    batch, of = next(iter(pipelines.training_batches(cells, tfopt.Fit(epochs=1, batch_size=8))))
    assert (batch.shape, of["boxes"].shape) == ((8, 120, 160, 3), (8, most, 4))


def test_the_same_boxes_as_coco(cells, tmp_path):
    where, ids = folder_in(cells), {name: number + 5 for number, name in enumerate(cells.classes)}
    files = {}
    for part in ("train", "validation", "test"):
        tree = {"images": [], "annotations": [], "categories": [{"id": number, "name": name} for name, number in ids.items()]}
        for number, name in enumerate(boxes_of(cells, part)):
            tree["images"].append({"id": number, "file_name": name, "width": 640, "height": 480})
            for label, top, left, bottom, right in read_otherwise(where / "Annotations" / name.replace(".jpg", ".xml")):
                box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
                tree["annotations"].append({"image_id": number, "category_id": ids[label], "bbox": box, "iscrowd": 0})
        files[part] = str(tmp_path / f"{part}.json")
        Path(files[part]).write_text(json.dumps(tree))
    data = tfopt.datasets.coco(annotations=files, images=where / "JPEGImages", size=[120, 160])
    assert (data.classes, data.notes, data.source) == (cells.classes, (), cells.source)
    for part in files:
        expected, found = boxes_of(cells, part), boxes_of(data, part)
        assert sorted(expected) == sorted(found)
        for name in expected:
            assert expected[name][1] == found[name][1]
            np.testing.assert_allclose(expected[name][0], found[name][0], atol=1e-6)


# Made sets


def jpeg(seed=0, **options):
    buffer = io.BytesIO()
    colors = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(np.kron(colors, np.ones((8, 8, 1), np.uint8))).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def xml(boxes, width=WIDTH, height=HEIGHT):
    """boxes: (label, xmin, ymin, xmax, ymax)."""
    objects = "".join(
        f"<object><name>{label}</name><difficult>1</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for label, a, b, c, d in boxes
    )
    return f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>{objects}</annotation>"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


GOOD = [("cat", 5, 9, 20, 30), ("dog", 30, 5, 60, 40)]


def voc_folder(folder, extra=None, count=20):
    """`extra`: name -> (xml, picture or None) in addition to so many good pictures."""
    for number in range(count):
        write(folder / "JPEGImages" / f"{number:03}.jpg", jpeg(number))
        write(folder / "Annotations" / f"{number:03}.xml", xml(GOOD))
    for name, (annotation, picture) in (extra or {}).items():
        if annotation is not None:
            write(folder / "Annotations" / f"{name}.xml", annotation)
        if picture is not None:
            write(folder / "JPEGImages" / f"{name}.jpg", picture)
    return folder


def voc(folder, **options):
    return tfopt.datasets.voc(folder=folder, size=SIZE, **options)


def all_boxes(data):
    return {name: one for part in ("train", "validation", "test") for name, one in boxes_of(data, part).items()}


def test_parts_are_drawn_by_seed_where_no_list_says(tmp_path):
    voc_folder(tmp_path)
    data, same, other = voc(tmp_path), voc(tmp_path), voc(tmp_path, seed=3)
    assert [len(boxes_of(data, part)) for part in ("train", "validation", "test")] == [13, 3, 4]
    assert len(all_boxes(data)) == 20
    assert list(boxes_of(data, "test")) == list(boxes_of(same, "test"))
    assert set(boxes_of(data, "test")) != set(boxes_of(other, "test"))
    assert data.fingerprint == same.fingerprint != other.fingerprint


def test_lists_with_marks_and_parts_that_are_missing(tmp_path):
    voc_folder(tmp_path / "VOCdevkit" / "VOC2012")
    lists = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    write(lists / "train.txt", "".join(f"{number:03}  1\n" for number in range(12)))
    write(lists / "val.txt", "012 -1\n013 -1\n")
    data = voc(tmp_path)
    assert set(boxes_of(data, "validation")) == {"012.jpg", "013.jpg"}
    assert len(boxes_of(data, "test")) == 2  # 20 % of those to learn from
    assert "6 annotations are in no list" in data.notes[0]


@pytest.mark.parametrize(("first_pixel", "begins", "from_zero"), [(None, 1, False), (None, 0, True), (0, 1, True), (1, 1, False)])
def test_pixels_are_counted_from_one_or_zero(tmp_path, first_pixel, begins, from_zero):
    voc_folder(tmp_path, {"edge": (xml([("cat", begins, begins, WIDTH, HEIGHT)]), jpeg(99))})
    found = all_boxes(voc(tmp_path, first_pixel=first_pixel))
    shift = 0 if from_zero else 1
    np.testing.assert_allclose(
        found["000.jpg"][0],
        [[(9 - shift) / 48, (5 - shift) / 64, 30 / 48, 20 / 64], [(5 - shift) / 48, (30 - shift) / 64, 40 / 48, 60 / 64]],
        atol=1e-6,
    )
    start = begins - shift
    np.testing.assert_allclose(found["edge.jpg"][0], [[start / 48, start / 64, 1, 1]], atol=1e-6)


def test_boxes_are_cut_off_at_the_edge_and_empty_ones_dropped(tmp_path):
    extra = {
        "over": (xml([("cat", 10, 10, WIDTH + 20, HEIGHT + 9), ("dog", 3, 3, 9, 9)]), jpeg(91)),
        "off": (xml([("cat", WIDTH + 5, 10, WIDTH + 20, 20), ("dog", 3, 3, 9, 9)]), jpeg(92)),
        "swapped": (xml([("cat", 30, 30, 10, 10)]), jpeg(93)),
    }
    data = voc(voc_folder(tmp_path, extra), first_pixel=0)
    found = all_boxes(data)
    np.testing.assert_allclose(found["over.jpg"][0][0], [10 / 48, 10 / 64, 1, 1], atol=1e-6)
    assert found["off.jpg"][1] == ["dog"]
    assert found["swapped.jpg"][1] == []
    assert len(data.notes) == 3
    assert [note for note in data.notes if "cut off at the edge in 1: over.jpg" in note]
    assert [note for note in data.notes if "left out in 2: off.jpg, swapped.jpg" in note]
    assert [note for note in data.notes if "1 pictures have no box" in note and "swapped.jpg" in note]


BAD = {
    "nan": (xml([("cat", "nan", 1, 5, 5)]), jpeg(80), "has 'nan' as bndbox/xmin"),
    "words": (xml([("cat", "left", 1, 5, 5)]), jpeg(81), "should be a number"),
    "nameless": (xml([("", 1, 1, 5, 5)]), jpeg(82), "without a name"),
    "cut": (xml(GOOD)[:-20], jpeg(83), "is no XML"),
    "laughs": ('<!DOCTYPE a [<!ENTITY a "ha">]>' + xml(GOOD), jpeg(84), "entities"),
    "alone": (xml(GOOD), None, "no picture of that name"),
    "sized": (xml(GOOD, 100, 48), jpeg(85), "64 x 48 pixels, its annotation says 100 x 48"),
    "text": (xml(GOOD), b"text", "is none of JPEG"),
    "half": (xml(GOOD), jpeg(86)[:600], "cut off"),
}


def test_what_can_not_be_read_is_left_out_and_listed(tmp_path):
    voc_folder(tmp_path, {name: (annotation, picture) for name, (annotation, picture, _) in BAD.items()})
    data = voc(tmp_path, corrupt=0.4)
    assert len(all_boxes(data)) == 20
    (note,) = data.notes
    told = {re.split(r"[. ]", one)[0]: one for one in note.partition("read: ")[2].split("; ")}
    for name, (*_, reason) in BAD.items():
        assert reason in told[name]
    with pytest.raises(DataError, match=r"9 of 29 pictures or their annotations.*corrupt = 0.05"):
        voc(tmp_path)


def test_a_picture_is_turned_only_if_its_boxes_were_drawn_on_the_turned_one(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # by a quarter
    upright = [("cat", 1, 1, HEIGHT, WIDTH // 2)]
    data = voc(
        voc_folder(tmp_path, {"turned": (xml(upright, HEIGHT, WIDTH), jpeg(70, exif=exif)), "stored": (xml(GOOD), jpeg(70, exif=exif))})
    )
    assert data.notes == ()
    np.testing.assert_allclose(all_boxes(data)["turned.jpg"][0], [[0, 0, 0.5, 1]], atol=1e-6)
    seen = {}
    for part in ("train", "validation", "test"):
        held, _ = pipelines.behind(getattr(data, part))
        x, _ = pipelines.to_arrays(pipelines.raw(getattr(data, part)))
        seen |= {Path(path.decode()).name: one.astype(float) for path, one in zip(held.x["path"], x, strict=True)}
    with Image.open(io.BytesIO(jpeg(70))) as image:
        stored = np.asarray(image.resize((SIZE[1], SIZE[0])), float)
        turned = np.asarray(image.transpose(Image.Transpose.ROTATE_270).resize((SIZE[1], SIZE[0])), float)
    assert np.abs(seen["stored.jpg"] - stored).mean() < 20 < 40 < np.abs(seen["stored.jpg"] - turned).mean()
    assert np.abs(seen["turned.jpg"] - turned).mean() < 20 < 40 < np.abs(seen["turned.jpg"] - stored).mean()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: write(folder / "a.jpg", jpeg()), "holds no Annotations"),
        (lambda folder: write(folder / "Annotations" / "a.txt", "x"), "holds no .xml files"),
        (lambda folder: (voc_folder(folder / "VOC2007"), voc_folder(folder / "VOC2012")), "several sets .VOC2007, VOC2012"),
        (
            lambda folder: write(voc_folder(folder) / "ImageSets/Main/train.txt", "nobody\n"),
            "nobody is in ImageSets, but there is no annotation",
        ),
        (
            lambda folder: [write(voc_folder(folder) / f"ImageSets/Main/{one}.txt", "000\n001\n") for one in ("train", "test")],
            "'000' is in",
        ),
        (lambda folder: voc_folder(folder, {"a": (xml([]), jpeg())}, count=0), "not one box"),
        (lambda folder: voc_folder(folder, count=2), "leave none for"),
    ],
)
def test_a_folder_that_no_data_can_be_made_of(tmp_path, made, message):
    made(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        voc(tmp_path / "data")


def test_a_class_without_a_box_to_learn_from(tmp_path):
    voc_folder(tmp_path, {"rare": (xml([("yak", 1, 1, 9, 9)]), jpeg(90))})
    lists = tmp_path / "ImageSets" / "Main"
    names = [f"{number:03}" for number in range(20)]
    write(lists / "train.txt", "\n".join(names[:14]))
    write(lists / "val.txt", "\n".join(names[14:17]))
    write(lists / "test.txt", "\n".join([*names[17:], "rare"]))
    with pytest.raises(DataError, match=r"train has no example of 'yak'"):
        voc(tmp_path)
    write(lists / "train.txt", "\n".join([*names[:14], "rare"]))
    write(lists / "test.txt", "\n".join(names[17:]))
    assert [note for note in voc(tmp_path).notes if "test has no example of 'yak'" in note]


# COCO


def coco_tree(count=20):
    images = [{"id": number, "file_name": f"{number:03}.jpg", "width": WIDTH, "height": HEIGHT} for number in range(count)]
    boxes = [{"image_id": number, "category_id": 1 + number % 2, "bbox": [4.5, 8, 16, 24]} for number in range(count)]
    return {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 2, "name": "ant"}, {"id": 1, "name": "bee"}, {"id": 9, "name": "none"}],
    }


def coco(folder, tree, count=20, **options):
    for number in range(count):
        write(folder / "photos" / f"{number:03}.jpg", jpeg(number))
    write(folder / "boxes.json", tree if isinstance(tree, str) else json.dumps(tree))
    return tfopt.datasets.coco(annotations=folder / "boxes.json", images=folder / "photos", size=SIZE, **options)


def test_coco_in_the_order_of_ids_without_crowds_and_unused_classes(tmp_path):
    tree = coco_tree()
    tree["annotations"].append({"image_id": 0, "category_id": 1, "bbox": [0, 0, 60, 40], "iscrowd": 1, "segmentation": {"counts": []}})
    data = coco(tmp_path, tree)
    assert data.classes == ("bee", "ant")
    assert [note for note in data.notes if "1 boxes are around crowds" in note]
    assert [note for note in data.notes if "no box is of 'none'" in note]
    found = all_boxes(data)
    assert len(found) == 20
    np.testing.assert_allclose(found["000.jpg"][0], [[8 / 48, 4.5 / 64, 32 / 48, 20.5 / 64]], atol=1e-6)
    assert (found["000.jpg"][1], found["001.jpg"][1]) == (["bee"], ["ant"])


def changed(place, value, number=0):
    tree = coco_tree()
    key, field = place
    tree[key][number][field] = value
    return tree


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("[1, 2", "can't be read as JSON"),
        ("[]", "should be COCO's JSON"),
        ({"images": []}, "annotations: Field required"),
        (changed(("images", "id"), 1), "have the id of another"),
        (changed(("images", "file_name"), "001.jpg"), "pictures are there twice"),
        (changed(("annotations", "image_id"), 77), "of images that it does not list, such as 77"),
        (changed(("categories", "name"), "bee"), "two categories are named 'bee'"),
    ],
)
def test_a_json_that_no_data_can_be_made_of(tmp_path, tree, message):
    with pytest.raises(DataError, match=message):
        coco(tmp_path, tree)


WRONG = [
    (("images", "file_name"), "../../etc/passwd", "leads out of the pictures' folder"),
    (("images", "file_name"), "/etc/passwd", "leads out of the pictures' folder"),
    (("images", "file_name"), "gone.jpg", "is not in the pictures' folder"),
    (("images", "width"), 63, "its annotation says 63 x 48"),
    (("annotations", "bbox"), [1, 2, 3], "[1.0, 2.0, 3.0], which should be x, y, width and height"),
    (("annotations", "bbox"), [1, 2, 3, float("nan")], "nan], which should be x, y, width and height"),
    (("annotations", "bbox"), None, "has an annotation that is wrong: bbox"),
    (("annotations", "category_id"), 55, "category 55, which there is not"),
]


def test_a_wrong_annotation_costs_its_picture_only(tmp_path):
    tree = coco_tree()
    for number, ((key, field), value, _) in enumerate(WRONG):
        tree[key][number][field] = value
    data = coco(tmp_path, tree, corrupt=0.5)
    assert set(all_boxes(data)) == {f"{number:03}.jpg" for number in range(len(WRONG), 20)}
    (note,) = [note for note in data.notes if note.startswith(f"{len(WRONG)} of 20 pictures")]
    for _, _, reason in WRONG:
        assert reason in note


def test_tables_by_part_say_what_they_lack(tmp_path):
    coco(tmp_path, coco_tree())
    file, photos = str(tmp_path / "boxes.json"), str(tmp_path / "photos")
    for boxes, images, message in (
        ({"train": file, "tets": file}, photos, "did you mean 'test'"),
        ({"test": file}, photos, "lacks train"),
        ({"train": file, "test": file}, {"train": photos}, "says nothing of test"),
    ):
        with pytest.raises(OptionError, match=message):
            tfopt.datasets.coco(annotations=boxes, images=images, size=SIZE)
    with pytest.raises(DataError, match="pictures are there twice"):
        tfopt.datasets.coco(annotations={"train": file, "test": file}, images=photos, size=SIZE)
    with pytest.raises(DataError, match="no such file"):
        tfopt.datasets.coco(annotations=str(tmp_path / "no.json"), images=photos, size=SIZE)
