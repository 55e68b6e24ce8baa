"""Weight clustering: the weights of each kernel share a few values, so that the file holds few different ones and compresses well.

k-means finds the k values c_1 ... c_k that the weights w lie nearest to,

    minimize  sum_i (w_i - c_a(i))^2,    a(i) = argmin_j |w_i - c_j|

and each weight becomes its c_a(i). With a fit, gradients go on to move the weights behind the shared values; after each step the weights
are assigned anew, and each value is the mean of its weights. Zeros are kept where there are any, and count as one of the k.

TF-MOT does this in a wrapper around each layer, which switches Dropout off and leaves BatchNorm's statistics behind, since it drops the
`training` flag, destroys the zeros of a pruned model, and can cluster each channel by itself for Conv2D only. Here the variables are
changed after each step, and the layers stay as they are.

What a file gains: log2(k) bits a weight instead of 8 or 32, once it is compressed (gzip, an app package, the weight compression of a
microcontroller's NPU). In the .tflite itself a weight takes as many bytes as before, and no CPU gets faster by it.

Han et al. 2016, "Deep Compression" (arXiv:1510.00149), section 3; the init "kmeans++": Arthur & Vassilvitskii 2007.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from .. import bridge, options, tasks, training
from ..errors import UnsupportedModel
from ..surgery import copying, folding, kernels
from ..surgery.kernels import Kernel
from ..surgery.selecting import Where, selector
from ..teaching import Teacher, teaching_by
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from . import _sharing
from ._choosing import DEPTHWISE, left_alone
from ._keeping import kept_beside

Clusters = Annotated[int, Field(ge=2)]
Init = Literal["kmeans++", "linear", "density", "random"]


def plan(model: Any, *, clusters: Clusters = 16, per_channel: bool = False, where: Where = None, **_: Any) -> tuple[Choice, ...]:
    """Which layers `cluster` will treat: those with a kernel that `where` names."""
    return tuple(choice for choice, _ in _planned(bridge.plain(model), clusters, per_channel, where))


@options.checked
def cluster(
    model: Any,
    data: Data | None = None,
    *,
    clusters: Clusters = 16,
    init: Init = "kmeans++",
    per_channel: bool = False,
    where: Where = None,
    teacher: Teacher = None,
    fit: Fit | None = None,
) -> Any:
    """A copy of the model in whose kernels all weights have one of `clusters` values.

    Args:
      model: a plain tf_keras model, or a Keras 3 model; trained, since the values are found from its weights.
      data: to train on; may be left out without a fit.
      clusters: how many values a kernel may have, at least 2. Zeros of a pruned kernel stay and are one of them. A kernel that has no more
        different values than that stays as it is.
      init: where k-means begins: "kmeans++"; "linear", evenly from the smallest to the largest weight, which keeps the large ones;
        "density", as many weights around each; "random".
      per_channel: whether each output channel has values of its own: closer to the weights, and larger once compressed.
      where: which layers: a name pattern, a class name, a list of them, or a predicate on the layer; None for all but depthwise
        convolutions, whose few weights matter much.
      teacher: who gives soft targets beside the labels while it trains: "self", the model as it comes in; a path, a model, or several of
        them; in a recipe also "trained". See `distill`.
      fit: how to train meanwhile; None shares the values and trains nothing. Its seed draws the first values.

    Returns:
      A plain tf_keras model of the same layers.

    Raises:
      OptionError: a value out of range, or a `where` that fits no layer.
      UnsupportedModel: a model with nothing that can be clustered, or whose layers can't be seen.
      DataError: a fit without data, or a model that does not fit it.

    >>> small = cluster(model, data, clusters=16, fit=Fit(epochs=4, learning_rate=1e-4))
    """
    model = copying.copy_of(model)
    if fit is not None:
        tasks.check_fits(model, data)
    planned = _planned(model, clusters, per_channel, where)
    choices = tuple(choice for choice, _ in planned)
    record_plan("cluster", choices)
    treated = list({id(kernel.variable): kernel for _, fitting in planned for kernel in fitting}.values())
    if not treated:
        raise UnsupportedModel.of("cluster", model, choices)
    seed = fit.seed if fit is not None else 0
    shared = [_shared(kernel, clusters, init, per_channel, seed) for kernel in treated]
    teaching = teaching_by(teacher, model, fit)
    if fit is not None:
        from . import _tf_weights

        callbacks = [_tf_weights.Sharing(shared), *kept_beside(treated, kernels.of_all(model.layers))]
        training.fit_in_place(model, data, fit, name="cluster", callbacks=callbacks, teaching=teaching)
    return model


def _shared(kernel: Kernel, clusters: int, init: str, per_channel: bool, seed: int) -> Any:
    """The kernel with its values shared."""
    from . import _tf_weights

    values = _sharing.shared_values(_sharing.rows_of(kernel, per_channel), clusters, init, seed)
    return _tf_weights.Shared(kernel.variable, *_sharing.layout(kernel, per_channel), values)


def _planned(model: Any, clusters: int, per_channel: bool, where: Where) -> list[tuple[Choice, list[Kernel]]]:
    """For each layer the choice, and the kernels whose weights will share values."""
    layers, norms = copying.all_layers(model), folding.norms_behind(model)
    chosen = selector(where, layers)
    planned = [_choice(name, layer, chosen, clusters, per_channel, where is not None) for name, layer in layers]
    return [(_with_folding(choice, norms.get(choice.layer), per_channel), fitting) for choice, fitting in planned]


def _with_folding(choice: Choice, norm: str | None, per_channel: bool) -> Choice:
    """The choice with what the converter will make of the values where it folds a BatchNorm into them.

    It is not folded before the values are shared: a kernel in which BatchNorm's factors differ from channel to channel needs many more
    values (a ResNet-8 of 84.0 % on CIFAR-10, 16 values, no training: 78.8 % with its BatchNorms, 56.6 % with them folded first).
    """
    if not choice.treated or norm is None or per_channel:
        return choice
    told = f"the converter multiplies each output channel when it folds {norm} into it, so a float file has these values a channel"
    return Choice(choice.layer, True, f"{choice.reason}; {told}")


def _choice(name: str, layer: Any, chosen: Callable, clusters: int, per_channel: bool, named: bool) -> tuple[Choice, list[Kernel]]:
    found = kernels.kernels_of(layer)
    if reason := left_alone(name, layer, found, chosen):
        return Choice(name, False, reason), []
    fitting = [kernel for kernel in found if named or not kernel.depthwise]
    reasons = [f"{kernel.name}: {_effect(kernel, clusters, per_channel)}" for kernel in fitting]
    reasons += [f"{kernel.name}: {DEPTHWISE}" for kernel in found if kernel not in fitting]
    return Choice(name, bool(fitting), "; ".join(reasons)), fitting


def _effect(kernel: Kernel, clusters: int, per_channel: bool) -> str:
    each = " for each output channel" if per_channel else ""
    weights = kernel.inputs if per_channel else kernel.variable.shape.num_elements()
    return f"{clusters} values{each}" if weights > clusters else f"has {weights} weights{each}, so they keep their values"
