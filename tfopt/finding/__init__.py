"""What to train with, found out by short trials: `lr_find`, `batch_find`; and how far a score is to be believed: `cross_validate`."""

from ._batch_sizes import BatchSize, BatchSizes, batch_find
from ._cross_validation import CrossValidation, cross_validate
from ._learning_rates import LearningRates, lr_find

__all__ = ["BatchSize", "BatchSizes", "CrossValidation", "LearningRates", "batch_find", "cross_validate", "lr_find"]
