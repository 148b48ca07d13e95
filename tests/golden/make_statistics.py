"""Writes statistics.json: tests, fits and agreement of other libraries for tests/it/stats/.

Run with numpy, scipy 1.17, statsmodels 0.15, mpmath and krippendorff: python tests/golden/make_statistics.py > tests/golden/statistics.json
"""

import json
from math import nan

import krippendorff
import mpmath
import numpy as np
import pandas as pd
import statsmodels
from scipy import optimize, stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
import scipy

rng = np.random.default_rng(20)


def short(values):
    """Sixteen binary digits after the point: the same number for every reader."""
    return np.round(np.asarray(values, float) * 65536) / 65536


def p_values():
    def case(name, x, y):
        x, y = short(x), short(y)
        return {
            "name": name,
            "x": x.tolist(),
            "y": y.tolist(),
            "pearson": float(stats.pearsonr(x, y).pvalue),
            "spearman": float(stats.spearmanr(x, y).pvalue) if len(x) > 2 else None,
            "kendall": float(stats.kendalltau(x, y).pvalue),
        }

    x = rng.normal(size=40)
    yield case("two pairs", [1, 2], [5, 4])
    yield case("three pairs", [1, 2, 4], [5, 6, 4])
    yield case("exact for Kendall", x[:12], 0.5 * x[:12] + rng.normal(size=12))
    yield case("33 pairs", x[:33], 0.3 * x[:33] + rng.normal(size=33))
    yield case("40 pairs", x, 0.3 * x + rng.normal(size=40))
    yield case("in order but for one", np.arange(40), np.r_[np.arange(38), 39, 38])
    yield case("ties", rng.integers(0, 5, 60), rng.integers(0, 4, 60))
    yield case("few with ties", [1, 2, 2, 3, 3, 5], [2, 1, 2, 2, 5, 5])
    z = rng.normal(size=300)
    yield case("strong", z, 2 * z + rng.normal(size=300))


def logistic(x, upper, lower, middle, width):
    return (upper - lower) / (1 + np.exp(-(x - middle) / np.abs(width))) + lower


def fits():
    def case(name, x, y):
        x, y = short(x), short(y)
        start = [y.max(), y.min(), x.mean(), x.std() / 4]
        with np.errstate(over="ignore"):
            best, _ = optimize.curve_fit(
                logistic, x, y, p0=start, maxfev=100_000, ftol=1e-15, xtol=1e-15, gtol=1e-15
            )
            fitted = logistic(x, *best)
        return {
            "name": name,
            "x": x.tolist(),
            "y": y.tolist(),
            "parameters": [*best[:3].tolist(), abs(float(best[3]))],
            "plcc": float(stats.pearsonr(fitted, y).statistic),
        }

    x = rng.uniform(-3, 3, 120)
    yield case("a clear curve", x, logistic(x, 5, 1, 0.3, 0.5) + 0.2 * rng.normal(size=120))
    yield case("a falling curve", x, logistic(x, 1, 4, -0.5, 0.8) + 0.3 * rng.normal(size=120))
    x = rng.normal(30, 4, 300)
    yield case("noise about half", x, logistic(x, 5, 1, 31, 3) + rng.normal(size=300))
    yield case("ties, as opinions have", np.round(x), np.round(np.clip(logistic(x, 5, 1, 30, 2) + rng.normal(size=300), 1, 5)))
    x = rng.uniform(0, 1e4, 80)
    yield case("large numbers", x, logistic(x, 90, 10, 4e3, 1e3) + 5 * rng.normal(size=80))
    x = rng.exponential(size=60)
    yield case("one side only", x, np.tanh(x) + 0.1 * rng.normal(size=60))


def wilcoxon():
    def case(name, d):
        d = short(d)
        result = stats.wilcoxon(d)
        return {"name": name, "differences": d.tolist(), "statistic": float(result.statistic), "p": float(result.pvalue)}

    yield case("one", [1.5])
    yield case("five", [1.5, -0.5, 2.0, 3.0, 0.25])
    yield case("thirty", rng.normal(0.4, 1, 30))
    yield case("fifty", rng.normal(0.2, 1, 50))
    yield case("fifty-one", rng.normal(0.2, 1, 51))
    yield case("few with ties", [1, 1, -1, 2, 2, -3, 4, 4])
    yield case("few with zeros", [0, 1, -2, 3, 0, 4, 5])
    yield case("many with ties and zeros", rng.integers(-3, 5, 80))
    yield case("fourteen with ties", [1, 1, -1, 2, 2, -3, 4, 4, 5, 5, 6, -6, 7, 8])


def permutation():
    for name, d in [
        ("eight", rng.normal(0.5, 1, 8)),
        ("twelve with ties", rng.integers(-2, 4, 12)),
        ("all alike", [1.0] * 6),
    ]:
        d = short(d)
        result = stats.permutation_test(
            (d,), lambda it: np.mean(it), permutation_type="samples", n_resamples=np.inf
        )
        yield {"name": name, "differences": d.tolist(), "p": float(result.pvalue)}


def proportions():
    for k, n in [(0, 10), (3, 10), (10, 10), (57, 100), (7.5, 20), (1234, 5000)]:
        low, high = proportion_confint(k, n, method="wilson")
        p = float(stats.binomtest(int(k), n).pvalue) if k == int(k) else None
        yield {"successes": k, "n": n, "low": float(low), "high": float(high), "p": p}


def holm():
    for p in [[0.01, 0.04, 0.03, 0.005], [0.5], [0.02, 0.02, 0.9, 0.6], rng.uniform(size=12).tolist()]:
        yield {"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()}


def power():
    """The power of a paired t test by mpmath's integral of the noncentral t distribution: statsmodels knows about six digits."""

    def chance(dz, n):
        degrees, shift = n - 1, dz * mpmath.sqrt(n)
        critical = mpmath.findroot(
            lambda t: mpmath.betainc(mpmath.mpf(degrees) / 2, 0.5, 0, degrees / (degrees + t * t), regularized=True) - mpmath.mpf("0.05"),
            stats.t.ppf(0.975, degrees),
        )
        half = mpmath.mpf(degrees) / 2
        constant = 2 * half**half / mpmath.gamma(half)

        def term(s, t):
            return constant * s ** (degrees - 1) * mpmath.exp(-half * s * s) * mpmath.ncdf(t * s - shift)

        spread = 1 / mpmath.sqrt(2 * degrees)
        edges = sorted({max(mpmath.mpf(0), 1 + it * spread) for it in range(-14, 15, 2)} | {mpmath.mpf(0)})
        edges += [edges[-1] + 2, edges[-1] + 6]
        return 1 - mpmath.quad(lambda s: term(s, critical), edges) + mpmath.quad(lambda s: term(s, -critical), edges)

    for n in [2, 3, 5, 10, 30, 150]:
        rough = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
        dz = mpmath.findroot(lambda it: chance(it, n) - mpmath.mpf("0.8"), (rough, rough * 1.001))
        assert abs(dz - rough) < 1e-5 * rough
        yield {"n": n, "dz": float(dz)}


def cohen():
    a, b = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    b[:25] = a[:25]
    # Less agreement than chance.
    table = [[25, 13, 12], [12, 2, 16], [3, 15, 2]]
    pairs = [(i, j) for i in range(3) for j in range(3) for _ in range(table[i][j])]
    for first, second in [(a, b), tuple(np.array(pairs).T)]:
        counts = np.zeros((3, 3))
        np.add.at(counts, (first, second), 1)
        yield {
            "first": first.tolist(),
            "second": second.tolist(),
            "kappa": float(cohens_kappa(counts, return_results=False)),
        }


def fleiss():
    # The worked example of Fleiss's method: 10 subjects, 14 raters, 5 categories; its κ is 0.210.
    known = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    for counts in [known, rng.multinomial(6, [0.5, 0.3, 0.2], size=20).tolist()]:
        yield {"counts": counts, "kappa": float(fleiss_kappa(np.array(counts)))}


def alpha():
    # Krippendorff's example D: four observers, twelve units, missing values; nominal 0.743, ordinal 0.815, interval 0.849.
    known = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
    other = rng.integers(1, 8, size=(5, 40)).astype(float)
    other[1:] = np.where(rng.uniform(size=(4, 40)) < 0.6, other[0], other[1:])
    other[rng.uniform(size=other.shape) < 0.25] = nan
    for table in [np.array(known), other]:
        units = [[float(it) for it in unit if not np.isnan(it)] for unit in table.T]
        yield {
            "units": units,
            **{level: float(krippendorff.alpha(table, level_of_measurement=level)) for level in ["nominal", "ordinal", "interval"]},
        }


def bradley_terry():
    """Davidson's likelihood, maximised by another method than ours."""

    def fit(wins, ties):
        wins, ties = np.array(wins, float), np.array(ties, float)
        n = len(wins)
        has_ties = ties.sum() > 0

        def unpack(parameters):
            theta = np.append(parameters[: n - 1], -parameters[: n - 1].sum())
            return theta, (np.exp(parameters[n - 1]) if has_ties else 0.0)

        def negative(parameters):
            theta, nu = unpack(parameters)
            total = 0.0
            for i in range(n):
                for j in range(i):
                    half = (theta[i] - theta[j]) / 2
                    norm = np.log(np.exp(half) + np.exp(-half) + nu)
                    total += wins[i, j] * (half - norm) + wins[j, i] * (-half - norm)
                    if ties[i, j]:
                        total += ties[i, j] * (np.log(nu) - norm)
            return -total

        start = np.zeros(n - 1 + has_ties)
        best = optimize.minimize(negative, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 200_000, "maxfev": 200_000, "adaptive": True})
        best = optimize.minimize(negative, best.x, method="BFGS", options={"gtol": 1e-10})
        theta, nu = unpack(best.x)
        # Standard errors by differences of the likelihood.
        k, h = len(start), 1e-4
        hessian = np.zeros((k, k))
        for i in range(k):
            for j in range(k):
                e, f = np.eye(k)[i] * h, np.eye(k)[j] * h
                hessian[i, j] = (
                    negative(best.x + e + f) - negative(best.x + e - f) - negative(best.x - e + f) + negative(best.x - e - f)
                ) / (4 * h * h)
        covariance = np.linalg.inv(hessian)[: n - 1, : n - 1]
        spread = np.vstack([np.eye(n - 1), -np.ones(n - 1)])
        errors = np.sqrt(np.diag(spread @ covariance @ spread.T))
        return theta.tolist(), float(nu), float(-best.fun), errors.tolist()

    four = [[0, 12, 15, 9], [7, 0, 11, 10], [4, 8, 0, 6], [8, 5, 9, 0]]
    some = [[0, 3, 4, 2], [3, 0, 5, 1], [4, 5, 0, 6], [2, 1, 6, 0]]
    none = [[0] * 4 for _ in range(4)]
    gap = [[0, 5, 0], [3, 0, 6], [0, 2, 0]]
    for name, wins, ties in [("with ties", four, some), ("without ties", four, none), ("one pair never met", gap, [[0, 1, 0], [1, 0, 2], [0, 2, 0]])]:
        theta, nu, likelihood, errors = fit(wins, ties)
        yield {"name": name, "wins": wins, "ties": ties, "theta": theta, "nu": nu, "log_likelihood": likelihood, "errors": errors}


def meng():
    """The formulae of Meng, Rosenthal and Rubin (1992), written down once more."""
    for a, b, c, n in [(0.63, -0.03, -0.19, 15), (0.75, 0.53, 0.6, 150), (0.2, 0.5, 0.1, 315), (0.36, 0.2, 0.8, 40)]:
        r2 = (a * a + b * b) / 2
        f = min((1 - c) / (2 * (1 - r2)), 1)
        h = 1 + r2 * (1 - f) / (1 - r2)
        z = (np.arctanh(a) - np.arctanh(b)) * np.sqrt((n - 3) / (2 * (1 - c) * h))
        yield {"first": a, "second": b, "between": c, "n": n, "z": float(z), "p": float(2 * stats.norm.sf(abs(z)))}


def crossed():
    """REML of tables with a random row and a random column each, by statsmodels: the mean and its standard error."""
    draw = np.random.default_rng(5)
    for rows, columns, of_row, of_column, rest in [(3, 5, 1.0, 1.2, 0.4), (4, 8, 0.8, 0.6, 0.5), (6, 3, 0.7, 1.5, 0.3)]:
        table = 0.5 + draw.normal(0, of_row, (rows, 1)) + draw.normal(0, of_column, (1, columns))
        table = np.round(table + draw.normal(0, rest, (rows, columns)), 4)
        row, column = np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows)
        data = pd.DataFrame({"y": table.ravel(), "row": row, "column": column, "all": 1})
        model = MixedLM.from_formula("y ~ 1", groups="all", vc_formula={"row": "0 + C(row)", "column": "0 + C(column)"}, data=data)
        fit = model.fit(reml=True, method=["powell", "lbfgs"])
        yield {"table": table.tolist(), "mean": fit.params["Intercept"], "error": fit.bse["Intercept"]}


parts = {it.__name__: list(it()) for it in [p_values, fits, wilcoxon, permutation, proportions, holm, power, cohen, fleiss, alpha, bradley_terry, meng, crossed]}
print(json.dumps({"scipy": scipy.__version__, "statsmodels": statsmodels.__version__, **parts}))
