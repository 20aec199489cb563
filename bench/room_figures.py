"""Spreads of seconds, and of the steps that a takeover consists of. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def seconds(values: Sequence[float | None]) -> dict[str, float]:
    """Percentiles of what there is."""
    there = [v for v in values if v is not None]
    if not there:
        return {"n": 0}
    p50, p95 = np.percentile(there, [50, 95])
    return {
        "n": len(there),
        "p50_s": round(float(p50), 2),
        "p95_s": round(float(p95), 2),
        "max_s": round(max(there), 2),
    }
