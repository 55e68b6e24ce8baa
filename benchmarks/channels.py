"""What planning channels costs, and how well a budget of time is met: python benchmarks/channels.py     (about 10 minutes on 2 cores)

- Planning: groups, scores by weights ("l2") and a plan for half of the multiply-accumulates, of nets at 224 x 224 and of chains of 10,
  50 and 200 convolutions with residual Adds; medians of five, and the seconds for each layer.
- Time budgets: a ResNet-8 (weights do not matter) is cut to shares of its int8 file's time, or refused where the fewest channels take more;
  beside them what is measured afterwards, the files timed in turns.
- Widths: the time of a ResNet-8's int8 file by its number of filters, for each multiply-accumulate, beside that of 32: which counts suit
  the kernels.

A row is a finished measurement; one that stands in benchmarks/results/channels.json already is not made again.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tfmot import environment

import tfopt
from tfopt import backend, timing

RESULTS = Path(__file__).parent / "results" / "channels.json"
CHAINS, SHARES, WIDTHS = (10, 50, 200), (0.8, 0.6, 0.4), (8, 9, 10, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 28, 30, 31, 32)


def chain(count: int):
    """So many convolutions, each second one's output added to what went in before."""
    layers = backend.keras().layers
    inputs = backend.keras().Input((32, 32, 16))
    x = inputs
    for _ in range(count // 2):
        y = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.Conv2D(16, 3, padding="same", activation="relu")(x))
        x = layers.Add()([x, y])
    return backend.keras().Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def planned(build) -> dict:
    model, seconds = build(), []
    for _ in range(5):
        start = time.perf_counter()
        plan = tfopt.plan_channels(model, macs=0.5)
        seconds.append(time.perf_counter() - start)
    layers = len(model.layers)
    return {"seconds": statistics.median(seconds), "layers": layers, "groups": len(plan.groups), "macs": plan.macs}


def in_time(share: float) -> dict:
    generator = np.random.default_rng(0)
    x, y = generator.random((500, 32, 32, 3), "float32"), np.arange(500) % 10
    data = tfopt.datasets.arrays(x=x, y=y)
    model = tfopt.models.resnet((32, 32, 3), 10)
    full = tfopt.convert(model, "int8", data=data)
    budget = share * tfopt.benchmark(full, data=data, runs=1000).median_ms
    start = time.perf_counter()
    try:
        small = tfopt.prune_channels(model, data, latency_ms=budget)
    except tfopt.errors.OptionError as error:  # more than the fewest channels take, whose time is mostly that of the operations themselves
        return {"refused": str(error)}
    seconds = time.perf_counter() - start
    before, after = timing.compare([full, tfopt.convert(small, "int8", data=data)], data=data, runs=1000)
    return {"share": after.median_ms / before.median_ms, "parameters": small.count_params() / model.count_params(), "seconds": seconds}


def by_width() -> dict:
    models = {width: tfopt.models.resnet((32, 32, 3), 10, width=width) for width in WIDTHS}
    x = np.random.default_rng(0).random((500, 32, 32, 3), "float32")
    data = tfopt.datasets.arrays(x=x, y=np.arange(500) % 10)
    timed = timing.compare([tfopt.convert(model, "int8", data=data) for model in models.values()], data=data, runs=1000)
    macs = {width: tfopt.inspect(model).macs for width, model in models.items()}
    return {str(width): {"ms": each.median_ms, "macs": macs[width]} for width, each in zip(models, timed, strict=True)}


def wanted() -> dict:
    nets = backend.keras().applications
    rows = {f"plan {name}": lambda name=name: planned(lambda: getattr(nets, name)(weights=None)) for name in ("ResNet50", "EfficientNetB0")}
    rows |= {f"plan a chain of {count}": lambda count=count: planned(lambda: chain(count)) for count in CHAINS}
    rows |= {f"{share:g} of the time": lambda share=share: in_time(share) for share in SHARES}
    return {**rows, "widths": by_width}


def main() -> int:
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    for name, make in wanted().items():
        if name not in rows:
            rows[name] = make()
            print(name, rows[name], file=sys.stderr, flush=True)
            RESULTS.write_text(json.dumps({"environment": environment(), "machine": timing.machine(), "rows": rows}, indent=1) + "\n")
    show(rows)
    return 0


def show(rows: dict) -> None:
    console = Console(width=120)
    plans = Table("plan of", "layers", "groups", "seconds", "ms a layer")
    times = Table("budget", "measured", "parameters left", "seconds to find")
    for name, row in rows.items():
        if name.startswith("plan"):
            each = f"{1000 * row['seconds'] / row['layers']:.2f}"
            plans.add_row(name[5:], str(row["layers"]), str(row["groups"]), f"{row['seconds']:.3f}", each)
        elif "refused" in row:
            times.add_row(name, "refused", "", "")
        elif name != "widths":
            times.add_row(name, f"{row['share']:.3f}", f"{row['parameters']:.3f}", f"{row['seconds']:.0f}")
    widths, each = Table("filters", "ms", "of 32's time for each MAC"), rows["widths"]
    for width, row in each.items():
        widths.add_row(width, f"{row['ms']:.4f}", f"{row['ms'] / row['macs'] / (each['32']['ms'] / each['32']['macs']):.2f}")
    for table in (plans, times, widths):
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
