#!/usr/bin/env python3
"""ALS beside that of the Python library `implicit` on the same interactions, settings and threads: seconds, peak memory, HR and NDCG.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install implicit pyarrow
    cargo build --release -p kindred-tools
    /tmp/venv/bin/python tools/compare/als.py --kindred target/release/kindred --dataset dataset

Both factorize the training part of a dataset that `kindred prepare` wrote, in turns. implicit's factors come back by `kindred train --import`, so that
both are judged by the same lists: the vector alone, through the index. The time of ours is that of the whole process, reading and writing included;
implicit's is that of `fit`. What follows `--` goes to `kindred evaluate` as it is: `-- --protocol next-event` for data held out by session. Exits with 1 where ours is not 1.5 times as fast or its HR is lower by more than 0.005.
"""
import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import tempfile
import time

FASTER, ALLOWED = 1.5, 0.005
DECAY = "3"


def implicit_once(given, directory, answer):
    """In a process of its own, so that peak memory is its own too."""
    os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    import numpy
    import pyarrow.parquet as parquet
    import scipy.sparse as sparse
    from implicit.als import AlternatingLeastSquares

    table = parquet.read_table(os.path.join(given.dataset, "train.parquet"))
    user, item, weight = (table[name].to_numpy() for name in ["user", "item", "weight"])
    with open(os.path.join(given.dataset, "items.jsonl")) as lines:
        ids = [json.loads(line)["id"] for line in lines]
    pairs = sparse.csr_matrix((weight, (user, item)), shape=(int(user.max()) + 1, len(ids)), dtype=numpy.float32)
    pairs.data[:] = 1.0 + given.alpha * pairs.data
    model = AlternatingLeastSquares(factors=given.factors, regularization=given.regularization, alpha=1.0,
                                    iterations=given.iterations, num_threads=given.threads, random_state=1)
    started = time.time()
    model.fit(pairs, show_progress=False)
    seconds = time.time() - started
    factors = numpy.asarray(model.item_factors, dtype=numpy.float32)
    lengths = numpy.linalg.norm(factors, axis=1, keepdims=True)
    numpy.save(os.path.join(directory, "items.npy"), factors)
    numpy.save(os.path.join(directory, "context.npy"), factors / numpy.maximum(lengths, 1e-12))
    with open(os.path.join(directory, "ids.txt"), "w") as out:
        out.writelines(f"{one}\n" for one in ids)
    answer.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def kindred(given, *words):
    line = [given.kindred, *words, "--json", "-q"]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(given.threads)}
    return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def judged(given, directory, name):
    """HR and NDCG of the lists through the index."""
    config, artifacts = (os.path.join(directory, one) for one in ["vector.toml", f"artifacts-{name}"])
    with open(config, "w") as out:
        out.write("[scenarios.home.weights]\nvector = 1.0\nneighbours = 0.0\npopularity = 0.0\n")
    kindred(given, "build", "--model", os.path.join(directory, name), "--output", artifacts)
    report = kindred(given, "evaluate", "--artifacts", artifacts, "--dataset", given.dataset, "--k", str(given.k), "--config", config,
                     *given.more)
    at = next(one for one in report["systems"][0]["at"] if one["k"] == given.k)
    return at["hit_rate"], at["ndcg"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--kindred", default="target/release/kindred")
    arguments.add_argument("--dataset", default="dataset")
    arguments.add_argument("--factors", type=int, default=128)
    arguments.add_argument("--iterations", type=int, default=15)
    arguments.add_argument("--regularization", type=float, default=1.0)
    arguments.add_argument("--alpha", type=float, default=5.0)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--k", type=int, default=10)
    arguments.add_argument("more", nargs="*", help="further options of `kindred evaluate`, after --")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        seconds, memory = {"kindred": [], "implicit": []}, {}
        ours, theirs = os.path.join(directory, "kindred"), os.path.join(directory, "implicit")
        for _ in range(given.rounds):
            report = kindred(
                given, "train", "--dataset", given.dataset, "--output", ours, "--force", "--trainer", "als",
                "--factors", str(given.factors), "--iterations", str(given.iterations), "--tolerance", "0",
                "--regularization", str(given.regularization), "--alpha", str(given.alpha),
                "--position-decay", DECAY, "--neighbours", "0", "--no-sessions", "--no-words")
            seconds["kindred"].append(report["seconds"])
            memory["kindred"] = report["peak_memory_bytes"]
            answer = multiprocessing.Queue()
            process = multiprocessing.Process(target=implicit_once, args=(given, directory, answer))
            process.start()
            took, memory["implicit"] = answer.get()
            seconds["implicit"].append(took)
            process.join()
        files = {flag: os.path.join(directory, name) for flag, name in
                 [("--import", "items.npy"), ("--context", "context.npy"), ("--ids", "ids.txt")]}
        kindred(given, "train", *(word for pair in files.items() for word in pair), "--metric", "inner-product",
                "--position-decay", DECAY, "--neighbours", "0", "--output", theirs)
        quality = {name: judged(given, directory, name) for name in seconds}
    print(f"{given.factors} factors, {given.iterations} iterations, {given.threads} threads, median of {given.rounds}")
    print(f"{'':10} {'seconds':>8} {'MiB':>6} {'HR@' + str(given.k):>8} {'NDCG':>8}")
    median = {name: statistics.median(each) for name, each in seconds.items()}
    for name, (hits, ndcg) in quality.items():
        print(f"{name:10} {median[name]:8.2f} {memory[name] >> 20:6} {hits:8.4f} {ndcg:8.4f}")
    faster = median["implicit"] / median["kindred"]
    print(f"{faster:.2f} times as fast")
    if faster < FASTER or quality["kindred"][0] < quality["implicit"][0] - ALLOWED:
        raise SystemExit(f"less than {FASTER} times as fast, or HR lower by more than {ALLOWED}")


if __name__ == "__main__":
    main()
