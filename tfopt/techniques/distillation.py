"""Distillation: a model learns to give what a better one gives, not only what the labels say.

The incoming model is the student. With the teacher's logits v and its own z, both softened by a temperature T, it is trained by

    loss = (1 - alpha) loss of the task + alpha T^2 KL(softmax(v / T) || softmax(z / T)).

How likely the wrong classes are for the teacher tells more of an example than its label does. Several teachers are averaged. The teacher
sees the same augmented batch as the student. With hints, layers inside the student learn from layers inside the teacher as well.

Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531); hints: Romero et al. 2015, "FitNets: Hints
for Thin Deep Nets" (arXiv:1412.6550).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .. import bridge, options, tasks
from ..errors import DataError, UnsupportedModel
from ..surgery import copying
from ..teaching import ALPHA, HINT_WEIGHT, TEMPERATURE, Hints, Teacher, teaching_by
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from ._keeping import fit_keeping


def plan(model: Any, **_: Any) -> tuple[Choice, ...]:
    """Which layers `distill` will train: those with weights that are not frozen."""
    model = bridge.plain(model)
    copying.check_supported(model)
    return tuple(_choice(name, layer) for name, layer in copying.all_layers(model))


def _choice(name: str, layer: Any) -> Choice:
    if not layer.weights:
        return Choice(name, False, f"{type(layer).__name__} has no weights")
    trained = bool(layer.trainable_weights)
    return Choice(name, trained, "learns from the teacher" if trained else "frozen")


@options.checked
def distill(
    model: Any,
    data: Data | None = None,
    *,
    teacher: Teacher = None,
    temperature: Annotated[float, Field(gt=0)] = TEMPERATURE,
    alpha: Annotated[float, Field(ge=0, le=1)] = ALPHA,
    hints: Hints = None,
    hint_weight: Annotated[float, Field(gt=0)] = HINT_WEIGHT,
    fit: Fit | None = None,
) -> Any:
    """A copy of the model, trained by the outputs of another beside the labels.

    Args:
      model: the student: a plain tf_keras model, or a Keras 3 model.
      data: to train on.
      teacher: a model of the same inputs and outputs, or the path of one; several in a list; "self", the model as it is; in a recipe also
        "trained", the model that it trained.
      temperature: T, by which logits are divided; a high one shows more of the wrong classes.
      alpha: the share of the teacher in the loss, 0 to 1.
      hints: layers of the student and those of an only teacher that they learn from: a dict of names, {"conv2": "conv4"}, or a list of
        names that both have. A linear projection between them is learnt and thrown away. Maps may have any channels; where one has more
        rows or columns they are averaged to those of the other, which have to divide them.
      hint_weight: the factor of the hints' loss, which is the share of the variance of the teacher's maps that is missed.
      fit: how to train; None trains nothing, and gives the copy as it is.

    Returns:
      A plain tf_keras model of the same layers.

    Raises:
      OptionError: a value out of range; hints from layers that there are not, that can't be compared, or from several teachers.
      DataError: no teacher; a fit without data; a teacher that takes or gives something else; a model that does not fit the data.
      UnsupportedModel: a model of which no weight is trained, or whose layers can't be seen.

    >>> student = distill(student, data, teacher=large, fit=Fit(epochs=40, learning_rate=1e-3))
    >>> student = distill(student, data, teacher=large, hints={"relu2": "relu3"}, fit=Fit(epochs=40, learning_rate=1e-3))
    """
    model = copying.copy_of(model)
    if teacher is None:
        raise DataError("distill needs a teacher, whose outputs the student learns: a model, the path of one, or 'self'")
    if fit is not None:
        tasks.check_fits(model, data)
    record_plan("distill", choices := plan(model))
    if not any(choice.treated for choice in choices):
        raise UnsupportedModel.of("distill", model, choices)
    if fit is not None:
        teaching = teaching_by(teacher, model, fit, temperature=temperature, alpha=alpha, hints=hints, hint_weight=hint_weight)
        fit_keeping(model, data, fit, name="distill", teaching=teaching)
    return model
