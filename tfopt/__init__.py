"""tfopt: trains a Keras model, makes it small and fast, converts it to TFLite, proves and measures the result.

    import tfopt
    report = tfopt.run("recipes/digits.toml")

Nothing heavy is loaded by `import tfopt`: each public name below brings its module when it is first used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Artifact": "types",
    "Choice": "types",
    "Data": "types",
    "Embeddings": "embedding",
    "Fit": "types",
    "Preprocessing": "deployment",
    "Recipe": "types",
    "Step": "types",
    "Timing": "results",
    "Trace": "tracing",
    "Verdict": "results",
    "ArtifactError": "errors",
    "BridgeError": "errors",
    "ConversionError": "errors",
    "DataError": "errors",
    "LimitError": "errors",
    "OptionError": "errors",
    "RecipeError": "errors",
    "RunError": "errors",
    "TfoptError": "errors",
    "UnsupportedModel": "errors",
    "Report": "reporting",
    "Session": "runtime",
    "batch_find": "finding",
    "benchmark": "timing",
    "chain": "techniques",
    "clip_weights": "techniques",
    "cluster": "techniques",
    "convert": "conversion",
    "cross_validate": "finding",
    "describe": "describing",
    "distill": "techniques",
    "embed": "embedding",
    "equalize": "techniques",
    "factorize": "techniques",
    "fold": "techniques",
    "inspect": "inspection",
    "load": "loading",
    "load_preprocessing": "deployment",
    "lr_find": "finding",
    "measure": "measures",
    "preprocessing_of": "deployment",
    "plan_channels": "techniques",
    "prune": "techniques",
    "prune_channels": "techniques",
    "quantize_aware": "techniques",
    "run": "pipeline",
    "save": "loading",
    "to_keras3": "bridge",
    "train": "training",
    "unfreeze": "surgery.freezing",
    "verify": "verification",
    "with_detections": "conversion",
}
_MODULES = ("datasets", "models", "pipelines", "preprocessing", "strategies", "tasks", "techniques")

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value  # the next use finds it at once
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
