"""Numbers of benchmarks: spreads, and intervals by bootstrap. Pure arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles of milliseconds."""
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {
        "n": len(values),
        "p50_ms": round(float(p50), 3),
        "p95_ms": round(float(p95), 3),
        "p99_ms": round(float(p99), 3),
        "max_ms": round(max(values), 3),
    }


def pairs(plain: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """How far each of our turns was from the plain turn beside it, in milliseconds."""
    differences = [b - a for a, b in zip(plain, ours, strict=True)]
    return {
        "median_difference_ms": round(statistics.median(differences), 3),
        "p95_distance_ms": round(float(np.percentile(np.abs(differences), 95)), 3),
        "p95_slower_by_ms": round(float(np.percentile(differences, 95)), 3),
        "max_distance_ms": round(max(abs(d) for d in differences), 3),
    }


def median_interval(plain: Sequence[float], ours: Sequence[float], seed: int) -> dict[str, float | list[float]]:
    """Median difference of pairs with its 95 % bootstrap interval, in ms and in percent of the plain median."""
    differences = np.asarray(ours) - np.asarray(plain)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), (RESAMPLES, len(differences)))
    medians = np.median(differences[drawn], axis=1)
    base = np.median(np.asarray(plain)[drawn], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    low_percent, high_percent = np.percentile(100 * medians / base, [2.5, 97.5])
    return {
        "median_ms": round(float(np.median(differences)), 2),
        "interval_95_ms": [round(float(low), 2), round(float(high), 2)],
        "median_percent": round(float(100 * np.median(differences) / np.median(plain)), 2),
        "interval_95_percent": [round(float(low_percent), 2), round(float(high_percent), 2)],
    }
