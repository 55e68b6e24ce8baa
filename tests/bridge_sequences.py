"""The bridge's matrix: recurrent layers, attention, masks, activations, regularization, and preprocessing."""

from __future__ import annotations

from bridge_case import Case
from bridge_layers import IMAGE, ROW, STEPS, L, alone, keras

CLIP = (4, *IMAGE)  # a film of four images


def attention(make, *, call=None, inputs=((5, 8), (7, 8))):
    """A model of a query and a value, (5, 8) and (7, 8), and an attention layer over them."""

    def build():
        tensors = [keras.Input(shape) for shape in inputs]
        return keras.Model(tensors, make()(*tensors, **(call or {})))

    return build


def self_attention(make, **call):
    def build():
        x = keras.Input((5, 8))
        return keras.Model(x, make()(x, x, **call))

    return build


def stateful_encoder():
    """The last states of one LSTM start another, as in translation."""
    x, y = keras.Input(STEPS), keras.Input(STEPS)
    _, *states = L.LSTM(5, return_state=True)(x)
    return keras.Model([x, y], L.LSTM(5, return_sequences=True)(y, initial_state=states))


def with_states(make):
    def build():
        x = keras.Input(STEPS)
        return keras.Model(x, make()(x))

    return build


def given_mask():
    x, mask = keras.Input(STEPS), keras.Input((7,), dtype="bool")
    return keras.Model([x, mask], L.GRU(5)(x, mask=mask))


RECURRENT = [
    alone("LSTM", STEPS, lambda: L.LSTM(5)),
    alone("LSTM: return_sequences", STEPS, lambda: L.LSTM(5, return_sequences=True)),
    alone("LSTM: go_backwards", STEPS, lambda: L.LSTM(5, go_backwards=True, return_sequences=True)),
    alone("LSTM: hard_sigmoid, relu", STEPS, lambda: L.LSTM(5, activation="relu", recurrent_activation="hard_sigmoid")),
    alone("LSTM: no bias", STEPS, lambda: L.LSTM(5, use_bias=False)),
    alone("LSTM: no unit_forget_bias, dropout", STEPS, lambda: L.LSTM(5, unit_forget_bias=False, dropout=0.3, recurrent_dropout=0.2)),
    alone("LSTM: unroll", STEPS, lambda: L.LSTM(5, unroll=True)),
    alone("LSTM: steps of any number", (None, 4), lambda: L.LSTM(5)),
    Case("LSTM: stateful", lambda: stateful(L.LSTM(5, stateful=True))),
    Case("LSTM: return_state", with_states(lambda: L.LSTM(5, return_state=True))),
    Case("LSTM: initial_state", stateful_encoder),
    alone("GRU", STEPS, lambda: L.GRU(5)),
    alone("GRU: reset_after=False", STEPS, lambda: L.GRU(5, reset_after=False, return_sequences=True)),
    alone("GRU: go_backwards, hard_sigmoid", STEPS, lambda: L.GRU(5, go_backwards=True, recurrent_activation="hard_sigmoid")),
    alone("GRU: no bias", STEPS, lambda: L.GRU(5, use_bias=False)),
    Case("GRU: return_state", with_states(lambda: L.GRU(5, return_state=True, return_sequences=True))),
    Case("GRU: mask given", given_mask),
    alone("SimpleRNN", STEPS, lambda: L.SimpleRNN(5)),
    alone("SimpleRNN: relu, return_sequences", STEPS, lambda: L.SimpleRNN(5, activation="relu", return_sequences=True)),
    alone("RNN: LSTMCell", STEPS, lambda: L.RNN(L.LSTMCell(5))),
    alone("RNN: GRUCell", STEPS, lambda: L.RNN(L.GRUCell(5, recurrent_activation="hard_sigmoid"), return_sequences=True)),
    alone("RNN: SimpleRNNCell", STEPS, lambda: L.RNN(L.SimpleRNNCell(5), go_backwards=True)),
    alone("RNN: StackedRNNCells", STEPS, lambda: L.RNN(L.StackedRNNCells([L.LSTMCell(5), L.GRUCell(4), L.SimpleRNNCell(3)]))),
    alone("RNN: list of cells", STEPS, lambda: L.RNN([L.LSTMCell(5), L.LSTMCell(4)], return_sequences=True)),
    alone("Bidirectional: LSTM", STEPS, lambda: L.Bidirectional(L.LSTM(5))),
    alone("Bidirectional: GRU, sum", STEPS, lambda: L.Bidirectional(L.GRU(5, return_sequences=True), merge_mode="sum")),
    alone("Bidirectional: no merge", STEPS, lambda: L.Bidirectional(L.SimpleRNN(5), merge_mode=None)),
    alone("Bidirectional: own backward layer", STEPS, lambda: L.Bidirectional(L.LSTM(5), backward_layer=L.GRU(5, go_backwards=True))),
    alone("Bidirectional: RNN of a cell", STEPS, lambda: L.Bidirectional(L.RNN(L.LSTMCell(5)), merge_mode="mul")),
    alone("ConvLSTM1D", (4, 8, 3), lambda: L.ConvLSTM1D(4, 3)),
    alone("ConvLSTM2D", CLIP, lambda: L.ConvLSTM2D(4, 3, padding="same", return_sequences=True)),
    alone("ConvLSTM2D: hard_sigmoid, strides", CLIP, lambda: L.ConvLSTM2D(4, 3, strides=2, recurrent_activation="hard_sigmoid")),
    alone("ConvLSTM3D", (3, 5, 4, 4, 2), lambda: L.ConvLSTM3D(3, 2)),
    alone("TimeDistributed: Dense", STEPS, lambda: L.TimeDistributed(L.Dense(5))),
    alone("TimeDistributed: Conv2D", CLIP, lambda: L.TimeDistributed(L.Conv2D(4, 3))),
    alone("TimeDistributed: BatchNormalization", STEPS, lambda: L.TimeDistributed(L.BatchNormalization())),
    alone("TimeDistributed: a model", CLIP, lambda: L.TimeDistributed(
        keras.Sequential([keras.Input(IMAGE), L.Conv2D(4, 3), L.GlobalMaxPooling2D()]))),
]  # fmt: skip


def stateful(layer):
    inputs = keras.Input(batch_shape=(2, *STEPS))
    return keras.Model(inputs, layer(inputs))


ATTENTION = [
    Case("MultiHeadAttention", attention(lambda: L.MultiHeadAttention(2, 4))),
    Case("MultiHeadAttention: self", self_attention(lambda: L.MultiHeadAttention(2, 4, dropout=0.1))),
    Case("MultiHeadAttention: causal", self_attention(lambda: L.MultiHeadAttention(2, 4), use_causal_mask=True)),
    Case("MultiHeadAttention: value_dim, output_shape, no bias",
         attention(lambda: L.MultiHeadAttention(2, 4, value_dim=3, output_shape=6, use_bias=False))),
    Case("MultiHeadAttention: key given", attention(lambda: L.MultiHeadAttention(2, 4), inputs=((5, 8), (7, 8), (7, 6)))),
    Case("MultiHeadAttention: scores, too", self_attention(lambda: L.MultiHeadAttention(2, 4), return_attention_scores=True)),
    Case("MultiHeadAttention: gate", self_attention(lambda: L.MultiHeadAttention(2, 4, use_gate=True))),
    Case("MultiHeadAttention: sliding window", self_attention(lambda: L.MultiHeadAttention(2, 4, sliding_window=2), use_causal_mask=True)),
    Case("GroupQueryAttention", attention(lambda: L.GroupQueryAttention(4, 4, 2))),
    Case("GroupQueryAttention: causal, no bias",
         self_attention(lambda: L.GroupQueryAttention(4, 4, 2, use_bias=False), use_causal_mask=True)),
]  # fmt: skip


def masked(*layers):
    """Indices of words, 0 for nothing, through an embedding with a mask into layers."""
    return lambda: keras.Sequential([keras.Input((7,), dtype="int32"), L.Embedding(8, 4, mask_zero=True), *(make() for make in layers)])


def masked_attention():
    x = keras.Input((7,), dtype="int32")
    words = L.Embedding(8, 8, mask_zero=True)(x)
    return keras.Model(x, L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 4)(words, words)))


def masked_merge():
    x, y = keras.Input((7,), dtype="int32"), keras.Input((7,), dtype="int32")
    embedding = L.Embedding(8, 4, mask_zero=True)
    return keras.Model([x, y], L.LSTM(5)(L.Concatenate()([embedding(x), embedding(y)])))


MASKS = [
    Case("Embedding: mask_zero, LSTM", masked(lambda: L.LSTM(5)), "padded"),
    Case("Embedding: mask_zero, dropout, two GRUs",
         masked(lambda: L.Dropout(0.3), lambda: L.GRU(5, return_sequences=True), lambda: L.GRU(3)), "padded"),
    Case("Embedding: mask_zero, Bidirectional", masked(lambda: L.Bidirectional(L.LSTM(5))), "padded"),
    Case("Embedding: mask_zero, GlobalAveragePooling1D", masked(lambda: L.GlobalAveragePooling1D()), "padded"),
    Case("Embedding: mask_zero, TimeDistributed", masked(lambda: L.TimeDistributed(L.Dense(4)), lambda: L.LSTM(3)), "padded"),
    Case("Embedding: mask_zero, MultiHeadAttention", masked_attention, "padded"),
    Case("Embedding: mask_zero, Concatenate, LSTM", masked_merge, "padded"),
    Case("Masking: before LSTM", lambda: keras.Sequential([keras.Input(STEPS), L.Masking(), L.LSTM(5, return_sequences=True)]), "steps"),
    Case("Masking: before Dense, lost at Flatten",
         lambda: keras.Sequential([keras.Input(STEPS), L.Masking(), L.Dense(5), L.Flatten(), L.Softmax()]), "steps"),
]  # fmt: skip

FUNCTIONS = [  # all of keras.activations but threshold, which can't do without arguments
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus",
    "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink",
]  # fmt: skip


def inline(name: str) -> Case:
    return alone(f"Dense: activation {name}", ROW, lambda: L.Dense(8, activation=name))


def as_layer(name: str) -> Case:
    return alone(f"Activation: {name}", (8,), lambda: L.Activation(name))


def masked_softmax():
    x, mask = keras.Input(ROW), keras.Input(ROW, dtype="bool")
    return keras.Model([x, mask], L.Softmax()(x, mask=mask))


ACTIVATIONS = [
    *(as_layer(name) for name in FUNCTIONS),
    *(inline(name) for name in FUNCTIONS),
    alone("Activation: keras.ops.silu itself", ROW, lambda: L.Activation(keras.ops.silu)),
    alone("Conv2D: activation hard_silu", IMAGE, lambda: L.Conv2D(4, 3, activation="hard_silu")),
    alone("DepthwiseConv2D: activation hard_sigmoid", IMAGE, lambda: L.DepthwiseConv2D(3, activation="hard_sigmoid")),
    alone("Dense: activation a layer", ROW, lambda: L.Dense(8, activation=L.LeakyReLU(0.2))),
    alone("ReLU", ROW, lambda: L.ReLU()),
    alone("ReLU: 6", ROW, lambda: L.ReLU(6.0)),
    alone("ReLU: slope, threshold", ROW, lambda: L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2)),
    alone("LeakyReLU", ROW, lambda: L.LeakyReLU()),
    alone("LeakyReLU: slope", ROW, lambda: L.LeakyReLU(negative_slope=0.05)),
    alone("PReLU", IMAGE, lambda: L.PReLU()),
    alone("PReLU: shared axes", IMAGE, lambda: L.PReLU(shared_axes=[1, 2])),
    alone("ELU", ROW, lambda: L.ELU(0.5)),
    alone("Softmax", ROW, lambda: L.Softmax()),
    alone("Softmax: axis 1", STEPS, lambda: L.Softmax(axis=1)),
    alone("Softmax: two axes", STEPS, lambda: L.Softmax(axis=(1, 2))),
    Case("Softmax: mask given", masked_softmax),
]


REGULARIZATION = [
    alone("Dropout", ROW, lambda: L.Dropout(0.3)),
    alone("Dropout: noise_shape", STEPS, lambda: L.Dropout(0.3, noise_shape=(None, 1, 4), seed=3)),
    alone("SpatialDropout1D", STEPS, lambda: L.SpatialDropout1D(0.3)),
    alone("SpatialDropout2D", IMAGE, lambda: L.SpatialDropout2D(0.3)),
    alone("SpatialDropout3D", (6, 5, 4, 3), lambda: L.SpatialDropout3D(0.3)),
    alone("AlphaDropout", ROW, lambda: L.AlphaDropout(0.3)),
    alone("GaussianDropout", ROW, lambda: L.GaussianDropout(0.3)),
    alone("GaussianNoise", ROW, lambda: L.GaussianNoise(0.3)),
    alone("ActivityRegularization", ROW, lambda: L.ActivityRegularization(l1=0.1, l2=0.2)),
]
