"""Model -> model: copying, rewriting, selecting. Nothing here trains, and nothing here changes the model that it is given.

`normalized` is what makes a model quantizable: all passes, one after the other. `simplified` is what makes it smaller, in the layers that
it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import (
    activations,
    attending,
    composing,
    constants,
    copying,
    coupling,
    cutting,
    dilating,
    dropping,
    folding,
    hoisting,
    kernels,
    merging,
    operators,
    planes,
    pooling,
    recurrent,
    rewriting,
)


@dataclass(frozen=True)
class Fate:
    """What became of one layer of a model that was normalized or simplified.

    Attributes:
      layers: the layers of the new model that do its work, the one that stands for it first.
      merged: whether these stand for other layers, into which this one went; `layers` is empty for one that was dropped.
      reasons: what was done, in order: "becomes a Conv2D", "folded into conv". Empty for a layer that is as it was.
    """

    layers: tuple[str, ...]
    merged: bool = False
    reasons: tuple[str, ...] = ()

    def after(self, changes: rewriting.Changes) -> Fate:
        """The fate after another pass."""
        found = [changes.get(name, rewriting.Change("", (name,))) for name in self.layers]
        if self.merged:
            return Fate(tuple(name for change in found for name in change.into[:1]), True, self.reasons)
        reasons = (*self.reasons, *(change.reason for change in found if change.reason))
        own = tuple(name for change in found if not change.merged for name in change.into)
        return Fate(own or found[0].into, not own, reasons)


class Followed:
    """A model that passes are applied to, one after the other, and what became of each of its first layers."""

    def __init__(self, model: Any):
        self.model = model
        self.fates = {path: Fate((path,)) for path, _ in copying.all_layers(model)}

    def then(self, change: Callable, *arguments: Any) -> bool:
        """Applies a pass; whether it found something to do."""
        self.model, changes = change(self.model, *arguments)
        self.fates = {path: fate.after(changes) for path, fate in self.fates.items()}
        return bool(changes)


def normalized(
    model: Any,
    *,
    live: Callable[[Any, Any], bool] = lambda before, after: False,
    inline: Callable[[Any], bool] = lambda layer: rewriting.activation_name(layer) == "relu",
    shared: Callable[[Any], bool] = lambda layer: False,
    deploy: bool = False,
) -> tuple[Any, dict[str, Fate]]:
    """The same model in the few kinds of layer that can be quantized, and what became of each layer, by its path (`outer/inner`).

    No prediction changes by more than rounding. In this order:

    1. Nested models are laid open: the other passes look at one graph.
    2. To deploy, dropout and augmentation are dropped: what they kept apart can be folded.
    3. Operations become layers, since all that follows looks for layers; LSTMs become loops, what merges three merges
       two, and attention its projections and products.
    4. Layers along one axis go onto a plane: then a BatchNorm or ReLU behind a Conv1D stands behind a Conv2D.
    5. Activations go out of the layers that can't have them inside, and relu6, bounded ReLUs and hard sigmoids become ReLU(6.): what is
       linear afterwards can be folded into.
    6. Preprocessing goes to the front; then constants are folded, back before forward, as back is always exact, until nothing more goes.
    7. The BatchNorms that are left become 1x1 convolutions, and Rescalings a product and a sum.
    8. ReLUs go into the layers before them: late, since a layer with a ReLU is no longer linear.
    9. Dilated convolutions become one operation: last, since they are then no longer Keras's own.

    Args:
      model: a tf_keras model, sequential or functional, of any nesting. It is not changed.
      live: `(layer before, BatchNorm behind) -> whether to leave the two` to a quantizer that folds them by itself while it trains.
      inline: `layer -> whether its activation may stay inside it`.
      shared: `layer -> whether its weights share values`, which a factor for each of its inputs would pull apart: nothing is folded
        into it from before. A factor for each output leaves each output channel as many values as it had.
      deploy: whether the model is done learning. If not, dropout stays, and only BatchNorms are folded: a Rescaling by 1/255 (or a
        LayerScale by 1e-6) would make weights so many times smaller, and an optimizer's steps would be as large as before.
    """
    followed = Followed(model)
    then = followed.then

    def foldable(layer: Any) -> bool:
        return layer.name not in alive and (deploy or rewriting.kind(layer) in folding.BATCH_NORMS)

    then(rewriting.flattened)
    if deploy:
        then(dropping.identities_dropped)
    then(operators.as_layers)
    then(recurrent.lstms_as_loops)
    then(merging.in_pairs)
    then(attending.attention_opened)
    then(attending.dot_attention_opened)
    then(attending.einsums_as_dense)
    then(attending.steps_as_dense)
    then(planes.as_planes)
    then(activations.activations_split, inline)
    then(activations.relu6_as_layers, inline)
    then(activations.bounded_as_relu6)
    then(hoisting.hoisted)
    alive = {after.name for before, after in rewriting.pairs(followed.model) if live(before, after)}
    while then(folding.folded_back, lambda _, after: foldable(after)) or then(
        folding.folded_forward, lambda layer, behind: foldable(layer) and not shared(behind)
    ):
        pass
    then(folding.scalings_as_convolutions, lambda layer: layer.name not in alive)
    then(folding.rescalings_split)
    then(activations.relu_fused)
    then(dilating.dilated_as_direct)
    return followed.model, followed.fates


def simplified(
    model: Any,
    *,
    shared: Callable[[Any], bool] = lambda layer: False,
    sparse: Callable[[Any], bool] = lambda layer: False,
) -> tuple[Any, dict[str, Fate]]:
    """The same model in fewer layers of its own kinds and fewer multiply-accumulates, and what became of each layer, by its path.

    No prediction changes by more than rounding. Nested models are laid open, and what does nothing at inference is dropped; then, until
    nothing more goes: constants are folded, back before forward, as back is always exact; linear layers are composed; pooling goes first.

    Args:
      model: a tf_keras model, sequential or functional, of any nesting. It is not changed.
      shared: `layer -> whether its weights share values`: nothing is folded into it from before, as in `normalized`, and it is not made
        one with another.
      sparse: `layer -> whether its weights hold zeros`, which a factor leaves, but the product with another kernel does not.
    """
    followed = Followed(model)

    def free(layer: Any) -> bool:
        return not shared(layer) and not sparse(layer)

    passes = (
        (dropping.idle_dropped,),
        (constants.constants_folded,),
        (_silent_cut,),
        (folding.folded_back,),
        (folding.folded_forward, lambda layer, behind: not shared(behind)),
        (folding.rescalings_joined,),
        (composing.composed, lambda before, after: free(before) and free(after)),
        (pooling.pooled_first,),
    )
    followed.then(rewriting.flattened)
    followed.then(operators.as_layers, ("Rescaling",))
    followed.then(dropping.identities_dropped)
    while any(followed.then(*each) for each in passes):
        pass
    return followed.model, followed.fates


def _silent_cut(model: Any) -> tuple[Any, rewriting.Changes]:
    """The same model without channels that are made of zeros only."""
    if all(kernel.matrix().any(axis=0).all() for kernel in kernels.of_all(model.layers)):  # cheaper to see than what belongs together
        return model, {}
    ties = coupling.coupled(model)
    gone = cutting.silent(ties)
    new = cutting.without(model, ties, gone) if gone else model
    smaller = [old.name for old, layer in zip(model.layers, new.layers, strict=True) if old.count_params() != layer.count_params()]
    return new, {name: rewriting.Change("channels of zeros cut", (name,)) for name in smaller}
