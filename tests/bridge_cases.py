"""The matrix of the bridge, as one table: `CASES` by group and name, and the layer classes that have none (`EXCEPTIONS`).

`bridge_measures` builds, bridges and converts them; tests/test_bridge.py judges a part of it, benchmarks/bridge.py writes the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bridge_graphs
import bridge_layers
import bridge_operations
import bridge_preprocessing
import bridge_sequences
from bridge_case import Case
from bridge_layers import keras

# Each family's input; where its own preprocessing stands inside the model it takes pixels.
FAMILIES = {
    "MobileNet": "normal",
    "MobileNetV2": "normal",
    "MobileNetV3Small": "images",
    "MobileNetV3Large": "images",
    "EfficientNetB0": "images",
    "EfficientNetV2B0": "images",
    "ResNet50": "normal",
    "ResNet50V2": "normal",
    "DenseNet121": "normal",
    "InceptionV3": "normal",
    "InceptionResNetV2": "normal",
    "Xception": "normal",
    "NASNetMobile": "normal",
    "VGG16": "normal",
    "ConvNeXtTiny": "images",
}
SIDES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


def family(name: str) -> Callable[[], Any]:
    side = SIDES.get(name, 64)
    return lambda: getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10)


GROUPS = {
    "keras.applications": [Case(name, family(name), values) for name, values in FAMILIES.items()],
    "Models": bridge_graphs.STRUCTURES,
    "Dtype policies": bridge_graphs.POLICIES,
    "Core layers": bridge_layers.CORE,
    "Convolutions": bridge_layers.CONVOLUTIONS,
    "Poolings": bridge_layers.POOLINGS,
    "Normalizations": bridge_layers.NORMALIZATIONS,
    "Layers that reshape": bridge_layers.SHAPES,
    "Layers that merge": bridge_layers.MERGING,
    "Recurrent layers": bridge_sequences.RECURRENT,
    "Attention": bridge_sequences.ATTENTION,
    "Masks": bridge_sequences.MASKS,
    "Activations": bridge_sequences.ACTIVATIONS,
    "Regularization": bridge_sequences.REGULARIZATION,
    "Images": bridge_preprocessing.IMAGES,
    "Numbers and categories": bridge_preprocessing.NUMBERS,
    "Text": bridge_preprocessing.TEXT,
    "Sound": bridge_preprocessing.SOUND,
    "Operators": bridge_operations.OPERATORS,
    "keras.ops, elementwise": bridge_operations.ELEMENTWISE,
    "keras.ops, reductions": bridge_operations.REDUCTIONS,
    "keras.ops, shapes": bridge_operations.SHAPES,
    "keras.ops, products": bridge_operations.PRODUCTS,
    "keras.ops, images": bridge_operations.IMAGES,
}
CASES = {case.name: case for cases in GROUPS.values() for case in cases}

EXCEPTIONS = {
    "Layer": "the parent of all layers",
    "Wrapper": "the parent of the layers that wrap another",
    "FlaxLayer": "holds a Flax module; works on JAX only",
    "JaxLayer": "holds a JAX function; works on JAX only",
    "TorchModuleWrapper": "holds a PyTorch module; works on PyTorch only",
    "TFSMLayer": "holds a SavedModel on disk, which is code, not a layer of Keras's",
    "Equalization": "outside training it returns its input itself, which Keras 3.15 refuses as a cycle when the model is built",
    "CutMix": "mixes the images and labels of a training batch, in a dictionary; no part of a functional model",
    "MixUp": "mixes the images and labels of a training batch, in a dictionary; no part of a functional model",
    "MaxNumBoundingBoxes": "pads the bounding boxes of a data pipeline, in a dictionary; no part of a functional model",
}
