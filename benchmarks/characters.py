"""The next character of film reviews (rt-polarity): tfopt's character model beside an interpolated 3-gram, on the same held-out sentences.

    TFOPT_DATA=... python benchmarks/characters.py        # about 10 minutes on 2 cores

The model, its data and its settings are those of recipes/characters.toml: 6,931 sentences to learn from, 1,599 for validation, 2,132 held
out and scored, as the Keras model and as each .tflite on LiteRT. The n-grams get the same indices, so the same characters, "[UNK]" for
those that are not among the most frequent, and the end of each sentence; a sentence is cut off where the model's is.

An n-gram is interpolated with all shorter ones, down to all symbols being equally likely (Jelinek & Mercer 1980),

    p_n(c | context) = l p(c | n - 1 characters) + (1 - l) p_(n-1)(c | context),

with a weight l for each length and each power of two of how often the context was seen (Bahl, Jelinek & Mercer 1983), all of them fitted
on the validation sentences by expectation maximization. No context goes over a sentence's beginning. The 3-gram is what the model has to
beat; the others stand beside it.

Prints the perplexity of each and saves them to benchmarks/results/characters.json. A run that is there is not computed again.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import tfopt
from tfopt import pipeline, pipelines, recipes, reporting

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "characters.json"
RECIPE = ROOT.parent / "recipes" / "characters.toml"
ORDERS, ROUNDS = (1, 2, 3, 4, 5), 50


class NGrams:
    """Interpolated n-grams up to the length n, of x and y (sentences, length) as `tfopt.datasets.text_lines` gives them."""

    def __init__(self, x: np.ndarray, y: np.ndarray, n: int, symbols: int):
        self.n, self.symbols = n, symbols
        self.counts = []
        for length in range(n):
            context, following = self._codes(x, y, length)
            self.counts.append((np.unique(context, return_counts=True), np.unique(following, return_counts=True)))
        self.weights = [np.full(64, 0.5) for _ in range(n)]

    def _codes(self, x: np.ndarray, y: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """A number for the `length` symbols before each one, and one for these and the symbol itself."""
        context, before = np.zeros(x.shape, np.int64), x.astype(np.int64)
        for _ in range(length):
            context = context * (self.symbols + 1) + before
            before = np.pad(before, ((0, 0), (1, 0)))[:, :-1]
        there = y >= 0
        return context[there], (context * self.symbols + y)[there]

    def _parts(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """(n + 1, symbols): the probability of each by frequency alone, of every length and at last of chance; which weight is of which."""
        shares, buckets = [], []
        for length, (contexts, followings) in enumerate(self.counts):
            seen, times = (_looked_up(*pair) for pair in zip((contexts, followings), self._codes(x, y, length), strict=True))
            shares.append(times / np.maximum(seen, 1))
            buckets.append(np.where(seen > 0, 1 + np.log2(np.maximum(seen, 1)).astype(int), 0))
        return np.array([np.full(len(shares[0]), 1 / self.symbols), *shares])[::-1], buckets[::-1]

    def _mixture(self, buckets: list[np.ndarray]) -> np.ndarray:
        """(n + 1, symbols): how much each length counts, the longest first."""
        left, rows = np.ones(len(buckets[0])), []
        for weights, bucket in zip(reversed(self.weights), buckets, strict=True):
            share = np.where(bucket > 0, weights[bucket], 0.0)
            rows.append(left * share)
            left = left * (1 - share)
        return np.array([*rows, left])

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Finds the weights under which these sentences are likeliest."""
        parts, buckets = self._parts(x, y)
        for _ in range(ROUNDS):
            chosen = self._mixture(buckets) * parts
            chosen /= chosen.sum(axis=0)
            reached = np.cumsum(chosen[::-1], axis=0)[::-1]  # this length or a shorter one
            for at, bucket in enumerate(buckets):
                part, whole = (np.bincount(bucket, of[at], minlength=64) for of in (chosen, reached))
                self.weights[self.n - 1 - at] = np.where(whole > 0, part / np.maximum(whole, 1e-300), 0.5)

    def perplexity(self, x: np.ndarray, y: np.ndarray) -> float:
        """Of these sentences."""
        parts, buckets = self._parts(x, y)
        return float(np.exp(-np.log((self._mixture(buckets) * parts).sum(axis=0)).mean()))


def _looked_up(table: tuple[np.ndarray, np.ndarray], codes: np.ndarray) -> np.ndarray:
    """How often each code is in the table of codes and counts."""
    known, counts = table
    at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(known[at] == codes, counts[at], 0)


def measured() -> dict[str, object]:
    """The perplexity of everything on the held-out sentences."""
    recipe = recipes.read(RECIPE)
    data, _ = pipeline.begun(recipe)
    train, validation, test = (pipelines.to_arrays(part) for part in (data.train, data.validation, data.test))
    grams = {}
    for n in ORDERS:
        model = NGrams(*train, n, data.num_classes)
        model.fit(*validation)
        grams[f"{n}-gram"] = {"perplexity": model.perplexity(*test), "validation": model.perplexity(*validation)}
    report = tfopt.run(recipe, out=Path("runs") / "benchmark-characters")
    files = {
        row.artifact.name: {"perplexity": row.verdict.score, "interval": row.verdict.interval, "bytes": row.measures.bytes}
        for row in report.rows
    }
    return {
        "sentences": len(test[1]),
        "symbols": int((test[1] >= 0).sum()),
        "n-grams": grams,
        "keras": report.rows[0].verdict.baseline,
        "files": files,
        "environment": reporting.environment(tfopt.strategies.pick("one")),
    }


def main() -> None:
    """Measures what is not there yet, and prints the table."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else measured()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"perplexity of {results['symbols']:,} characters in {results['sentences']:,} held-out sentences")
    for name, found in results["n-grams"].items():
        print(f"interpolated {name:27}{found['perplexity']:8.3f}")
    print(f"{'tfopt, Keras model':40}{results['keras']:8.3f}")
    for name, found in results["files"].items():
        print(f"tfopt, {name + '.tflite':33}{found['perplexity']:8.3f}{found['bytes']:12,} bytes")


if __name__ == "__main__":
    main()
