"""What `fold` takes away: python benchmarks/folding.py [NET ...]     (some minutes a net on 2 cores)

Nets of keras.applications, untrained, for 224 x 224 x 3 and 1000 classes: layers, parameters and multiply-accumulates before and after, and
the median time of one inference in LiteRT on one thread, the two files timed in turns. Saved nets (benchmarks/results/folding.json) are not
made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import tfopt
from tfopt import backend, timing

RESULTS = Path(__file__).parent / "results" / "folding.json"
NETS = ("DenseNet121", "ResNet50V2", "MobileNetV2", "EfficientNetB0", "InceptionV3", "NASNetMobile", "Xception", "ConvNeXtTiny")
SHAPE = (224, 224, 3)


def measured(net: str, data: tfopt.types.Data) -> dict:
    model = getattr(backend.keras().applications, net)(weights=None, input_shape=SHAPE)
    models = model, tfopt.fold(model)
    found = {
        "layers": [len(each.layers) for each in models],
        "parameters": [each.count_params() for each in models],
        "macs": [tfopt.inspect(each).macs for each in models],
    }
    for form in ("float32", "int8"):
        files = [tfopt.convert(each, form, data=data) for each in models]
        found[form] = {
            "ms": [time.median_ms for time in timing.compare(files)],
            "bytes": [len(file.content) for file in files],
            "operations": [len(tfopt.measure(file).operations) for file in files],
        }
    return found


def _written(value: float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=NETS)
    nets = parser.parse_args().nets
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"machine": timing.machine(), "nets": {}}
    generator = np.random.default_rng(0)
    data = tfopt.datasets.arrays(x=generator.random((40, *SHAPE), "float32"), y=np.arange(40) % 2)  # ranges are measured on them
    for net in nets:
        if net not in saved["nets"]:
            saved["nets"][net] = measured(net, data)
            RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
    table = Table("net", "layers", "parameters", "MACs", "ms, float32", "ms, int8", title=saved["machine"])
    for net, found in saved["nets"].items():
        pairs = [found["layers"], found["parameters"], found["macs"], found["float32"]["ms"], found["int8"]["ms"]]
        table.add_row(net, *(f"{_written(before)} -> {_written(after)}" for before, after in pairs))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
