"""Loading runs nothing that came in a file: a side effect is planted in each kind of file, seen to work, and seen not to happen."""

from __future__ import annotations

import io
import json
import pickle
import sys
import tempfile
import warnings
import zipfile

import h5py
import nets
import numpy as np
import pytest

import tfopt
from tfopt import _archives, backend, bridge
from tfopt.errors import DataError, UnsupportedModel
from tfopt.types import SavedModel

X = np.random.default_rng(0).random((4, 8, 8, 1), dtype="float32")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """No temporary file outlives a test's loading, good or bad."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert [path.name for path in folder.iterdir() if "autograph" not in path.name] == []  # TensorFlow's own, for code that the user gave


@pytest.fixture
def marker(tmp_path):
    """The file that what is planted makes."""
    return tmp_path / "marker"


def touching(marker):
    """A lambda that makes the marker, with no name in it that it would need from elsewhere."""
    return eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]")


def small(keras, *layers):
    return keras.Sequential(
        [keras.Input((8, 8, 1)), *layers, keras.layers.Flatten(), keras.layers.Dense(3, activation="relu", name="dense")]
    )


def written(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def keras_of(version):
    return bridge.keras3() if version == 3 else backend.keras()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """`files(version, ending)`: the bytes of a good model's file."""
    folder, made = tmp_path_factory.mktemp("files"), {}

    def bytes_of(version, ending):
        if (version, ending) not in made:
            model = small(keras_of(version))
            model.compile("sgd", "mse")
            made[version, ending] = written(model, folder / f"model{version}{ending}").read_bytes()
        return made[version, ending]

    return bytes_of


def edited(content, path, change, member="config.json"):
    """A .keras file with a changed config."""
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == member:
                tree = json.loads(data)
                change(tree)
                data = json.dumps(tree)
            new.writestr(name, data)
    return path


def edited_h5(content, path, change):
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        tree = json.loads(file.attrs["model_config"])
        change(tree)
        file.attrs["model_config"] = json.dumps(tree)
    return path


def dense(tree):
    return next(layer for layer in tree["config"]["layers"] if layer["class_name"] == "Dense")


# Python code in the file


@pytest.mark.parametrize(("version", "ending"), [(3, ".keras"), (3, ".h5"), (2, ".keras"), (2, ".h5")])
def test_a_lambda_runs_only_where_it_is_trusted(version, ending, tmp_path, marker):
    keras = keras_of(version)
    shape = {"output_shape": (8, 8, 1)} if version == 3 else {}
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Lambda(touching(marker), name="touch", **shape)], name="inner")
    path = written(small(keras, inner), tmp_path / f"model{ending}")
    expected = keras.models.load_model(path, safe_mode=False)(X)
    marker.unlink()
    with pytest.raises(UnsupportedModel, match=rf"model{ending}: holds Python code of its own \(layer 'touch'\).*--trust"):
        tfopt.load(path)
    assert not marker.exists()
    assert np.array_equal(tfopt.load(path, trust=True)(X), expected)
    assert marker.exists()


def test_a_lambda_that_hides_behind_another_key_is_found(tmp_path, files, marker):
    def change(tree):
        dense(tree)["config"] |= {"activation": "relu", "output_shape": "code", "output_shape_type": "lambda"}

    with pytest.raises(UnsupportedModel, match="Python code"):
        tfopt.load(edited_h5(files(2, ".h5"), tmp_path / "model.h5", change))

    def as_loss(tree):
        tree["compile_config"]["loss"] = {"class_name": "__lambda__", "config": {"value": "code"}}

    assert getattr(tfopt.load(edited(files(3, ".keras"), tmp_path / "model.keras", as_loss)), "optimizer", None) is None


def test_a_saved_model_with_a_lambda_stays_a_graph_until_it_is_trusted(tmp_path, marker):
    keras = backend.keras()
    path = tmp_path / "saved"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small(keras, keras.layers.Lambda(touching(marker), name="touch")).save(path, save_format="tf")
    marker.unlink()
    saved = tfopt.load(path)
    assert isinstance(saved, SavedModel) and "Python code of its own (layer 'touch')" in saved.reason
    assert not marker.exists()
    assert isinstance(tfopt.load(path, trust=True), keras.Model)
    assert marker.exists()


# Modules and functions by name


@pytest.fixture
def planted(tmp_path, monkeypatch, marker):
    """A module that makes the marker when it is imported."""
    (tmp_path / "planted_module.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nclass Dense: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "planted_module"
    sys.modules.pop("planted_module", None)


def in_model(tree, module):
    tree["module"] = module


def in_layer(tree, module):
    dense(tree)["module"] = module


def in_registered_layer(tree, module):
    dense(tree).update(module=module, registered_name="Custom>Dense", class_name="Custom>Dense")


def in_initializer(tree, module):
    dense(tree)["config"]["kernel_initializer"]["module"] = module


def in_activation(tree, module):
    dense(tree)["config"]["activation"] = {"module": module, "class_name": "function", "config": "relu", "registered_name": "relu"}


def in_build(tree, module):
    dense(tree)["build_config"] = {"input_shape": {"module": module, "class_name": "Dense", "config": {}, "registered_name": None}}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("change", [in_model, in_layer, in_registered_layer, in_initializer, in_activation, in_build])
def test_no_module_that_a_file_names_is_imported(version, change, tmp_path, files, planted, marker):
    path = edited(files(version, ".keras"), tmp_path / "model.keras", lambda tree: change(tree, planted))
    with pytest.raises(UnsupportedModel, match=r"needs .*module 'planted_module'.*give them: tfopt\.load"):
        tfopt.load(path)
    assert not marker.exists() and planted not in sys.modules


@pytest.mark.parametrize("version", [2, 3])
def test_a_name_that_was_given_is_no_way_to_a_module(version, tmp_path, files, planted, marker):
    keras = keras_of(version)

    def change(tree):
        in_initializer(tree, planted)
        dense(tree)["config"]["kernel_initializer"]["registered_name"] = "Given"
        dense(tree)["config"]["activation"] = {"module": planted, "class_name": "function", "config": "given", "registered_name": "given"}

    def linear(x):
        return x

    given = {"Given": type("Given", (keras.initializers.GlorotUniform,), {}), "given": linear}
    path = edited(files(version, ".keras"), tmp_path / "model.keras", change)
    assert tfopt.load(path, custom_objects=given).count_params() > 0
    assert not marker.exists()


def test_keras_2_itself_would_have_imported_it(tmp_path, files, planted, marker):
    path = edited(files(2, ".keras"), tmp_path / "model.keras", lambda tree: in_model(tree, planted))
    with pytest.raises(TypeError, match="Could not locate class"):
        backend.keras().models.load_model(path)
    assert marker.exists()


def test_how_a_model_is_compiled_imports_nothing_either(tmp_path, files, planted, marker, caplog):
    def change(tree):
        tree["compile_config"]["loss"] = {"module": planted, "class_name": "Dense", "config": {}, "registered_name": "my>Loss"}

    caplog.set_level("INFO", "tfopt")
    for version in (2, 3):
        model = tfopt.load(edited(files(version, ".keras"), tmp_path / "model.keras", change))
        assert getattr(model, "optimizer", None) is None
        assert "loaded without being compiled (needs 'Dense'" in caplog.text
        caplog.clear()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("version", "module", "name"),
    [
        (3, "keras.utils", "get_file"),
        (2, "keras.utils", "get_file"),
        (3, "keras.saving", "load_model"),
        (2, "builtins", "eval"),
        (2, "os", "system"),
    ],
)
def test_only_functions_that_compute_may_be_named(version, module, name, tmp_path, files):
    def change(tree):
        dense(tree)["config"]["activation"] = {"module": module, "class_name": "function", "config": name, "registered_name": name}

    with pytest.raises(UnsupportedModel, match=f"needs '{name}' \\(layer 'dense', a function of module '{module}'"):
        tfopt.load(edited(files(version, ".keras"), tmp_path / "model.keras", change))


def test_a_class_that_somebody_registered_is_not_taken_for_the_files(tmp_path, files, marker):
    for version in (2, 3):
        keras = keras_of(version)

        @keras.saving.register_keras_serializable("planted")
        class Dense(keras.layers.Dense):
            def __init__(self, *args, **kwargs):
                marker.touch()
                super().__init__(*args, **kwargs)

        path = edited(files(version, ".keras"), tmp_path / "model.keras", lambda tree: dense(tree).update(registered_name="planted>Dense"))
        with pytest.raises(UnsupportedModel, match="needs 'Dense'"):
            tfopt.load(path)
        assert not marker.exists()
        assert tfopt.load(path, custom_objects={"planted>Dense": Dense}).layers[-1].name == "dense"
        marker.unlink()


@pytest.mark.parametrize(
    "symbol", ["io.write_file", "py_function", "numpy_function", "raw_ops.WriteFile", "print", "keras.utils.get_file", "os.system"]
)
def test_operations_that_do_more_than_compute_are_refused(symbol, tmp_path):
    keras = backend.keras()
    inputs = keras.Input((8,))
    content = written(keras.Model(inputs, inputs + 1.0), tmp_path / "model.h5").read_bytes()
    assert tfopt.load(tmp_path / "model.h5")(np.zeros((1, 8))).numpy().tolist() == [[1.0] * 8]

    def change(tree):
        tree["config"]["layers"][1]["config"]["function"] = symbol

    with pytest.raises(UnsupportedModel, match=f"calls '{symbol}', which is no operation that only computes"):
        tfopt.load(edited_h5(content, tmp_path / "model.h5", change))


def test_operations_of_old_files_are_told_by_their_name(tmp_path, files):
    def change(tree):
        node = {"op": "WriteFile", "name": "write", "input": ["a", "b"], "attr": {}}
        tree["config"]["layers"].append({"class_name": "TensorFlowOpLayer", "config": {"name": "write", "node_def": node, "constants": {}}})

    with pytest.raises(UnsupportedModel, match="layer 'write' holds the operation 'WriteFile'"):
        tfopt.load(edited_h5(files(2, ".h5"), tmp_path / "model.h5", change))


@pytest.mark.parametrize("name", ["TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"])
def test_layers_that_bring_another_program_are_always_refused(name, tmp_path, files):
    def change(tree):
        dense(tree).update(class_name=name, module="keras.layers")

    path = edited(files(3, ".keras"), tmp_path / "model.keras", change)
    for trust in (False, True):
        with pytest.raises(UnsupportedModel, match=f"layer 'dense' is a {name}"):
            tfopt.load(path, trust=trust)


def test_a_vocabulary_is_not_read_from_another_file(tmp_path, files):
    def change(tree):
        dense(tree).update(class_name="StringLookup", config={"name": "words", "vocabulary": "/etc/passwd"})

    for version in (2, 3):
        with pytest.raises(UnsupportedModel, match="layer 'words' would read its vocabulary from the file '/etc/passwd'"):
            tfopt.load(edited(files(version, ".keras"), tmp_path / "model.keras", change))


def test_any_value_in_a_config_ends_in_a_sentence(tmp_path, files):
    """Each value of the config replaced by what does not belong there: nothing but UnsupportedModel comes out, or a model."""
    generator = np.random.default_rng(0)
    strange = [
        None,
        5,
        -1.5,
        "",
        "x",
        [],
        {},
        [[]],
        {"class_name": "Dense"},
        {"class_name": [], "config": 1},
        {"class_name": "function"},
        True,
    ]
    strange += [{"class_name": "Dense", "config": {}, "module": 5, "registered_name": []}, {"class_name": "__tensor__", "config": {}}]

    def places(tree):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield tree, key
            if isinstance(value, dict | list):
                yield from places(value)

    for version, ending in [(2, ".keras"), (3, ".keras"), (2, ".h5"), (3, ".h5")]:
        change_in = edited if ending == ".keras" else edited_h5
        for _ in range(25):

            def change(tree):
                where = list(places(tree))
                holder, key = where[generator.integers(len(where))]
                holder[key] = strange[generator.integers(len(strange))]

            path = change_in(files(version, ending), tmp_path / f"model{ending}", change)
            try:
                assert isinstance(tfopt.load(path), backend.keras().Model)
            except UnsupportedModel as error:
                assert str(error).startswith(str(path))


def test_a_layer_alone_is_no_model(tmp_path, files):
    for version in (2, 3):

        def change(tree):
            layer = dense(tree)
            tree.clear()
            tree.update(layer)

        with pytest.raises(UnsupportedModel):
            tfopt.load(edited(files(version, ".keras"), tmp_path / "model.keras", change))


# Pickles


class Touch:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (eval, (f"__import__('pathlib').Path({self.path!r}).touch()",))


def test_pickles_are_not_read(tmp_path, files, marker):
    weights = io.BytesIO()
    np.savez(weights, layers=np.array([Touch(marker)], dtype=object))
    for version in (2, 3):
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(io.BytesIO(files(version, ".keras"))) as old, zipfile.ZipFile(path, "w") as new:
            for name in ("config.json", "metadata.json"):
                new.writestr(name, old.read(name))
            new.writestr("model.weights.npz", weights.getvalue())
        with pytest.raises(UnsupportedModel, match=r"holds no model\.weights\.h5"):
            tfopt.load(path)
    np.save(tmp_path / "x.npy", np.array([Touch(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        tfopt.datasets.arrays(x=str(tmp_path / "x.npy"), y=np.zeros(1, "int32"))
    assert not marker.exists()
    pickle.loads(pickle.dumps(Touch(marker)))
    assert marker.exists()


# SavedModels


def exported(path, function, *, keras_model=None):
    tf = backend.tensorflow()
    module = tf.Module()
    module.predict = tf.function(function, input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")], autograph=False)
    module.variable = tf.Variable([1.0])
    tf.saved_model.save(module, str(path), signatures=module.predict)
    return path


def test_a_saved_model_that_runs_python_or_touches_files_is_refused(tmp_path, marker):
    tf = backend.tensorflow()

    def through_python(x):
        return {"y": tf.ensure_shape(tf.py_function(lambda y: (marker.touch(), y)[1], [x], tf.float32), [None, 4])}

    def writing(x):
        with tf.control_dependencies([tf.io.write_file(str(marker), "planted")]):
            return {"y": tf.identity(x)}

    def through_numpy(x):
        return {"y": tf.numpy_function(lambda y: (marker.touch(), y)[1], [x], tf.float32)}

    for number, (function, operation) in enumerate([(through_python, "EagerPyFunc"), (writing, "WriteFile"), (through_numpy, "PyFunc")]):
        path = exported(tmp_path / str(number), function)
        with pytest.raises(UnsupportedModel, match=f"holds the operation {operation} .*runs Python or touches files"):
            tfopt.load(path)
        assert not marker.exists()
        tf.saved_model.load(str(path)).signatures["serving_default"](x=tf.zeros([1, 4]))
        assert marker.exists()
        marker.unlink()


def test_operations_of_the_saver_may_not_stand_elsewhere(tmp_path, marker):
    tf = backend.tensorflow()

    def saving(x):
        with tf.control_dependencies([tf.raw_ops.SaveV2(prefix=str(marker), tensor_names=["x"], shape_and_slices=[""], tensors=[x])]):
            return {"y": tf.identity(x)}

    with pytest.raises(UnsupportedModel, match="holds the operation SaveV2"):
        tfopt.load(exported(tmp_path / "saving", saving))
    assert isinstance(tfopt.load(exported(tmp_path / "good", lambda x: {"y": 2 * x})), SavedModel)


def test_damaged_saved_models_are_refused_with_their_name(tmp_path):
    path = exported(tmp_path / "saved", lambda x: {"y": 2 * x})
    content = (path / "saved_model.pb").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\xff" * 100):
        (path / "saved_model.pb").write_bytes(damaged)
        with pytest.raises(UnsupportedModel, match="saved"):
            tfopt.load(path)
    (path / "saved_model.pb").unlink()
    with pytest.raises(UnsupportedModel, match=r"is a folder without a saved_model\.pb"):
        tfopt.load(path)


# Files that are damaged or hold more than a model


def refused(path, match):
    with pytest.raises(UnsupportedModel, match=match) as caught:
        tfopt.load(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("name", ["../outside", "/outside", "assets/../../outside", "a\\..\\outside", "C:/outside"])
def test_names_that_lead_out_of_the_archive_are_refused(name, tmp_path, files):
    path = tmp_path / "model.keras"
    for version in (2, 3):
        path.write_bytes(files(version, ".keras"))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "planted")
        refused(path, "outside of the folder")
    assert not (tmp_path / "outside").exists()


def test_a_bomb_is_told_by_what_it_claims(tmp_path, files, monkeypatch):
    monkeypatch.setattr(_archives, "HARMLESS", 2**20)  # so that the bomb need not be large
    path = tmp_path / "model.keras"
    path.write_bytes(files(3, ".keras"))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(20 * 2**20))
    refused(path, "would unpack to 2.,...,... bytes")
    path.write_bytes(files(2, ".h5"))
    with h5py.File(path, "r+") as file:
        file.create_dataset("empty", (10**12,), "float32", chunks=(1000,))
    refused(path, "would unpack to 4,000,0..,...,... bytes")
    monkeypatch.setattr(_archives, "LARGEST_CONFIG", 1000)
    refused(edited(files(3, ".keras"), path, lambda tree: tree.update(note="x" * 1000)), r"its config\.json has .* bytes")


def test_honest_files_are_far_from_the_limits(tmp_path, files):
    model = nets.randomized(nets.branching())
    for weight in model.weights:  # nothing is packed tighter than zeros
        weight.assign(weight * 0)
    path = tfopt.save(model, tmp_path / "model.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "packed.keras", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        unpacked = sum(member.file_size for member in old.infolist())
    assert unpacked < _archives.LARGEST_RATIO / 5 * (tmp_path / "packed.keras").stat().st_size
    assert np.array_equal(tfopt.load(tmp_path / "packed.keras")(X), model(X))


def test_links_and_values_in_other_files_are_refused(tmp_path, files):
    def with_link(file):
        file["link"] = h5py.ExternalLink("other.h5", "/secret")

    def with_soft_link(file):
        file["model_weights/link"] = h5py.SoftLink("/elsewhere")

    def with_external(file):
        file.create_dataset("values", (4,), "float32", external=[("/etc/passwd", 0, 16)])

    def with_virtual(file):
        layout = h5py.VirtualLayout((4,), "float32")
        layout[:] = h5py.VirtualSource("other.h5", "values", (4,))
        file.create_virtual_dataset("values", layout)

    for plant, match in [(with_link, "link"), (with_soft_link, "link"), (with_external, "another file"), (with_virtual, "another file")]:
        path = tmp_path / "model.h5"
        path.write_bytes(files(2, ".h5"))
        with h5py.File(path, "r+") as file:
            plant(file)
        refused(path, match)
        weights = tmp_path / "weights.h5"  # the same inside of a .keras
        with h5py.File(weights, "w") as file:
            file.create_group("model_weights")
            plant(file)
        with zipfile.ZipFile(io.BytesIO(files(3, ".keras"))) as old, zipfile.ZipFile(tmp_path / "model.keras", "w") as new:
            for name in old.namelist():
                new.writestr(name, weights.read_bytes() if name == "model.weights.h5" else old.read(name))
        refused(tmp_path / "model.keras", match)


def test_groups_that_hold_each_other_end(tmp_path, files):
    path = tmp_path / "model.h5"
    path.write_bytes(files(2, ".h5"))
    with h5py.File(path, "r+") as file:
        file["model_weights"]["round"] = file["/"]
    assert tfopt.load(path).count_params() > 0


@pytest.mark.parametrize(("version", "ending"), [(3, ".keras"), (3, ".h5"), (2, ".keras"), (2, ".h5")])
def test_damaged_files_are_refused_with_their_name(version, ending, tmp_path, files):
    path, content = tmp_path / f"model{ending}", files(version, ending)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    for damaged in (
        b"",
        content[:4],
        content[:100],
        content[: len(content) // 2],
        content[:-10],
        b"not a model",
        *([bytes(flipped)] * (ending == ".keras")),
    ):
        path.write_bytes(damaged)
        refused(path, "model")


def test_files_without_what_a_model_needs_say_what_is_missing(tmp_path, files):
    path = tmp_path / "model.keras"
    content = files(3, ".keras")
    for missing in ("config.json", "metadata.json", "model.weights.h5"):
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w") as new:
            for name in set(old.namelist()) - {missing}:
                new.writestr(name, old.read(name))
        refused(path, f"holds no {missing}")
    refused(edited(content, path, lambda tree: tree.clear()), "can't be read")
    refused(edited(content, path, lambda tree: tree.update(keras_version="9.0"), "metadata.json"), "its keras_version is '9.0'")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("config.json", "{")
        archive.writestr("model.weights.h5", "")
    refused(path, r"its config\.json is no valid JSON")
    backend.keras().Sequential([backend.keras().layers.Dense(1, input_shape=(2,))]).save_weights(tmp_path / "only.h5")
    refused(tmp_path / "only.h5", "holds weights but no model config")


def test_deep_configs_are_refused(tmp_path, files):
    def deep(levels):
        def change(tree):
            tree["deep"] = []
            for _ in range(levels):
                tree["deep"] = [tree["deep"]]

        return change

    refused(edited(files(3, ".keras"), tmp_path / "model.keras", deep(300)), "nested deeper than 250 levels")
    text = "[" * 100_000 + "]" * 100_000
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, inner in {"config.json": text, "metadata.json": '{"keras_version": "3.0.0"}', "model.weights.h5": ""}.items():
            archive.writestr(name, inner)
    refused(tmp_path / "model.keras", r"its config\.json is nested deeper")


def test_reading_changes_nothing_beside_the_file(tmp_path, files):
    folder = tmp_path / "models"
    folder.mkdir()
    for version, ending in [(3, ".keras"), (3, ".h5"), (2, ".keras"), (2, ".h5")]:
        (folder / f"model{version}{ending}").write_bytes(files(version, ending))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for path in before:
        path.chmod(0o444)
    folder.chmod(0o555)
    for path in before:
        assert tfopt.load(path).count_params() > 0
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
