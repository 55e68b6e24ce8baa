"""Examples turned into new directions: principal components and whitening. scikit-learn learns, and a deployed app multiplies a matrix."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import backend, options
from ..errors import DataError
from ._checking import Numbers, floats, given, listed, numbers, size_of

Matrix = list[Numbers]
# A statistic is kept as text with the model, and as float32 in a .tflite: 10 million numbers are 200 MB of the one and 40 of the other.
MOST_NUMBERS = 10_000_000


@options.checked
def pca(
    x: Any,
    *,
    components: Annotated[int, Field(ge=1)],
    whiten: bool = False,
    mean: Numbers | None = None,
    matrix: Matrix | None = None,
) -> Any:
    """The first principal components of each example: (n, ...) -> (n, components), `(x - mean) @ matrix`.

    whiten: divide each component by its standard deviation among the training examples.
    mean, matrix: learnt, by scikit-learn's PCA: as many numbers as an example has values, and as many rows of `components` numbers.

    >>> pca(images, components=20, **learnt).shape
    (100, 20)

    Raises:
      DataError: statistics that are missing or of another size.
    """
    projected = _projected(floats(x, "pca"), mean, matrix, "pca")
    if projected.shape[-1] != components:
        raise DataError(f"pca: components = {components}, and matrix has rows of {projected.shape[-1]} numbers; they should be as many")
    return projected


def learn_pca(x: np.ndarray, *, components: int, whiten: bool = False, **known: Any) -> dict[str, Any]:
    """The options with `mean` and `matrix`.

    Raises:
      DataError: there are not so many components.
    """
    if all(known.get(name) is not None for name in ("mean", "matrix")):
        return {"components": components, "whiten": whiten, **known}
    flat = _flat(x, "pca")
    if components > min(flat.shape):
        raise DataError(
            f"pca: components = {components}, and {len(flat):,} training examples of {flat.shape[1]:,} values have {min(flat.shape):,}; "
            "ask for fewer"
        )
    _check_size(flat.shape[1] * components, "pca")
    found = backend.sklearn("decomposition").PCA(components, random_state=0).fit(flat)
    matrix = found.components_.T
    if whiten:
        matrix = matrix * _inverse(np.sqrt(found.explained_variance_))
    return {"components": components, "whiten": whiten, "mean": listed(found.mean_), "matrix": matrix.tolist()}


@options.checked
def whiten(
    x: Any,
    *,
    method: Literal["zca", "pca"] = "zca",
    epsilon: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-6,
    mean: Numbers | None = None,
    matrix: Matrix | None = None,
) -> Any:
    """Each example turned and stretched so that the training examples' values are uncorrelated and of variance 1.

    method: "zca" turns the result back, so that images still look like themselves, and keeps the shape; "pca" leaves it as components
      in order of their variance, (n, d), or less than d where there were fewer training examples.
    epsilon: is added to each variance, so that directions of next to none are not blown up; in squares of x's unit.
    mean, matrix: learnt: d numbers, and d rows of as many, where d is the number of values in an example.

    >>> whiten(images, **learnt).shape
    (100, 8, 8, 1)

    Raises:
      DataError: statistics that are missing or of another size.
    """
    tf = backend.tensorflow()
    x = floats(x, "whiten")
    projected = _projected(x, mean, matrix, "whiten")
    if method == "pca":
        return projected
    if projected.shape[-1] != size_of(x, "whiten"):
        raise DataError(f"whiten: matrix has rows of {projected.shape[-1]} numbers; 'zca' needs {size_of(x, 'whiten')}, one for each value")
    return tf.reshape(projected, [-1, *x.shape[1:]])


def learn_whiten(x: np.ndarray, *, method: str = "zca", epsilon: float = 1e-6, **known: Any) -> dict[str, Any]:
    """The options with `mean` and `matrix`."""
    if all(known.get(name) is not None for name in ("mean", "matrix")):
        return {"method": method, "epsilon": epsilon, **known}
    flat = _flat(x, "whiten")
    _check_size(flat.shape[1] ** 2, "whiten")
    # By the covariance, which takes a thirtieth of the time; where examples are few it would give directions that they do not have.
    solver = "covariance_eigh" if len(flat) > flat.shape[1] else "full"
    found = backend.sklearn("decomposition").PCA(svd_solver=solver).fit(flat)
    matrix = found.components_.T * _inverse(np.sqrt(found.explained_variance_ + epsilon))
    if method == "zca":
        matrix = matrix @ found.components_
    return {"method": method, "epsilon": epsilon, "mean": listed(found.mean_), "matrix": matrix.tolist()}


def _flat(x: np.ndarray, step: str) -> np.ndarray:
    x = numbers(x, step)
    if len(x) < 2:
        raise DataError(f"{step}: takes at least 2 training examples to learn from, got {len(x)}")
    return x.reshape(len(x), -1).astype(np.float64)


def _check_size(count: int, step: str) -> None:
    if count > MOST_NUMBERS:
        raise DataError(
            f"{step}: its matrix would hold {count:,} numbers, and at most {MOST_NUMBERS:,} are kept with a model; make the examples "
            "smaller first, or take pca with fewer components"
        )


def _inverse(width: np.ndarray) -> np.ndarray:
    """1 / width; 0 where nothing varies, of which rounding leaves a little."""
    return np.where(width > 1e-7 * width.max(), 1 / np.maximum(width, np.finfo(np.float64).tiny), 0)


def _projected(x: Any, mean: Numbers | None, matrix: Matrix | None, step: str) -> Any:
    tf = backend.tensorflow()
    given(step, mean=mean, matrix=matrix)
    size = size_of(x, step)
    widths = {len(row) for row in matrix}
    if len(mean) != size or len(matrix) != size or len(widths) != 1:
        raise DataError(
            f"{step}: mean holds {len(mean)} numbers and matrix {len(matrix)} rows of {'/'.join(map(str, sorted(widths)))}; examples of "
            f"shape {tuple(x.shape[1:])} need {size} and {size} of the same length; leave both out to learn them from training examples"
        )
    return tf.matmul(tf.reshape(x, [-1, size]) - np.asarray(mean, np.float32), np.asarray(matrix, np.float32))
