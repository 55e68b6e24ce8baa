"""The bridge's matrix: ways of wiring layers into models, policies, shared and frozen parts, layers of the user's own."""

from __future__ import annotations

from bridge_case import Case
from bridge_layers import L, keras

IMAGE = (8, 8, 3)


def sequential():
    return keras.Sequential([keras.Input(IMAGE), L.Conv2D(4, 3, activation="relu"), L.BatchNormalization(), L.Flatten(), L.Dense(5)])


def softmax_inline():
    return keras.Sequential([keras.Input(IMAGE), L.Flatten(), L.Dense(16, activation="relu"), L.Dense(5, activation="softmax")])


def softmax_layer():
    return keras.Sequential([keras.Input(IMAGE), L.Flatten(), L.Dense(5), L.Softmax()])


def built_by_call():
    model = keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(5)])
    model.build((None, *IMAGE))
    return model


def residual():
    x = keras.Input(IMAGE)
    y = L.Conv2D(3, 3, padding="same", use_bias=False)(x)
    y = L.ReLU()(L.BatchNormalization()(y))
    z = L.Add()([x, L.DepthwiseConv2D(3, padding="same")(y)])
    return keras.Model(x, L.Dense(5)(L.GlobalAveragePooling2D()(z)))


def block(filters=4, shape=IMAGE, name=None):
    """A small model: images (8, 8, channels) -> (8, 8, filters)."""
    x = keras.Input(shape)
    y = L.BatchNormalization(name="bn")(L.Conv2D(filters, 3, padding="same", name="conv")(x))
    return keras.Model(x, L.ReLU(name="relu")(y), name=name)


def sequential_in_functional():
    x = keras.Input(IMAGE)
    stem = keras.Sequential([L.Conv2D(4, 3, name="conv"), L.ReLU(name="relu")], name="stem")
    return keras.Model(x, L.Dense(5)(L.Flatten()(stem(x))))


def functional_in_functional():
    x = keras.Input(IMAGE)
    return keras.Model(x, L.Dense(5)(L.Flatten()(block(name="block")(x))))


def functional_in_sequential():
    return keras.Sequential([keras.Input(IMAGE), block(name="block"), L.GlobalMaxPooling2D(), L.Dense(5)])


def nested_twice():
    x = keras.Input(IMAGE)
    inner = keras.Sequential([block(4), block(6, (8, 8, 4))], name="inner")
    return keras.Model(x, L.Dense(5)(L.Flatten()(keras.Sequential([inner, L.MaxPooling2D()], name="outer")(x))))


def nested_called_twice():
    x, y = keras.Input(IMAGE), keras.Input(IMAGE)
    shared = block(name="shared")
    return keras.Model([x, y], L.Dense(5)(L.Flatten()(L.Subtract()([shared(x), shared(y)]))))


def nested_applied_to_its_output():
    x = keras.Input(IMAGE)
    shared = block(3)
    return keras.Model(x, L.Flatten()(shared(shared(x))))


def nested_with_several():
    x, y = keras.Input((6,)), keras.Input((6,))
    inner = keras.Model([x, y], [L.Add()([L.Dense(4)(x), y[:, :4]]), x * y], name="inner")
    a, b = keras.Input((6,)), keras.Input((6,))
    first, second = inner([a, b])
    third, _ = inner([b, a])
    return keras.Model([a, b], [L.Dense(3)(first), L.Concatenate()([second, third])])


def nested_names_again():
    """Layers of one name in different nested models, and at the top."""
    x = keras.Input(IMAGE)
    y = block(name="left")(x)
    z = block(name="right")(x)
    y = L.Conv2D(4, 3, name="conv")(L.Add()([y, z]))
    return keras.Model(x, L.Flatten()(L.BatchNormalization(name="bn")(y)))


def transfer():
    """A frozen backbone called with training=False, and a new head."""
    x = keras.Input(IMAGE)
    base = block(8, name="backbone")
    base.trainable = False
    y = L.Dropout(0.2)(L.GlobalAveragePooling2D()(base(L.Rescaling(1 / 255)(x), training=False)))
    return keras.Model(x, L.Dense(5, activation="softmax")(y))


def frozen():
    model = sequential()
    model.layers[0].trainable = False
    model.layers[1].trainable = False
    return model


def shared_layer():
    x, y = keras.Input((6,)), keras.Input((6,))
    dense = L.Dense(5, activation="relu")
    return keras.Model([x, y], L.Multiply()([dense(x), dense(y)]))


def shared_recurrently():
    x = keras.Input((6,))
    dense = L.Dense(6, activation="tanh")
    return keras.Model(x, dense(dense(dense(x))))


def several():
    x, y = keras.Input(IMAGE, name="image"), keras.Input((4,), name="numbers")
    z = L.Concatenate()([L.Flatten()(L.Conv2D(2, 3)(x)), L.Dense(6, activation="relu")(y)])
    return keras.Model([x, y], [L.Dense(5, name="kind")(z), L.Dense(1, name="size")(z)])


def order_of_inputs():
    """Inputs are used, and named, in another order than they are given."""
    x, y, z = keras.Input((4,), name="c"), keras.Input((5,), name="b"), keras.Input((6,), name="a")
    return keras.Model([x, y, z], [L.Dense(3)(L.Concatenate()([z, x])), L.Dense(3)(y)])


def dictionaries():
    inputs = {"words": keras.Input((6,), name="words"), "age": keras.Input((1,), name="age")}
    z = L.Concatenate()([inputs["words"], inputs["age"]])
    return keras.Model(inputs, {"kind": L.Dense(5, name="kind")(z), "size": L.Dense(1, name="size")(z)})


def nested_structure():
    inputs = {"pair": [keras.Input((3,), name="x"), keras.Input((4,), name="y")], "one": keras.Input((2,), name="one")}
    z = L.Concatenate()([*inputs["pair"], inputs["one"]])
    return keras.Model(inputs, [L.Dense(5)(z), [L.Dense(1)(z)]])


def single_in_list():
    x = keras.Input((6,))
    return keras.Model([x], [L.Dense(5)(x)])


def input_is_output():
    x = keras.Input((6,))
    y = L.Dense(5)(x)
    return keras.Model(x, [x, y, y])


def intermediate():
    """A part of a model: from a tensor inside to two tensors inside."""
    _, conv, bn, _, depthwise, *_ = residual().layers
    return keras.Model(conv.output, [bn.output, depthwise.output])


def same_names():
    """Names that Keras 3 takes and TensorFlow does not take as they are."""
    x = keras.Input((6,), name="my input: 1")
    return keras.Model(x, L.Dense(5, name="a dense layer (ünï)")(L.Dense(6, name="w·x")(x)), name="my model")


def mobile_block():
    """An inverted residual with squeeze and excitation, written with operators."""
    x = keras.Input((8, 8, 8))
    y = L.BatchNormalization()(L.Conv2D(16, 1, use_bias=False)(x))
    y = y * keras.ops.relu6(y + 3.0) / 6.0
    y = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same", use_bias=False)(y))
    weights = L.Conv2D(16, 1, activation="hard_sigmoid")(L.Conv2D(4, 1, activation="relu")(keras.ops.mean(y, axis=(1, 2), keepdims=True)))
    return keras.Model(x, x + L.BatchNormalization()(L.Conv2D(8, 1, use_bias=False)(y * weights)))


def vision_transformer():
    x = keras.Input((8, 8, 3))
    y = L.Reshape((16, 12))(L.Conv2D(12, 2, strides=2)(x))
    y = y + L.Embedding(16, 12)(keras.ops.arange(16))
    z = L.LayerNormalization(epsilon=1e-6)(y)
    y = y + L.MultiHeadAttention(3, 4)(z, z)
    z = L.Dense(12)(L.Dense(24, activation="gelu")(L.LayerNormalization(epsilon=1e-6)(y)))
    return keras.Model(x, L.Dense(5, activation="softmax")(keras.ops.mean(y + z, axis=1)))


def u_net():
    x = keras.Input((8, 8, 3))
    a = L.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = L.Conv2D(8, 3, padding="same", activation="relu")(L.MaxPooling2D()(a))
    up = L.Conv2DTranspose(4, 2, strides=2, padding="same")(b)
    return keras.Model(x, L.Conv2D(2, 1, activation="sigmoid")(L.Concatenate()([a, up])))


def text_classifier():
    words = [keras.Input((7,), dtype="int32"), L.Embedding(8, 6, mask_zero=True)]
    return keras.Sequential([*words, L.Bidirectional(L.LSTM(4, return_sequences=True)), L.GRU(4), L.Dense(3, activation="softmax")])


@keras.saving.register_keras_serializable("tests")
class Gain(L.Layer):
    """A user's layer, with a weight, an option, and keras.ops."""

    def __init__(self, power=1.0, **more):
        super().__init__(**more)
        self.power = power

    def build(self, shape):
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return keras.ops.sign(x) * keras.ops.power(keras.ops.abs(x), self.power) * self.gain

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class Half(L.Layer):
    """A user's layer without weights, not registered."""

    def call(self, x):
        return x * 0.5


@keras.saving.register_keras_serializable("tests")
def wavy(x):
    """A user's activation."""
    return x + keras.ops.sin(x)


def custom_layers():
    return keras.Sequential([keras.Input((6,)), L.Dense(5), Gain(1.5), Half(), L.Dense(3)])


def custom_activation():
    return keras.Sequential([keras.Input((6,)), L.Dense(5, activation=wavy), L.Activation(wavy)])


def under(policy, build):
    """The model that `build` gives under a dtype policy."""

    def built():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return build()
        finally:
            keras.config.set_dtype_policy(before)

    return built


def compiled():
    model = softmax_inline()
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 100)
    model.compile(optimizer=keras.optimizers.AdamW(schedule), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def quantized():
    model = keras.Sequential([keras.Input((16,)), L.Dense(8, activation="relu"), L.Dense(5)])
    model.quantize("int8")
    return model


STRUCTURES = [
    Case("sequential", sequential),
    Case("sequential: softmax in the last layer", softmax_inline),
    Case("sequential: softmax as the last layer", softmax_layer),
    Case("sequential: built by build()", built_by_call),
    Case("functional: residual", residual),
    Case("nested: Sequential in functional", sequential_in_functional),
    Case("nested: functional in functional", functional_in_functional),
    Case("nested: functional in Sequential", functional_in_sequential),
    Case("nested: twice", nested_twice),
    Case("nested: shared, called twice", nested_called_twice),
    Case("nested: applied to its own output", nested_applied_to_its_output),
    Case("nested: several inputs and outputs", nested_with_several),
    Case("nested: the same layer names again", nested_names_again),
    Case("transfer: frozen backbone", transfer, "images"),
    Case("frozen layers", frozen),
    Case("shared layer", shared_layer),
    Case("shared layer: in a chain", shared_recurrently),
    Case("several inputs and outputs", several),
    Case("inputs in another order", order_of_inputs),
    Case("dict inputs and outputs", dictionaries),
    Case("nested structures", nested_structure),
    Case("one input in a list", single_in_list),
    Case("an input is an output, and one twice", input_is_output),
    Case("a part of a model", intermediate),
    Case("unusual names", same_names),
    Case("compiled", compiled),
    Case("inverted residual with operators", mobile_block),
    Case("vision transformer", vision_transformer),
    Case("U-Net", u_net),
    Case("text classifier", text_classifier, "padded"),
    Case("custom layers", custom_layers, custom_objects={"Gain": Gain, "Half": Half}),
    Case("custom activation", custom_activation, custom_objects={"wavy": wavy}),
]

POLICIES = [
    Case("mixed_float16", under("mixed_float16", residual)),
    Case("mixed_float16: text classifier", under("mixed_float16", text_classifier), "padded"),
    Case("mixed_bfloat16", under("mixed_bfloat16", residual)),
    Case("float16", under("float16", sequential)),
    Case("bfloat16", under("bfloat16", softmax_inline)),
    Case("float64", under("float64", residual)),
    Case("one layer float16", lambda: keras.Sequential([keras.Input((6,)), L.Dense(5, dtype="float16"), L.Dense(3, dtype="float32")])),
    Case("quantized to int8 by Keras 3", quantized, random=False),
]
