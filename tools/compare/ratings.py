#!/usr/bin/env python3
"""Rating trainers beside Surprise's on the same split: RMSE, MAE, seconds, peak memory.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install "numpy<2" scikit-surprise
    cargo build --release -p kindred-tools
    /tmp/venv/bin/python tools/compare/ratings.py --kindred target/release/kindred u1.base u1.test

Files are MovieLens-100k's (user, item, rating, time; tabs; gzip or not). Exits with 1 where one of ours is worse by more than 0.003 RMSE than its
counterpart. Without Surprise installed only ours are printed.
"""
import argparse
import gzip
import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

ALLOWED = 0.003


def rows(path):
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with (gzip.open(path, "rt") if packed else open(path)) as lines:
        for line in lines:
            user, item, value = line.split()[:3]
            yield user, item, float(value)


def surprise_one(name, train_path, test_path):
    """In a process of its own, so that peak memory is its own too."""
    from surprise import SVD, Dataset, KNNBaseline, Reader, accuracy

    train = Dataset(Reader(rating_scale=(1, 5))).construct_trainset([(*row, None) for row in rows(train_path)])
    pearson = lambda user_based: KNNBaseline(
        k=40, sim_options={"name": "pearson_baseline", "user_based": user_based}, verbose=False)
    model = {"svd": lambda: SVD(random_state=1), "item-knn": lambda: pearson(False), "user-knn": lambda: pearson(True)}[name]()
    started = time.time()
    model.fit(train)
    fitted = time.time()
    found = model.test(list(rows(test_path)))
    return {
        "rmse": accuracy.rmse(found, verbose=False), "mae": accuracy.mae(found, verbose=False),
        "fit_seconds": fitted - started, "predict_seconds": time.time() - fitted,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def kindred_one(kindred, name, train_path, test_path):
    line = [kindred, "bench", "ratings", train_path, test_path, "--trainer", name, "--json"]
    found = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    return {**found["trainers"][0], "peak_memory_bytes": found["peak_memory_bytes"]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--kindred", default="target/release/kindred")
    arguments.add_argument("train")
    arguments.add_argument("test")
    given = arguments.parse_args()
    try:
        import surprise  # noqa: F401
        peers = True
    except ImportError:
        peers = False
        print("Surprise is not installed: only ours are measured", file=sys.stderr)
    print(f"{'trainer':10} {'':9} {'RMSE':>7} {'MAE':>7} {'fit s':>7} {'pred. s':>7} {'MiB':>5}")
    worse = []
    for name in ["svd", "item-knn", "user-knn"]:
        found = {"kindred": kindred_one(given.kindred, name, given.train, given.test)}
        if peers:
            with ProcessPoolExecutor(max_workers=1) as process:
                found["Surprise"] = process.submit(surprise_one, name, given.train, given.test).result()
            if found["kindred"]["rmse"] > found["Surprise"]["rmse"] + ALLOWED:
                worse.append(name)
        for who, one in found.items():
            memory = (one["peak_memory_bytes"] or 0) >> 20
            print(f"{name:10} {who:9} {one['rmse']:7.4f} {one['mae']:7.4f} {one['fit_seconds']:7.2f} "
                  f"{one['predict_seconds']:7.2f} {memory:5}")
    if worse:
        sys.exit(f"worse by more than {ALLOWED}: {', '.join(worse)}")


if __name__ == "__main__":
    main()
