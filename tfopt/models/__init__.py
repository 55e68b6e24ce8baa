"""Model builders: `(input_shape, num_classes, *, options) -> tf_keras.Model`, ending in a layer "logits" and a softmax.

All are functional, free of lambdas, and born easy to optimize: every convolution is followed by BatchNorm and ReLU layers of its own, the
form in which TF-MOT's quantization-aware training folds them as the converter will. Every layer has a fixed name, so that the same
recipe gives the same bytes.
"""

from __future__ import annotations

from .convnet import convnet
from .mlp import mlp
from .resnet import resnet

MODELS = {"convnet": convnet, "mlp": mlp, "resnet": resnet}

__all__ = ["MODELS", "convnet", "mlp", "resnet"]
