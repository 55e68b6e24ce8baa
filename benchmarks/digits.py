"""Where the time of `tfopt run recipes/digits.toml` goes: imports, training, conversion, and tfopt's own code, which is to take under 5 s.

    python benchmarks/digits.py        # about 3 minutes: three runs, each in a fresh process and an empty folder

Prints a table of medians and saves every run to benchmarks/results/digits.json. A run that is saved there already is not made again;
remove the file to begin anew.
"""

from __future__ import annotations

import importlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "digits.json"
RUNS = 3


def measured() -> dict[str, float]:
    """One run in this process: wall seconds of each part, without those of the parts inside it, and the CPU seconds of the whole."""
    spent, stack, since = {"own: rest": 0.0}, ["own: rest"], time.perf_counter()

    def switch(change) -> None:
        nonlocal since
        now = time.perf_counter()
        spent[stack[-1]] = spent.get(stack[-1], 0.0) + now - since
        since = now
        change()

    def timed(part, module, name):
        function = getattr(module, name)

        def call(*args, **kwargs):
            switch(lambda: stack.append(part))
            try:
                return function(*args, **kwargs)
            finally:
                switch(stack.pop)

        setattr(module, name, call)

    timed("import", importlib, "import_module")  # the doors to all heavy libraries go through it
    import tfopt
    from tfopt import conversion, loading, reporting, timing, training, verification
    from tfopt.techniques import _quantizing

    timed("train", training, "fit_in_place")
    timed("convert", conversion, "convert")
    timed("own: TF-MOT rewrites the graph", _quantizing, "wrapped")
    timed("own: model files", loading, "load")
    timed("own: model files", loading, "save")
    timed("own: verify and time", verification, "reference")
    timed("own: verify and time", verification, "verify")
    timed("own: verify and time", timing, "compare")
    timed("own: report", reporting.Report, "save")
    with tempfile.TemporaryDirectory() as folder:
        report = tfopt.run(ROOT / "recipes" / "digits.toml", out=Path(folder) / "digits")
    switch(lambda: None)
    rows = {row.artifact.name: row for row in report.rows}
    final, plain = rows["optimized-int8"], rows["plain-float32"]
    return {
        **spent,
        "own, together": sum(seconds for part, seconds in spent.items() if part.startswith("own")),
        "wall": sum(spent.values()),
        "cpu": time.process_time(),
        "accuracy float32": plain.verdict.score,
        "accuracy int8": final.verdict.score,
        "bytes, of float32's": final.measures.bytes / plain.measures.bytes,
        "gzip bytes, of the converter's int8": final.measures.gzip_bytes / rows["plain-int8"].measures.gzip_bytes,
    }


def main() -> None:
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"machine": platform.processor() or platform.machine(), "runs": []}
    while len(saved["runs"]) < RUNS:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, __file__, "--one"], capture_output=True, text=True, check=True)
        run = json.loads(done.stdout.splitlines()[-1])
        run["process wall"] = time.perf_counter() - start
        saved["runs"].append(run)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
    for name in saved["runs"][0]:
        values = [run[name] for run in saved["runs"]]
        print(f"{name:36} median {statistics.median(values):8.3f}   ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(measured()))
    else:
        main()
