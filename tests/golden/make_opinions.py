"""Writes opinions/: extracts of published tables of opinions, and what scipy says of them, for tests/it/correlate.rs.

Run with numpy and scipy 1.17 where the three tables lie: python tests/golden/make_opinions.py FOLDER
The tables: tifa_v1.0_human_annotations_with_scores.json of Yushi-Hu/tifa and the Likert answers of j-min/DSG on its images
(both Apache-2.0), data.csv of AGIQA-3K (MIT).
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import optimize, stats

source, target = Path(sys.argv[1]), Path(__file__).parent / "opinions"
METRICS = ["clipscore_vitb32", "meteor", "bleu", "rouge", "spice", "tifa_mplug-large"]
MODELS = {
    "mini_dalle": "mini-dalle",
    "stable_diffusion_v1_1": "sd1dot1",
    "stable_diffusion_v1_5": "sd1dot5",
    "stable_diffusion_v2_1": "sd2dot1",
    "vq_diffusion": "vq-diffusion",
}


def tifa():
    likert = defaultdict(list)
    with open(source / "dsg_tifa160_likert.csv", newline="") as file:
        for row in csv.DictReader(file):
            likert[row["source_id"], row["t2i_model"]].append(int(row["answer"]))
    table = json.loads((source / "tifa_human_annotations_with_scores.json").read_text())
    for name, row in table.items():
        model = name.removeprefix(row["text_id"] + "_")
        answers = likert[row["text_id"], MODELS[model]]
        assert len(answers) >= 3, (name, answers)
        scores = {it: row[it] for it in METRICS}
        yield {"id": name, "text": row["text_id"], "model": model, "human_avg": row["human_avg"], **scores,
               "dsg_likert": ";".join(map(str, answers)), "dsg_mean": float(np.mean(answers))}


def agiqa():
    with open(source / "agiqa3k.csv", newline="") as file:
        for row in list(csv.DictReader(file))[::6]:
            yield {"name": row["name"], "generator": row["name"].split("_")[0], "mos_quality": row["mos_quality"], "mos_align": row["mos_align"]}


def logistic(x, upper, lower, middle, width):
    return (upper - lower) / (1 + np.exp(-(x - middle) / np.abs(width))) + lower


def slopes(x, upper, lower, middle, width):
    t = (x - middle) / np.abs(width)
    s = 1 / (1 + np.exp(-t))
    steep = (upper - lower) * s * (1 - s)
    return np.stack([s, 1 - s, -steep / np.abs(width), -steep * t / width], axis=1)


def coefficients(x, y):
    best = [y.max(), y.min(), x.mean(), x.std() / 4]
    with np.errstate(over="ignore"):
        # Begun again where it ended: on a flat bottom the first descent stops early.
        for _ in range(5):
            best, _ = optimize.curve_fit(
                logistic, x, y, p0=best, jac=slopes, maxfev=200_000, ftol=1e-15, xtol=1e-15, gtol=1e-15
            )
        fit = stats.pearsonr(logistic(x, *best), y)
    r, rho, tau = stats.pearsonr(x, y), stats.spearmanr(x, y), stats.kendalltau(x, y)
    fisher = r.confidence_interval(0.95)
    return {
        "n": len(x),
        "srcc": [float(rho.statistic), float(rho.pvalue)],
        "plcc": [float(r.statistic), float(r.pvalue), float(fisher.low), float(fisher.high)],
        "plcc_fit": [float(fit.statistic), float(fit.pvalue)],
        "krcc": [float(tau.statistic), float(tau.pvalue)],
    }


def write(name, rows):
    rows = list(rows)
    with open(target / name, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


tifa_rows, agiqa_rows = write("tifa.csv", tifa()), write("agiqa3k.csv", agiqa())
column = lambda rows, name: np.array([float(it[name]) for it in rows])
expected = {
    "tifa": {it: coefficients(column(tifa_rows, it), column(tifa_rows, "human_avg")) for it in METRICS},
    "dsg": {"human_avg": coefficients(column(tifa_rows, "human_avg"), column(tifa_rows, "dsg_mean"))},
    "tifa_by_model": {
        model: coefficients(*(column([row for row in tifa_rows if row["model"] == model], it) for it in ["meteor", "human_avg"]))
        for model in MODELS
    },
    "agiqa3k": {"mos_align": coefficients(column(agiqa_rows, "mos_align"), column(agiqa_rows, "mos_quality"))},
}
(target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
