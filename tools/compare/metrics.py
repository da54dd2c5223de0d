#!/usr/bin/env python3
"""Our metrics beside those of ranx and scikit-learn on the same lists.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install ranx scikit-learn
    cargo build --release -p kindred-tools
    /tmp/venv/bin/python tools/compare/metrics.py --kindred target/release/kindred --artifacts artifacts --dataset dataset --k 10

Hit rate, recall, NDCG, MRR and MAP of every system by ranx, NDCG by scikit-learn too. What follows `--` goes to `kindred evaluate` as it is. With
`--ratings u1.base u1.test` RMSE and MAE of every rating trainer by scikit-learn instead. Exits with 1 where two values differ by more than 1e-6.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy
from ranx import Qrels, Run, evaluate
from sklearn.metrics import mean_absolute_error, mean_squared_error, ndcg_score

ALLOWED = 1e-6
# Ours, and ranx's name for it.
NAMES = {"hit_rate": "hit_rate", "recall": "recall", "ndcg": "ndcg", "mrr": "mrr", "map": "map"}


def by_ranx(lines, system, k):
    # Ids of one length: ranx answers in their order as text.
    qrels = Qrels({f"{at:09}": {item: 1 for item in line["relevant"]} for at, line in enumerate(lines)})
    # An empty list is a miss: ranx wants at least one item, so it gets one that nobody looked for.
    scored = lambda items: {item: float(len(items) - place) for place, item in enumerate(items)} or {"\0nothing": 1.0}
    run = Run({f"{at:09}": scored(line[system]) for at, line in enumerate(lines)})
    names = [f"{name}@{k}" for name in NAMES.values()]
    found = {name: numpy.asarray(each) for name, each in evaluate(qrels, run, names, return_mean=False).items()}
    # ranx divides by all that was looked for, we by as many of it as a list of k can hold.
    wanted = numpy.array([len(line["relevant"]) for line in lines])
    found[f"map@{k}"] = found[f"map@{k}"] * wanted / numpy.minimum(wanted, k)
    return {ours: found[f"{theirs}@{k}"].mean() for ours, theirs in NAMES.items()}


def by_sklearn(lines, system, k):
    """NDCG of every list, whose items are those of the list and those that were looked for."""
    total = 0.0
    for line in lines:
        shown, relevant = line[system][:k], set(line["relevant"])
        missed = [item for item in line["relevant"] if item not in shown]
        # As many items that nobody looked for as make the ideal list possible to miss.
        filler = max(0, k - len(shown)) + 1
        truth = [float(item in relevant) for item in shown] + [0.0] * filler + [1.0] * len(missed)
        scores = numpy.arange(len(truth), 0, -1, dtype=float)
        total += ndcg_score([truth], [scores], k=k)
    return total / len(lines)


def of_ratings(kindred, train, test):
    """The greatest difference of RMSE and MAE from scikit-learn's, of predictions as they were written."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "predictions.csv")
        line = [kindred, "bench", "ratings", train, test, "--predictions", path, "--json"]
        report = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
        with open(path) as rows:
            rows = [row.split(",") for row in rows.read().splitlines()[1:]]
    print(f"{'trainer':16} {'metric':6} {'ours':>14} {'sklearn':>14}")
    for one in report["trainers"]:
        wanted, found = zip(*[(float(value), float(predicted)) for name, value, predicted in rows if name == one["name"]])
        theirs = {"rmse": mean_squared_error(wanted, found) ** 0.5, "mae": mean_absolute_error(wanted, found)}
        for name, value in theirs.items():
            worst = max(worst, abs(one[name] - value))
            print(f"{one['name']:16} {name:6} {one[name]:14.11f} {value:14.11f}")
    return worst


def told(worst):
    print(f"greatest difference {worst:.1e}")
    if worst > ALLOWED:
        sys.exit(f"more than {ALLOWED}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kindred", default="target/release/kindred")
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--dataset", default="dataset")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--ratings", nargs=2, metavar=("TRAIN", "TEST"), help="ratings to learn from and to predict")
    parser.add_argument("more", nargs="*", help="further options of `kindred evaluate`, after --")
    given = parser.parse_args()
    if given.ratings:
        return told(of_ratings(given.kindred, *given.ratings))
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "lists.jsonl")
        line = [given.kindred, "evaluate", "--artifacts", given.artifacts, "--dataset", given.dataset,
                "--k", str(given.k), "--lists", path, "--json", *given.more]
        report = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
        with open(path) as lines:
            lines = [json.loads(line) for line in lines]
    worst = 0.0
    print(f"{len(lines)} lists\n{'system':8} {'metric':10} {'ours':>12} {'ranx':>12} {'sklearn':>12}")
    for system in report["systems"]:
        name, ours = system["name"], next(at for at in system["at"] if at["k"] == given.k)
        theirs, sklearn = by_ranx(lines, name, given.k), by_sklearn(lines, name, given.k)
        for metric in NAMES:
            beside = [theirs[metric]] + ([sklearn] if metric == "ndcg" else [])
            worst = max([worst] + [abs(ours[metric] - value) for value in beside])
            shown = f"{sklearn:12.9f}" if metric == "ndcg" else ""
            print(f"{name:8} {metric:10} {ours[metric]:12.9f} {theirs[metric]:12.9f} {shown}")
    told(worst)


if __name__ == "__main__":
    main()
