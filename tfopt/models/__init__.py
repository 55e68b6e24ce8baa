"""Model builders: `(input_shape, num_classes, *, options) -> tf_keras.Model`.

Most end in `num_classes` outputs (`unet` at each pixel), and have an option `activation` for what these are: "softmax", the probabilities
of one class of several; "sigmoid", of several labels at once or of one yes or no; "linear", plain numbers. With the first two the model
ends in the layers "logits" and "probabilities", with the third in one named "values". `autoencoder` puts out its input's shape; `ssd` boxes
and logits of each anchor; `ctc`, `seq2seq` and `tcn` logits at each place of a sequence.

All are functional, free of lambdas, and born easy to optimize: every convolution is followed by BatchNorm and ReLU layers of its own, the
form in which TF-MOT's quantization-aware training folds them as the converter will. Every layer has a fixed name, so that the same
recipe gives the same bytes.
"""

from __future__ import annotations

from .autoencoder import autoencoder
from .backbone import backbone
from .conv1d import conv1d
from .conv3d import conv3d
from .convnet import convnet, lenet5
from .ctc import ctc
from .densenet import densenet
from .dscnn import dscnn
from .efficientnet_lite import efficientnet_lite
from .linear import linear
from .mlp import mlp
from .mobilenet import mobilenet
from .recurrent import bilstm, gru, lstm
from .resnet import resnet
from .seq2seq import seq2seq
from .ssd import ssd
from .tcn import tcn
from .textcnn import textcnn
from .transformer import transformer
from .two_input import two_input
from .unet import unet
from .vgg import vgg
from .vit import vit

MODELS = {
    "autoencoder": autoencoder,
    "backbone": backbone,
    "bilstm": bilstm,
    "conv1d": conv1d,
    "conv3d": conv3d,
    "convnet": convnet,
    "ctc": ctc,
    "densenet": densenet,
    "dscnn": dscnn,
    "efficientnet_lite": efficientnet_lite,
    "gru": gru,
    "lenet5": lenet5,
    "linear": linear,
    "lstm": lstm,
    "mlp": mlp,
    "mobilenet": mobilenet,
    "resnet": resnet,
    "seq2seq": seq2seq,
    "ssd": ssd,
    "tcn": tcn,
    "textcnn": textcnn,
    "transformer": transformer,
    "two_input": two_input,
    "unet": unet,
    "vgg": vgg,
    "vit": vit,
}

__all__ = ["MODELS", *MODELS]
