"""What scipy and statsmodels say of changes: writes change.json beside this file."""

import itertools
import json
from pathlib import Path

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

rng = np.random.default_rng(14)
welch = []
for (n1, m1, s1), (n2, m2, s2) in [((30, 10.2, 1.5), (25, 9.1, 2.2)), ((5, 0.71, 0.04), (400, 0.69, 0.05)), ((2, 1.0, 0.5), (3, 4.0, 0.7))]:
    test = stats.ttest_ind_from_stats(m2, s2, n2, m1, s1, n1, equal_var=False)
    a, b = s1**2 / n1, s2**2 / n2
    freedom = (a + b) ** 2 / (a**2 / (n1 - 1) + b**2 / (n2 - 1))
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(a + b)
    welch.append(dict(n_before=n1, mean_before=m1, sd_before=s1, n_after=n2, mean_after=m2, sd_after=s2,
                      p=test.pvalue, low=m2 - m1 - reach, high=m2 - m1 + reach))

paired = []
for n, shift in [(4, 0.8), (9, 0.5), (16, 0.3), (40, 0.2), (200, 0.0)]:
    differences = [float(f"{it:.6f}") for it in rng.normal(shift, 1, n)]
    if n <= 16:
        signs = np.array(list(itertools.product([1, -1], repeat=n)))
        sums = np.abs(signs @ np.array(differences))
        p = float(np.mean(sums >= abs(sum(differences)) - 1e-9))
    else:
        p = float(stats.ttest_1samp(differences, 0).pvalue)
    paired.append(dict(differences=differences, p=p))

nights = []
for past, tonight in [([1.0, 1.2, 0.9, 1.1], 1.6), ([43.8, 43.6, 44.0, 43.7, 43.9, 43.8], 43.75)]:
    n, m, s = len(past), np.mean(past), np.std(past, ddof=1)
    error = s * np.sqrt(1 + 1 / n)
    t = (tonight - m) / error
    nights.append(dict(past=past, tonight=tonight, p=float(2 * stats.t.sf(abs(t), n - 1)),
                       low=float(tonight - m - stats.t.ppf(0.975, n - 1) * error)))

p = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04]
holm = dict(p=p, corrected=multipletests(p, method="holm")[1].tolist())
Path(__file__).with_suffix(".json").write_text(json.dumps(dict(welch=welch, paired=paired, nights=nights, holm=holm), indent=1) + "\n")
