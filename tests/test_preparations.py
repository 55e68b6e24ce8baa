"""Laws that all preparations of tables, series and images keep: an app that does the same to one example at a time gets the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import datasets as bundled

from tfopt import backend, options, runtime
from tfopt.errors import OptionError
from tfopt.preprocessing import LEARNERS, PREPARATIONS, applied, calls, cleaning, colors, contrast, filtering, learned, projecting, scaling

MODULES = (cleaning, colors, contrast, filtering, projecting, scaling)
MINE = sorted(name for name, function in PREPARATIONS.items() if function.__module__ in {module.__name__ for module in MODULES})

# By step: what it is tried on, its options, and the shape of an example that comes out, where that is another.
CASES = {
    "binarize": ("gray", {}, None),
    "contrast_stretch": ("rgb", {}, None),
    "fill_missing": ("gaps", {"how": "median"}, None),
    "gaussian_filter": ("rgb", {"sigma": 1.5}, None),
    "gray_to_rgb": ("gray", {}, (8, 8, 3)),
    "histogram_equalization": ("rgb", {}, None),
    "hsv_to_rgb": ("rgb", {}, None),
    "interpolate_missing": ("gaps", {}, None),
    "l1_normalize": ("gray", {}, None),
    "l2_normalize": ("gray", {}, None),
    "lab_to_rgb": ("lab", {}, None),
    "mean_filter": ("rgb", {"size": 5}, None),
    "median_filter": ("rgb", {}, None),
    "min_max": ("gray", {"per": "channel"}, None),
    "non_local_means": ("rgb", {"patch_size": 3, "patch_distance": 2}, None),
    "one_hot": ("indices", {"depth": 7}, (5, 7)),
    "pca": ("gray", {"components": 9, "whiten": True}, (9,)),
    "rescale": ("bytes", {}, None),
    "rgb_to_gray": ("rgb", {}, (10, 12, 1)),
    "rgb_to_hsv": ("rgb", {}, None),
    "rgb_to_lab": ("rgb", {}, None),
    "rgb_to_yiq": ("rgb", {}, None),
    "rgb_to_yuv": ("rgb", {}, None),
    "whiten": ("gray", {"epsilon": 0.01}, None),
    "yiq_to_rgb": ("rgb", {}, None),
    "yuv_to_rgb": ("rgb", {}, None),
    "z_score": ("gray", {}, None),
}
# More of those that other input or options lead through other operations.
MORE = {
    "fill_missing constant": ("gaps", {"how": "constant", "value": -2.5}, None),
    "gaussian_filter series": ("long", {"sigma": 0.7}, None),
    "interpolate_missing several": ("several", {}, None),
    "mean_filter series": ("long", {}, None),
    "median_filter series": ("long", {"size": 5}, None),
    "min_max all": ("rgb", {"per": "all"}, None),
    "whiten pca": ("gray", {"method": "pca", "epsilon": 0.01}, (40,)),
    "z_score channel": ("rgb", {"per": "channel"}, None),
}
ALL = {**CASES, **MORE}
# What has no operation in TFLite, and why.
NO_TFLITE = {"non_local_means": "it is Python code"}


def test_all_preparations_are_tried():
    assert sorted(CASES) == MINE


@pytest.fixture(scope="module")
def inputs():
    """Batches of 40 real examples of every kind, those that are alike in nothing but their shape among them."""
    digits = bundled.load_digits().images[:40]
    china = bundled.load_sample_image("china.jpg")
    rgb = np.stack([china[row : row + 10, at : at + 12] for row in range(0, 400, 50) for at in range(0, 600, 120)])
    rgb[3] = 200  # a sheet of one gray
    gray = (digits[..., None] / 16).astype(np.float32)
    gray[5] = 0
    long = gray.reshape(40, 64)
    gaps = long.copy()
    gaps[np.random.default_rng(0).random(gaps.shape) < 0.3] = np.nan
    colored = rgb.astype(np.float32) / 255
    return {
        "bytes": rgb,
        "rgb": colored,
        "lab": PREPARATIONS["rgb_to_lab"](colored).numpy(),
        "gray": gray,
        "long": long,
        "gaps": gaps,
        "several": gaps.reshape(40, 16, 4),
        "indices": digits[:, 0, :5].astype(np.int32) % 7,
    }


@pytest.fixture(scope="module", params=sorted(ALL))
def case(request, inputs):
    """(name, examples, the step with its statistics, what it makes of them, the shape that was promised)."""
    kind, given, shape = ALL[request.param]
    x, name = inputs[kind], request.param.split()[0]
    (step,) = learned(calls([{"use": name, **given}]), x, source="test")
    return name, x, step, applied(x, None, [step])[0].numpy(), x.shape[1:] if shape is None else shape


def test_shape_and_dtype_are_as_promised(case):
    _, x, _, result, shape = case
    assert result.shape == (len(x), *shape) and result.dtype == np.float32 and np.isfinite(result).all()
    assert len(np.unique(result)) > 1


def test_one_example_is_the_row_of_a_batch(case):
    _, x, step, result, _ = case
    for at in (0, 3, 5):
        alone, _ = applied(x[at : at + 1], None, [step])
        np.testing.assert_allclose(alone[0], result[at], rtol=1e-4, atol=1e-5)


def test_the_input_is_left_as_it_is(case):
    _, x, step, _, _ = case
    before = x.copy()
    applied(x, None, [step])
    np.testing.assert_array_equal(x, before)


def test_a_tf_data_pipeline_makes_the_same(case):
    tf = backend.tensorflow()
    _, x, step, result, shape = case
    batches = tf.data.Dataset.from_tensor_slices(x).batch(16).map(lambda one: applied(one, None, [step])[0])
    assert tuple(batches.element_spec.shape) == (None, *shape)
    np.testing.assert_allclose(np.concatenate(list(batches.as_numpy_iterator())), result, rtol=1e-4, atol=1e-5)


def test_json_keeps_it(case):
    _, x, step, result, _ = case
    text = json.dumps({"use": step.use, **step.options}, allow_nan=False)
    (again,) = calls([json.loads(text)])
    assert again.options == dict(step.options)
    np.testing.assert_array_equal(applied(x, None, [again])[0], result)
    (relearned,) = learned([again], x[:7], source="test")  # what is known is not learnt anew
    np.testing.assert_array_equal(applied(x, None, [relearned])[0], result)


def test_a_tflite_makes_the_same(case):
    """With the operations that every LiteRT has, and a free batch dimension, as models are converted."""
    tf = backend.tensorflow()
    name, x, step, result, shape = case
    spec = tf.TensorSpec([None, *x.shape[1:]], x.dtype)
    function = tf.function(lambda one: applied(one, None, [step])[0], input_signature=[spec], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if name in NO_TFLITE:
        with pytest.raises(Exception, match=r"PyFunc|custom op"):
            converter.convert()
        return
    made = runtime.Session(converter.convert()).run(x)
    assert made.shape == (len(x), *shape)
    np.testing.assert_allclose(made, result, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(LEARNERS) & set(MINE)))
def test_what_is_learnt_are_options(name):
    """A learner gives back options of its step, so that a list of steps is all there is to know."""
    _, given, _ = CASES[name]
    x = np.random.default_rng(0).integers(0, 7, (12, 3)).astype(np.int32 if name == "one_hot" else np.float32)
    found = LEARNERS[name](x, **{**given, **({"components": 2} if name == "pca" else {})})
    assert set(found) <= set(options.options_of(PREPARATIONS[name])) and not options.problems_with(PREPARATIONS[name], found)


def test_an_unknown_option_has_its_nearest_name():
    with pytest.raises(OptionError, match="did you mean 'threshold'"):
        calls([{"use": "binarize", "treshold": 0.5}])
