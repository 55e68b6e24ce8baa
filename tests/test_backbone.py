"""Backbones: they compute what Keras's nets compute, their weights come from files, and layers are frozen and thawed."""

from __future__ import annotations

import inspect
import sys
import tomllib
import warnings

import h5py
import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge, models, pipeline, pipelines, recipes, reporting, runtime
from tfopt.errors import OptionError, RecipeError, UnsupportedModel
from tfopt.models.backbone import NETS

SHAPE = (96, 96, 3)
SMALL = {"net": "MobileNetV2", "alpha": 0.35}


def application(name, shape=SHAPE, **given):
    """Keras's own net without its top, with weights that keep its values in scale, and what it takes of images of 0 to 255."""
    build = getattr(backend.keras().applications, name)
    net = build(**{"weights": None, "include_top": False, "input_shape": shape, **given})
    return net, sys.modules[build.__module__].preprocess_input


def images(shape=SHAPE, count=2):
    return np.random.default_rng(0).random((count, *shape), dtype=np.float32)


def features(model, x):
    """What goes into the head."""
    return backend.keras().Model(model.inputs, model.get_layer("average").output)(x, training=False).numpy()


def features_of(net, prepare, x):
    return net(prepare(255 * x), training=False).numpy().mean((1, 2))


def close(a, b):
    return np.abs(a - b).max() < 1e-4 * np.abs(b).max() and b.std() > 1e-3 * np.abs(b).max()


def written(net, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that .h5 is old
        net.save(path)
    return path


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """Keras's MobileNetV2 0.35 without its top, its features of `images()`, and a file of its weights."""
    net, prepare = application("MobileNetV2", alpha=0.35)
    nets.scaled(net, prepare(255 * images()))
    path = tmp_path_factory.mktemp("weights") / "notop.h5"
    net.save_weights(path)
    return net, features_of(net, prepare, images()), path


# Nets


def test_the_names_are_those_of_keras():
    applications = backend.keras().applications
    assert list(NETS) == sorted(name for name, it in vars(applications).items() if inspect.isfunction(it) and name[0].isupper())


def test_a_name_may_be_small_and_a_wrong_one_gets_the_nearest():
    assert models.backbone((32, 32, 3), 2, net="mobilenet", alpha=0.25).name == "MobileNet"
    with pytest.raises(OptionError, match=r"net = 'mobilnetv2': no net of tf_keras.applications; did you mean 'MobileNetV2'"):
        models.backbone((32, 32, 3), 2, net="mobilnetv2")


def test_a_net_without_alpha_takes_none():
    with pytest.raises(OptionError, match=r"alpha = 0.5: VGG16 has none"):
        models.backbone((32, 32, 3), 2, net="VGG16", alpha=0.5)


def test_names_do_not_depend_on_what_was_built_before_nor_change_what_comes_after():
    layers = backend.keras().layers
    layers.Conv2D(1, 1)
    before = int(layers.Conv2D(1, 1).name.rpartition("_")[2])
    first = models.backbone((32, 32, 3), 2, net="MobileNet", alpha=0.25)
    assert int(layers.Conv2D(1, 1).name.rpartition("_")[2]) == before + 1
    assert [layer.name for layer in first.layers[:3]] == ["input", "preprocessing", "conv1"]
    assert first.layers[-4].name == "conv_pw_13_relu"


# One of each kind: of preprocessing (VGG16 and ResNet50 in the order blue, green, red), of names (numbered, by a counter of blocks), with
# operations, with models inside.
FAMILIES = ["ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "InceptionV3", "MobileNetV3Small", "RegNetY002", "ResNet50", "ResNetRS50"]


@pytest.mark.parametrize("name", ["VGG16", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_a_backbone_computes_what_keras_computes_of_its_preprocessed_images(name, tmp_path):
    """In each family's own order of colors and scale, under fixed names, and once more after it was saved."""
    shape = (80, 80, 3)
    net, prepare = application(name, shape)
    with np.errstate(over="ignore"):
        nets.scaled(net, prepare(255 * images(shape)))
    net.save_weights(tmp_path / "notop.h5")
    model = models.backbone(shape, 5, net=name, weights=tmp_path / "notop.h5")
    assert close(features(model, images(shape)), features_of(net, prepare, images(shape)))
    again = models.backbone(shape, 5, net=name, weights=str(tmp_path / "notop.h5"))
    assert [weight.name for weight in model.weights] == [weight.name for weight in again.weights]
    assert not any("Lambda" in type(layer).__name__ or hasattr(layer, "layers") for layer in model.layers)
    loaded = tfopt.load(tfopt.save(model, tmp_path / "saved.h5"))
    assert close(features(loaded, images(shape)), features(model, images(shape)))
    if name != "ConvNeXtTiny":  # whose inner models were laid open
        whole = models.backbone(shape, 5, net=name, weights=tmp_path / "saved.h5")
        assert close(features(whole, images(shape)), features(model, images(shape)))


@pytest.mark.slow
def test_efficientnets_weights_of_imagenet_hold_standard_deviations(tmp_path):
    """Keras's file has them in the place of variances, and its own net divides by their roots once more."""
    shape, means, deviations = (64, 64, 3), np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    net, _ = application("EfficientNetB0", shape)
    norm = net.get_layer(next(layer.name for layer in net.layers if type(layer).__name__ == "Normalization"))
    norm.set_weights([means, deviations**2, 0])
    nets.scaled(net, 255 * images(shape))
    expected = features_of(net, lambda x: x, images(shape))
    norm.set_weights([means, deviations, 0])
    net.save_weights(tmp_path / "imagenet.h5")
    assert not close(features_of(net, lambda x: x, images(shape)), expected)
    assert close(features(models.backbone(shape, 5, net="EfficientNetB0", weights=tmp_path / "imagenet.h5"), images(shape)), expected)


# Weights


def test_weights_come_from_a_file_of_any_kind(mobilenet, tmp_path):
    net, expected, notop = mobilenet
    keras = backend.keras()
    x = keras.layers.GlobalAveragePooling2D()(net.output)
    whole = written(keras.Model(net.input, keras.layers.Dense(1000, name="predictions")(x)), tmp_path / "whole.h5")
    own = tfopt.save(models.backbone(SHAPE, 4, weights=notop, **SMALL), tmp_path / "own.h5")
    for path in (notop, whole, own):
        assert close(features(models.backbone(SHAPE, 4, weights=path, **SMALL), images()), expected)


def test_a_file_of_another_net_is_refused_by_layer_and_shapes(mobilenet, tmp_path):
    path = mobilenet[2]
    with pytest.raises(OptionError, match=r"notop.h5': does not fit MobileNetV2 .*'Conv1' needs \(3, 3, 3, 32\), 'Conv1' in the file has "
                       r"\(3, 3, 3, 16\); give the file of this net, or change net or alpha"):  # fmt: skip
        models.backbone(SHAPE, 4, weights=path, net="MobileNetV2")
    with pytest.raises(OptionError, match=r"'block1_conv1' needs \(3, 3, 3, 64\) and \(64,\), 'Conv1' in the file has \(3, 3, 3, 16\);"):
        models.backbone(SHAPE, 4, weights=path, net="VGG16")
    few, _ = application("MobileNetV2", alpha=0.35)
    half = backend.keras().Model(few.input, few.get_layer("block_3_expand").output)
    half.save_weights(tmp_path / "half.h5")
    with pytest.raises(OptionError, match="holds 19 layers with weights, MobileNetV2 without its top has 104"):
        models.backbone(SHAPE, 4, weights=tmp_path / "half.h5", **SMALL)


def test_a_file_that_holds_no_weights_of_keras_2_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"none.h5': no such file; give a .h5 file with the weights of MobileNetV2, or 'imagenet'"):
        models.backbone(SHAPE, 4, weights=tmp_path / "none.h5", **SMALL)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(UnsupportedModel, match=r"text.h5: can't be read"):
        models.backbone(SHAPE, 4, weights=tmp_path / "text.h5", **SMALL)
    keras3 = bridge.keras3()
    keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(3)]).save_weights(tmp_path / "three.weights.h5")
    with pytest.raises(UnsupportedModel, match=r"three.weights.h5: holds no weights by layer, as Keras 2 writes them; .*save_weights"):
        models.backbone(SHAPE, 4, weights=tmp_path / "three.weights.h5", **SMALL)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(UnsupportedModel, match="is a link to somewhere else"):
        models.backbone(SHAPE, 4, weights=tmp_path / "link.h5", **SMALL)


def test_without_a_network_imagenet_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # where Keras keeps what it has downloaded
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(OptionError, match=r"weights = 'imagenet': MobileNetV2: URL fetch failure on https://.*give the .h5 file"):
        models.backbone(SHAPE, 4, weights="imagenet", **SMALL)


# Freezing


def thawed_in(model):
    """The layers with weights that are trained."""
    return {layer.name for layer in model.layers if layer.trainable_weights}


def test_as_many_layers_are_frozen_as_is_asked_for():
    def frozen(value):
        model = models.backbone((32, 32, 3), 3, net="MobileNet", alpha=0.25, frozen=value)
        return [layer.name for layer in model.layers if layer.weights and not layer.trainable]

    every = frozen(True)
    assert len(every) == 54 and every[:2] == ["conv1", "conv1_bn"] and every[-1] == "conv_pw_13_bn"
    assert frozen(0.5) == every[:27] and frozen(1) == every[:1] and frozen(1000) == every
    assert frozen(False) == []


@pytest.fixture(scope="module")
def shapes(digits):
    """120 digits as RGB images of 32 x 32 pixels."""
    x, y = pipelines.to_arrays(digits.train)
    return tfopt.datasets.arrays(x=np.repeat(np.kron(x[:120], np.ones((1, 4, 4, 1))), 3, axis=3).astype(np.float32), y=y[:120])


def arrays(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def changed(before, after):
    return {name for name in before if not all(np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True))}


def test_frozen_layers_stay_as_they_are_until_they_are_thawed(shapes):
    """BatchNorms stay for good: gamma and beta, and the moving averages."""
    fit = tfopt.Fit(epochs=1, batch_size=32, learning_rate=1e-3)
    with backend.seeded(0):
        model = models.backbone(shapes.input_shape, shapes.num_classes, net="MobileNet", alpha=0.25, frozen=True)
    nets.scaled(model, images((32, 32, 3), 16))
    head = tfopt.train(model, shapes, fit)
    assert changed(arrays(model), arrays(head)) == {"logits"}
    some = tfopt.train(tfopt.unfreeze(head, 3), shapes, fit)
    assert changed(arrays(head), arrays(some)) == {"conv_dw_13", "conv_pw_13", "conv_pw_12", "logits"}


@pytest.fixture
def frozen():
    """Three convolutions and a depthwise one, the first with a BatchNorm, all frozen, and a head."""
    layers = backend.keras().layers
    x = inputs = backend.keras().Input((8, 8, 1), name="input")
    for layer in (
        layers.Conv2D(4, 3, name="conv1"),
        layers.BatchNormalization(name="conv1_bn"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Conv2D(4, 3, name="conv2"),
        layers.Conv2D(4, 1, name="conv3"),
    ):
        layer.trainable = False
        x = layer(x)
    x = layers.Dense(10, name="logits")(layers.Flatten(name="flatten")(x))
    return nets.randomized(backend.keras().Model(inputs, x, name="frozen"))


def test_a_recipe_trains_the_head_and_then_what_it_thaws(frozen, tmp_path):
    frozen.save(tmp_path / "frozen.keras")
    recipe = {
        "name": "transfer",
        "data": {"use": "digits"},
        "model": {"path": str(tmp_path / "frozen.keras")},
        "fit": {"epochs": 1},
        "unfreeze": {"layers": 1, "fit": {"epochs": 2, "learning_rate": 1e-4}},
        "export": {"formats": ["float32"]},
    }
    report = tfopt.run(recipe, out=tmp_path / "run")
    assert [(entry["name"], len(entry["history"]["loss"])) for entry in report.trace if entry["kind"] == "curve"] == [
        ("train", 1),
        ("unfreeze", 2),
    ]
    assert report.rows[0].artifact.steps == ("train", "unfreeze")
    trained, thawed = (tfopt.load(tmp_path / "run" / "models" / f"{name}.h5") for name in ("train", "unfreeze"))
    assert changed(arrays(frozen), arrays(trained)) == {"logits"}
    assert changed(arrays(trained), arrays(thawed)) == {"conv3", "logits"}
    assert reporting.load(tmp_path / "run").recipe == report.recipe
    assert recipes.parse(tomllib.loads(recipes.write(report.recipe)), source="mine") == report.recipe


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (30, "unfreeze: should be a table that says how to train on"),
        ({"layers": 30}, "unfreeze: should be a table that says how to train on"),
        ({"layers": 1.5, "fit": {}}, "unfreeze.layers = 1.5: should be"),
        ({"layers": 0, "fit": {}}, "unfreeze.layers = 0: should be how many, at least 1, names, or all"),
        ({"layers": [], "fit": {}}, "unfreeze.layers = .*: should be how many"),
        ({"layers": 1, "fit": {"epochs": 0}}, "unfreeze.fit.epochs = 0: should be"),
        ({"layer": 1, "fit": {}}, "unfreeze.layer: unknown key"),
    ],
)
def test_a_wrong_second_phase_is_refused_before_anything_starts(value, message):
    with pytest.raises(RecipeError, match=message):
        tfopt.run({"name": "x", "data": {"use": "digits"}, "model": {"use": "mlp"}, "unfreeze": value})


def test_layers_to_thaw_that_are_not_there_are_told_before_the_first_phase(tmp_path, monkeypatch):
    monkeypatch.setattr("tfopt.training.train", lambda *_, **__: pytest.fail("it was trained"))
    recipe = {
        "name": "x",
        "data": {"use": "digits"},
        "model": {"use": "mlp"},
        "unfreeze": {"layers": "nosuch*", "fit": {"epochs": 1}},
    }
    with pytest.raises(OptionError, match="unfreeze: no layer of 'mlp' is frozen"):
        tfopt.run(recipe, out=tmp_path / "run")


def test_unfreeze_gives_a_copy_and_leaves_the_model_as_it_is(frozen):
    thawed = tfopt.unfreeze(frozen)
    assert thawed_in(thawed) == {"conv1", "depthwise", "conv2", "conv3", "logits"}  # but no BatchNorm
    assert thawed_in(frozen) == {"logits"}
    x = images((8, 8, 1))
    assert np.array_equal(thawed(x), frozen(x))


def test_what_is_thawed_can_be_told_by_number_name_class_and_function(frozen):
    def thawed(layers):
        return thawed_in(tfopt.unfreeze(frozen, layers)) - {"logits"}

    assert thawed(1) == {"conv3"}
    assert thawed_in(tfopt.unfreeze(tfopt.unfreeze(frozen, 1), 2)) == {"conv3", "conv2", "depthwise", "logits"}
    assert thawed("conv*") == {"conv1", "conv2", "conv3"} and thawed(["conv1", "depth*"]) == {"conv1", "depthwise"}
    assert thawed("DepthwiseConv2D") == {"depthwise"}
    assert thawed(lambda layer: layer.name == "conv2") == {"conv2"}


def test_layers_of_models_inside_a_model_are_thawed():
    keras = backend.keras()
    inner = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, name="first", input_shape=(8, 8, 1)),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Conv2D(4, 3, name="last"),
        ],
        name="inner",
    )
    inner.trainable = False
    model = keras.Sequential([keras.Input((8, 8, 1)), inner, keras.layers.Flatten(), keras.layers.Dense(10, name="logits")])
    assert [weight.name.split("/")[-2] for weight in model.trainable_weights] == ["logits"] * 2
    for layers in (1, "inner/last", "last"):
        thawed = tfopt.unfreeze(model, layers)
        assert {weight.name.split("/")[-2] for weight in thawed.trainable_weights} == {"last", "logits"}
    thawed = tfopt.unfreeze(model, "inner")
    assert {weight.name.split("/")[-2] for weight in thawed.trainable_weights} == {"first", "last", "logits"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("nothing*", "layers = 'nothing\\*': no layer has this name or class"),
        ("logits", "layers = 'logits': none of these is frozen; frozen are \\['conv1', "),
        (lambda layer: False, "none of these is frozen"),
        (0, "layers = 0: should be from 1 to 4, the layers that are frozen"),
        (5, "layers = 5: should be from 1 to 4"),
        (True, "layers = True: should be 'all', a number of layers, names, or a function"),
        (0.5, "layers = 0.5: should be 'all'"),
    ],
)
def test_a_wish_to_thaw_that_can_not_be_fulfilled_is_refused(frozen, layers, message):
    with pytest.raises(OptionError, match=message):
        tfopt.unfreeze(frozen, layers)


def test_a_model_without_frozen_layers_is_refused():
    with pytest.raises(OptionError, match="no layer of 'sequential' is frozen"):
        tfopt.unfreeze(nets.sequential())


# To int8

TO_INT8 = ["MobileNet", "EfficientNetB0", "MobileNetV2", "MobileNetV3Small", "VGG16"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TO_INT8)
def test_a_backbone_becomes_int8_with_its_preprocessing(name, shapes):
    alpha = {"alpha": 0.25} if name == "MobileNet" else {}
    model = models.backbone(shapes.input_shape, shapes.num_classes, net=name, frozen=True, activation="linear", **alpha)
    x = pipelines.to_arrays(shapes.test)[0]
    nets.scaled(model, pipelines.to_arrays(shapes.train)[0][:32])
    artifact = tfopt.convert(tfopt.quantize_aware(model, shapes), "int8")
    measured = tfopt.measure(artifact)
    assert measured.int8_operations and not measured.float_operations
    assert np.corrcoef(runtime.Session(artifact).run(x).ravel(), model.predict(x, verbose=0).ravel())[0, 1] > 0.97


def test_a_run_knows_weights_by_what_is_in_their_file(tmp_path):
    def identity(place, content):
        (tmp_path / place).write_bytes(content)
        return pipeline._identity(tfopt.types.Call("backbone", {"net": "MobileNetV2", "weights": str(tmp_path / place)}))

    assert identity("one.h5", b"a") == identity("moved.h5", b"a") != identity("one.h5", b"b")
