"""Model -> model: copying, rewriting, selecting. Nothing here trains, and nothing here changes the model that it is given.

`normalized` is what makes a model quantizable: all passes, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import activations, attending, copying, dilating, dropping, folding, hoisting, merging, operators, planes, recurrent, rewriting


@dataclass(frozen=True)
class Fate:
    """What became of one layer of a model that was normalized.

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
    fates = {path: Fate((path,)) for path, _ in copying.all_layers(model)}

    def then(change: Callable, *arguments: Any) -> bool:
        nonlocal model, fates
        model, changes = change(model, *arguments)
        fates = {path: fate.after(changes) for path, fate in fates.items()}
        return bool(changes)

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
    alive = {after.name for before, after in rewriting.pairs(model) if live(before, after)}
    while then(folding.folded_back, lambda _, after: foldable(after)) or then(
        folding.folded_forward, lambda layer, behind: foldable(layer) and not shared(behind)
    ):
        pass
    then(folding.scalings_as_convolutions, lambda layer: layer.name not in alive)
    then(folding.rescalings_split)
    then(activations.relu_fused)
    then(dilating.dilated_as_direct)
    return model, fates
