"""The bridge's matrix: the layers that prepare images, numbers, words and sound."""

from __future__ import annotations

from bridge_case import Case
from bridge_layers import ROW, L, alone, keras

IMAGE = (12, 10, 3)


def augmentation(name: str, **options) -> Case:
    """A layer that is random in training; what it does to images otherwise."""
    return alone(name, IMAGE, lambda: getattr(L, name)(**options), "images")


IMAGES = [
    alone("Rescaling", IMAGE, lambda: L.Rescaling(1 / 127.5, offset=-1.0), "images"),
    alone("Rescaling: for each channel", IMAGE, lambda: L.Rescaling([0.1, 0.2, 0.3], offset=[1.0, 2.0, 3.0]), "images"),
    alone("Resizing", IMAGE, lambda: L.Resizing(7, 8), "images"),
    alone("Resizing: nearest", IMAGE, lambda: L.Resizing(7, 8, interpolation="nearest"), "images"),
    alone("Resizing: bicubic, antialias", IMAGE, lambda: L.Resizing(7, 8, interpolation="bicubic", antialias=True), "images"),
    alone("Resizing: crop_to_aspect_ratio", IMAGE, lambda: L.Resizing(8, 8, crop_to_aspect_ratio=True), "images"),
    alone("Resizing: pad_to_aspect_ratio", IMAGE, lambda: L.Resizing(8, 8, pad_to_aspect_ratio=True, fill_value=9.0), "images"),
    alone("CenterCrop", IMAGE, lambda: L.CenterCrop(6, 5), "images"),
    alone("CenterCrop: larger than the image", IMAGE, lambda: L.CenterCrop(14, 8), "images"),
    augmentation("RandomBrightness", factor=0.2),
    augmentation("RandomContrast", factor=0.2),
    augmentation("RandomCrop", height=6, width=5),
    augmentation("RandomFlip"),
    augmentation("RandomRotation", factor=0.2),
    augmentation("RandomTranslation", height_factor=0.2, width_factor=0.1),
    augmentation("RandomZoom", height_factor=0.2),
    augmentation("RandomColorDegeneration", factor=0.5),
    augmentation("RandomColorJitter", brightness_factor=0.2, contrast_factor=0.2),
    augmentation("RandomElasticTransform"),
    augmentation("RandomErasing"),
    augmentation("RandomGaussianBlur", sigma=1.0),
    augmentation("RandomGrayscale", factor=0.5),
    augmentation("RandomHue", factor=0.2),
    augmentation("RandomInvert", factor=0.5),
    augmentation("RandomPerspective"),
    augmentation("RandomPosterization", factor=4),
    augmentation("RandomSaturation", factor=0.4),
    augmentation("RandomSharpness", factor=0.4),
    augmentation("RandomShear", x_factor=0.2),
    augmentation("RandAugment"),
    augmentation("AugMix"),
    augmentation("AutoContrast"),
    augmentation("ContrastLimitedAdaptiveHistogramEqualization"),
    augmentation("Solarization", threshold_factor=0.5),
    alone("Pipeline", IMAGE, lambda: L.Pipeline([L.Rescaling(0.1), L.CenterCrop(6, 6)]), "images"),
]


def adapted_bins():
    layer = L.Discretization(num_bins=4)
    layer.adapt(keras.ops.convert_to_numpy(keras.random.normal((200,), seed=3)))
    return layer


def crossing(**options):
    def build():
        inputs = [keras.Input((1,), dtype="string"), keras.Input((1,), dtype="int64")]
        return keras.Model(inputs, L.HashedCrossing(num_bins=5, **options)(inputs))

    return build


def counted():
    inputs = [keras.Input(ROW, dtype="int32"), keras.Input(ROW)]
    return keras.Model(inputs, L.CategoryEncoding(8, output_mode="count")(inputs[0], count_weights=inputs[1]))


NUMBERS = [
    alone("CategoryEncoding: multi_hot", ROW, lambda: L.CategoryEncoding(8), dtype="int32"),
    alone("CategoryEncoding: one_hot", (1,), lambda: L.CategoryEncoding(8, output_mode="one_hot"), dtype="int32"),
    alone("CategoryEncoding: count", ROW, lambda: L.CategoryEncoding(8, output_mode="count"), dtype="int32"),
    Case("CategoryEncoding: weights given", counted),
    alone("Discretization: boundaries given", ROW, lambda: L.Discretization([-0.5, 0.0, 0.7])),
    alone("Discretization: adapted", ROW, adapted_bins, random=False),
    alone("Discretization: one_hot", (1,), lambda: L.Discretization([-0.5, 0.0, 0.7], output_mode="one_hot")),
    alone("Hashing", (1,), lambda: L.Hashing(5), dtype="int32"),
    alone("Hashing: words", (1,), lambda: L.Hashing(5, salt=7), "words", dtype="string"),
    Case("HashedCrossing", crossing(), ("words", "normal")),
    Case("HashedCrossing: one_hot", crossing(output_mode="one_hot"), ("words", "normal")),
    alone("IntegerLookup", ROW, lambda: L.IntegerLookup(vocabulary=[1, 3, 5, 7]), dtype="int64", random=False),
    alone("IntegerLookup: multi_hot", ROW, lambda: L.IntegerLookup(vocabulary=[1, 3, 5], output_mode="multi_hot"), dtype="int64",
          random=False),
]  # fmt: skip

TEXT = [
    alone("StringLookup", (1,), lambda: L.StringLookup(vocabulary=["red", "green"]), "words", dtype="string", random=False),
    alone("StringLookup: one_hot", (1,), lambda: L.StringLookup(vocabulary=["red", "green"], output_mode="one_hot"), "words",
          dtype="string", random=False),
    alone("StringLookup: invert", (1,), lambda: L.StringLookup(vocabulary=["red", "green"], invert=True), dtype="int64", random=False),
    alone("TextVectorization", (1,), lambda: L.TextVectorization(vocabulary=["the", "green", "cat"], output_sequence_length=5), "words",
          dtype="string", random=False),
    alone("TextVectorization: tf_idf", (1,), lambda: L.TextVectorization(vocabulary=["the", "green"], idf_weights=[0.4, 0.6],
          output_mode="tf_idf"), "words", dtype="string", random=False),
]  # fmt: skip

SOUND = [
    alone("MelSpectrogram", (1024,), lambda: L.MelSpectrogram(fft_length=256, sequence_stride=128, num_mel_bins=16), random=False),
    alone("STFTSpectrogram", (1024, 1), lambda: L.STFTSpectrogram(frame_length=128, frame_step=64, fft_length=128), random=False),
    alone("STFTSpectrogram: magnitude", (1024, 2), lambda: L.STFTSpectrogram("magnitude", frame_length=128, padding="same"), random=False),
]
