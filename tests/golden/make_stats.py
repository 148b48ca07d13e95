"""Writes stats.json: coefficients and intervals of scipy for tests/it/stats.rs.

Run with numpy and scipy 1.17: python tests/golden/make_stats.py > tests/golden/stats.json
"""

import json

import numpy as np
import scipy
from scipy import stats
from scipy.stats._resampling import BootstrapResult
from scipy.stats import bootstrap


def columns():
    rng = np.random.default_rng(16)
    line = np.arange(12.0)
    yield "a line", line, 3 * line - 5
    yield "a falling line", line, -0.1 * line
    yield "a cubic", line, (line - 4) ** 3
    yield "two pairs", [1.0, 2.0], [5.0, 4.0]
    yield "ties on both sides", [1, 2, 2, 3, 3, 3, 4, 5, 5, 6], [2, 1, 2, 2, 5, 5, 3, 3, 7, 7]
    yield "ties of pairs", [1, 1, 2, 2, 3, 3, 1, 2], [4, 4, 4, 5, 6, 6, 4, 5]
    yield "noise", rng.normal(size=100), rng.normal(size=100)
    x = rng.normal(size=500)
    yield "a correlation of about a half", x, 0.6 * x + rng.normal(size=500)
    yield "whole numbers with many ties", rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    # Sixty-fourths have few digits: they survive JSON readers that round the last one.
    yield "far from zero", 1e9 + rng.integers(-99, 99, 50) / 64, 1e-9 * rng.normal(size=50)
    yield "exponential", rng.exponential(size=33), rng.exponential(size=33) ** 3


def correlations():
    for name, x, y in columns():
        x, y = np.asarray(x, float), np.asarray(y, float)
        r = stats.pearsonr(x, y)
        interval = r.confidence_interval(0.95) if len(x) > 3 else None
        yield {
            "name": name,
            "x": x.tolist(),
            "y": y.tolist(),
            "ranks": stats.rankdata(x).tolist(),
            "pearson": float(r.statistic),
            "fisher": [float(interval.low), float(interval.high)] if interval else None,
            "spearman": float(stats.spearmanr(x, y).statistic),
            "kendall": float(stats.kendalltau(x, y, variant="b").statistic),
            "mean": float(np.mean(x)),
            "sd": float(np.std(x, ddof=1)),
            "quartiles": np.quantile(x, [0, 0.25, 0.5, 0.75, 1]).tolist(),
        }


def bca():
    """scipy's interval from a distribution that is given, so that no two generators need to agree."""
    rng = np.random.default_rng(17)
    for name, values in [
        ("normal", rng.normal(10, 2, size=20)),
        ("exponential", rng.exponential(size=15)),
        # Eighths, eight of them: means that tie with the estimate do so exactly.
        ("one outlier", np.array([1.0, 1.125, 0.875, 1.0, 1.25, 0.75, 1.0, 7.0])),
    ]:
        n = len(values)
        means = rng.choice(values, size=(999, n)).mean(axis=1)
        given = BootstrapResult(confidence_interval=None, bootstrap_distribution=means, standard_error=None)
        interval = bootstrap(
            (values,), np.mean, n_resamples=0, method="BCa", confidence_level=0.95, bootstrap_result=given
        ).confidence_interval
        yield {
            "name": name,
            "values": values.tolist(),
            "distribution": np.sort(means).tolist(),
            "bca": [float(interval.low), float(interval.high)],
        }


print(json.dumps({"scipy": scipy.__version__, "correlations": list(correlations()), "bca": list(bca())}))
