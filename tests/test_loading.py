"""Model files: whatever wrote them, the model comes back as it was."""

from __future__ import annotations

import shutil
import warnings
import zipfile

import h5py
import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge, runtime
from tfopt.errors import OptionError, UnsupportedModel
from tfopt.types import Artifact, SavedModel, TensorSpec

X = np.random.default_rng(0).random((4, 8, 8, 1), dtype="float32")


def net3(*layers):
    """A Keras 3 model with an operation and a model inside, its weights random."""
    keras = bridge.keras3()
    inner = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.BatchNormalization(), keras.layers.ReLU()], name="inner")
    inputs = keras.Input((8, 8, 1), name="image")
    x = inner(keras.layers.Conv2D(4, 3, name="conv")(inputs))
    x = keras.ops.relu6(2 * x + 1)
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="dense")(keras.layers.Flatten()(x)), name="net3")
    generator = np.random.default_rng(1)
    model.set_weights([generator.uniform(0.3, 1.0, weight.shape) for weight in model.weights])
    return model


def written(model, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path, **options)
    return path


def close(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() < 1e-5


@pytest.mark.parametrize(("ending", "options"), [(".h5", {}), (".keras", {}), (".keras", {"keras": 2})])
@pytest.mark.parametrize("build", [nets.branching, nets.sequential])
def test_a_model_comes_back_as_it_was(tmp_path, ending, options, build):
    model = nets.randomized(build())
    path = tfopt.save(model, tmp_path / f"model{ending}", **options)
    assert close(tfopt.load(path)(X), model(X))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_keras_file_is_one_of_keras_3_unless_it_is_asked_for_otherwise(tmp_path):
    model = nets.randomized(nets.sequential())
    tfopt.save(model, tmp_path / "three.keras")
    tfopt.save(model, tmp_path / "two.keras", keras=2)
    assert close(bridge.keras3().models.load_model(tmp_path / "three.keras")(X), model(X))
    assert close(backend.keras().models.load_model(tmp_path / "two.keras")(X), model(X))
    with pytest.raises(OptionError, match="keras = 4: should be 3 or 2"):
        tfopt.save(model, tmp_path / "four.keras", keras=4)


def test_a_keras_3_model_comes_in_and_goes_out(tmp_path):
    model = net3()
    assert isinstance(tfopt.load(model), backend.keras().Model) and close(tfopt.load(model)(X), model(X))
    for path in (
        tfopt.save(model, tmp_path / "a.keras"),
        tfopt.save(model, tmp_path / "a.h5"),
        tfopt.save(model, tmp_path / "b.keras", keras=2),
    ):
        loaded = tfopt.load(path)
        assert isinstance(loaded, backend.keras().Model) and close(loaded(X), model(X))


def test_how_a_model_is_compiled_comes_along(tmp_path):
    for keras in (bridge.keras3(), backend.keras()):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        model.compile(keras.optimizers.SGD(0.25, momentum=0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
        for ending in (".keras", ".h5"):
            loaded = tfopt.load(written(model, tmp_path / f"model{ending}"))
            if keras is bridge.keras3() and ending == ".h5":
                continue  # Keras 3 itself can't say there which of its losses it was
            assert type(loaded.optimizer).__name__ == "SGD"
            loss = getattr(loaded.loss, "__name__", loaded.loss)
            assert (float(loaded.optimizer.learning_rate), loss) == (0.25, "sparse_categorical_crossentropy")
            loss, accuracy = loaded.evaluate(np.ones((4, 4)), np.zeros(4), verbose=0)
            assert loss > 0 and accuracy in (0, 1)


def test_a_missing_loss_leaves_the_model_uncompiled_and_is_said(tmp_path, caplog):
    caplog.set_level("INFO", "tfopt")
    for keras in (bridge.keras3(), backend.keras()):

        def mine(truth, predicted, keras=keras):
            return keras.losses.MeanSquaredError()(truth, predicted)

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", mine)
        path = written(model, tmp_path / "model.keras")
        assert getattr(tfopt.load(path), "optimizer", None) is None
        assert "loaded without being compiled (needs 'mine'" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("version", [2, 3])
def test_layers_of_ones_own_are_named_and_can_be_given(tmp_path, ending, version):
    keras = backend.keras() if version == 2 else bridge.keras3()

    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    def steep(x):
        return 3 * x

    activation = "relu" if (version, ending) == (2, ".h5") else steep  # tf_keras 2.21 can't read its own there: "Unknown activation"
    layers = [
        keras.Input((8, 8, 1)),
        Twice(name="twice"),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation=activation, name="dense"),
    ]
    model = keras.Sequential(layers)
    path = written(model, tmp_path / f"model{ending}")
    with pytest.raises(UnsupportedModel, match=r"needs .*'Twice' \(layer 'twice'.*custom_objects=") as caught:
        tfopt.load(path)
    assert activation == "relu" or "'steep' (layer 'dense'" in str(caught.value)
    assert close(tfopt.load(path, custom_objects={"Twice": Twice, "steep": steep})(X), model(X))


def test_custom_objects_are_names_of_things_to_call():
    for wrong in ([], {"a": 5}, {5: print}):
        with pytest.raises(OptionError, match=r"custom_objects = .*: should be a dict from names to classes or functions"):
            tfopt.load("mine.keras", custom_objects=wrong)


def test_a_files_kind_is_told_by_its_content(tmp_path):
    model = nets.sequential()
    for name in ("really_h5.keras", "no_ending", "model.hdf5", "Model.H5"):
        shutil.copy(tfopt.save(model, tmp_path / "model.h5"), tmp_path / name)
        assert close(tfopt.load(tmp_path / name)(X), model(X))
    shutil.copy(tfopt.save(net3(), tmp_path / "model.keras"), tmp_path / "really_keras.h5")
    assert close(tfopt.load(tmp_path / "really_keras.h5")(X), net3()(X))


def test_wrappers_of_tfmot_are_known(tmp_path):
    tfmot = backend.tfmot()
    start = tfmot.clustering.keras.CentroidInitialization.LINEAR
    wrapped = {
        "quantized": tfmot.quantization.keras.quantize_model(nets.sequential()),
        "pruned": tfmot.sparsity.keras.prune_low_magnitude(
            nets.sequential(), pruning_schedule=tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 10)
        ),
        "clustered": tfmot.clustering.keras.cluster_weights(nets.sequential(), number_of_clusters=4, cluster_centroids_init=start),
    }
    for name, model in wrapped.items():
        assert close(tfopt.load(tfopt.save(model, tmp_path / f"{name}.h5"))(X), model(X))
    with pytest.raises(UnsupportedModel, match=r"can't be read back from \.keras; save it as quantized\.h5"):
        tfopt.save(wrapped["quantized"], tmp_path / "quantized.keras")


def test_modules_that_have_moved_since_are_found(tmp_path):
    path = tfopt.save(nets.randomized(nets.branching()), tmp_path / "new.keras", keras=2)
    with zipfile.ZipFile(path) as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:  # as Keras 2.12 wrote it
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b'"tf_keras.src.', b'"keras.').replace(b'"keras.src.', b'"keras.'))
    assert b'"keras.engine.functional"' in zipfile.ZipFile(tmp_path / "old.keras").read("config.json")
    assert close(tfopt.load(tmp_path / "old.keras")(X), tfopt.load(path)(X))


def test_files_without_a_version_are_older_than_those_with_one(tmp_path):
    model = nets.randomized(nets.sequential())
    path = tfopt.save(model, tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"]
    assert close(tfopt.load(path)(X), model(X))


# SavedModels and .tflite files


def test_a_saved_model_of_keras_2_becomes_a_model_again(tmp_path):
    for build in (nets.branching, nets.sequential):
        model = nets.randomized(build())
        model.compile("adam", "mse")
        loaded = tfopt.load(written(model, tmp_path / model.name, save_format="tf"))
        assert isinstance(loaded, backend.keras().Model) and close(loaded(X), model(X))


def test_a_saved_model_without_layers_is_a_graph_with_a_signature(tmp_path):
    model = net3()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(tmp_path / "graph", verbose=False)
    saved = tfopt.load(tmp_path / "graph")
    assert isinstance(saved, SavedModel) and saved.name == "graph"
    assert (saved.signature, saved.inputs) == ("serving_default", (TensorSpec("image", (None, 8, 8, 1), "float32"),))
    assert saved.outputs[0].shape == (None, 3)
    assert tfopt.load(saved) is saved
    assert close(runtime.Session(tfopt.convert(saved)).run(X), model(X))


def test_a_subclassed_model_stays_a_graph_and_says_why(tmp_path):
    keras = backend.keras()

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    saved = tfopt.load(written(model, tmp_path / "subclassed", save_format="tf"))
    assert isinstance(saved, SavedModel) and "subclassed" in saved.reason


def test_what_is_no_keras_model_can_not_be_trained(tmp_path, digits):
    saved = SavedModel(tmp_path / "graph", "serving_default", (), (), "it holds a graph of operations")
    for model, reason in (
        (saved, "graph: can't be trained or changed: it holds a graph"),
        (Artifact("net", "int8", b""), "net: is a .tflite"),
    ):
        for verb in (
            lambda it: tfopt.train(it, digits, tfopt.Fit()),
            lambda it: tfopt.prune(it, digits),
            lambda it: tfopt.quantize_aware(it, digits),
        ):
            with pytest.raises(UnsupportedModel, match=reason):
                verb(model)
        with pytest.raises(UnsupportedModel, match="expected a tf_keras or Keras 3 model to save"):
            tfopt.save(model, tmp_path / "model.h5")


def test_a_tflite_is_an_artifact(tmp_path):
    artifact = tfopt.convert(nets.sequential(), name="mine")
    loaded = tfopt.load(artifact.save(tmp_path / "mine.tflite"))
    assert (loaded.name, loaded.content) == ("mine", artifact.content)


def test_models_that_others_made(models_folder):
    """The reference models of MLPerf Tiny: a .h5 of Keras 2.3, and a SavedModel of TensorFlow 2.3, whose depthwise layers have `groups`."""
    resnet = tfopt.load(models_folder("mlperf_tiny/image_classification/pretrainedResnet.h5"))
    x = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("float32")
    session = runtime.Session(models_folder("mlperf_tiny/image_classification/pretrainedResnet.tflite"))
    assert np.abs(session.run(x) - resnet(x).numpy()).max() < 1e-4
    folder = models_folder("mlperf_tiny/keyword_spotting/kws_ref_model")
    dscnn, x = tfopt.load(folder), 10 * np.random.default_rng(0).normal(size=(8, 49, 10, 1)).astype("float32")
    graph = backend.tensorflow().saved_model.load(str(folder)).signatures["serving_default"]
    (expected,) = graph(backend.tensorflow().constant(x)).values()
    assert isinstance(dscnn, backend.keras().Model) and np.array_equal(dscnn(x), expected)


# What goes wrong


def test_what_is_no_model_file_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="no such file"):
        tfopt.load(tmp_path / "none.h5")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(UnsupportedModel, match=r"model\.onnx: is damaged or no model, by its first bytes; expected a \.keras or \.h5 file"):
        tfopt.load(tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModel, match="is a folder without a saved_model"):
        tfopt.load(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"expected a path, a Keras 3 model or a tf_keras model, got builtins\.int"):
        tfopt.load(5)
    with pytest.raises(UnsupportedModel, match=r"\.keras or \.h5"):
        tfopt.save(nets.sequential(), tmp_path / "model")


def test_a_subclassed_keras_3_model_says_what_to_do(tmp_path):
    keras = bridge.keras3()

    class Subclassed(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    with pytest.raises(UnsupportedModel, match=r"model\.keras: .* is a subclassed model"):
        tfopt.load(written(model, tmp_path / "model.keras"), custom_objects={"Subclassed": Subclassed})


def test_saving_where_nothing_can_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        tfopt.save(nets.sequential(), tmp_path / "file" / "model.h5")


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_activations_that_keras_2_knows_but_does_not_list_are_loaded(ending, tmp_path):
    keras = backend.keras()
    layers = [keras.layers.Dense(4, activation=name) for name in ("relu6", "leaky_relu", "silu", "log_softmax")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    tfopt.save(model, tmp_path / f"model{ending}", keras=2)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    assert np.array_equal(model(x), tfopt.load(tmp_path / f"model{ending}")(x))


def test_a_lambda_for_an_activation_is_neither_written_to_h5_nor_read_from_it(tmp_path):
    keras = backend.keras()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation=lambda x: x * 2, name="twice")])
    with pytest.raises(UnsupportedModel, match=r"'twice': its activation is a lambda.*with def"):
        tfopt.save(model, tmp_path / "model.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Keras's, that .h5 is old and a lambda unsafe
        model.save(tmp_path / "keras.h5")
    for trust in (False, True):
        with pytest.raises(UnsupportedModel, match="'twice' has a lambda for activation"):
            tfopt.load(tmp_path / "keras.h5", trust=trust)
