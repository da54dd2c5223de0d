"""Libraries that `kindred bench index --peers` measures beside itself. Started by it, with one JSON object as argument.

Builds an index with each library that is installed, answers with one line about all of them, then with one line per line asked:
{"peer": name, "breadth": n} makes one pass over all queries on one thread, by the library's own batch call, so that the time of this
interpreter does not count. Recall is judged by the rows themselves against the similarity of the k-th nearest.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time

asked = json.loads(sys.argv[1])
# What libraries print must not mix with answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(what):
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def ends_well(trial):
    """Whether a trial of a library comes to its end in a process of its own: some end theirs instead of raising an error."""
    child = os.fork()
    if child == 0:
        try:
            trial()
        except BaseException as problem:
            print(problem, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def try_lvq():
    import numpy
    import svs

    parameters = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=8, window_size=16)
    some = numpy.ones((16, 64), numpy.float32)
    with tempfile.TemporaryDirectory() as directory:
        config, graph, data = (os.path.join(directory, part) for part in ("config", "graph", "data"))
        svs.Vamana.build(parameters, some, svs.MIP, num_threads=1).save(config, graph, data)
        data = svs.LVQLoader(svs.VectorDataLoader(data, svs.float32), primary=4, residual=8)
        svs.Vamana(config, svs.GraphLoader(graph), data, svs.MIP, num_threads=1)


# Before anything here has threads.
has_lvq = importlib.util.find_spec("svs") is not None and ends_well(try_lvq)

try:
    import numpy as np
except ImportError:
    answer({"peers": [], "missing": ["numpy"]})
    sys.exit(0)

rows = np.load(asked["rows"])
queries = np.load(asked["queries"])
worst = np.load(asked["worst"]).reshape(-1)
n, dims = rows.shape
m, breadth, threads, k = asked["m"], asked["ef_construction"], asked["threads"], asked["k"]


class Hnswlib:
    name, package = "hnswlib", "hnswlib"

    def __init__(self, library):
        # Rows are of unit length where the metric is cosine, so the inner product is the cosine.
        self.index = library.Index("ip", dims)
        self.index.init_index(n, M=m, ef_construction=breadth, random_seed=1)
        self.index.add_items(rows, np.arange(n), num_threads=threads)

    def save(self, directory):
        self.index.save_index(os.path.join(directory, "index"))

    def search(self, ef):
        self.index.set_ef(max(ef, k))
        return self.index.knn_query(queries, k, 1)[0]


class Usearch:
    name, package, dtype = "usearch f16", "usearch", "f16"

    def __init__(self, library):
        self.index = importlib.import_module("usearch.index").Index(
            ndim=dims, metric="ip", dtype=self.dtype, connectivity=m, expansion_add=breadth
        )
        self.index.add(np.arange(n, dtype=np.uint64), rows, threads=threads)

    def save(self, directory):
        self.index.save(os.path.join(directory, "index"))

    def search(self, ef):
        self.index.expansion_search = ef
        return self.index.search(queries, k, threads=1).keys


class UsearchSingle(Usearch):
    name, dtype = "usearch f32", "f32"


class Faiss:
    name, package = "faiss HNSW", "faiss"

    def __init__(self, library):
        self.library = library
        library.omp_set_num_threads(threads)
        self.index = library.IndexHNSWFlat(dims, m, library.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = breadth
        self.index.add(rows)
        library.omp_set_num_threads(1)

    def save(self, directory):
        self.library.write_index(self.index, os.path.join(directory, "index"))

    def search(self, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(queries, k)[1]


class Svs:
    name, package, distribution = "SVS f32", "svs", "scalable-vs"

    def __init__(self, library):
        self.library = library
        # Its own recommendation for the inner product; as many links as HNSW has on level 0.
        parameters = library.VamanaBuildParameters(alpha=0.95, graph_max_degree=2 * m, window_size=breadth)
        self.index = library.Vamana.build(parameters, rows, library.MIP, num_threads=threads)
        self.index.num_threads = 1

    def save(self, directory):
        self.index.save(*(os.path.join(directory, part) for part in ("config", "graph", "data")))

    def search(self, ef):
        self.index.search_window_size = max(ef, k)
        return self.index.search(queries, k)[0]


class SvsQuantized(Svs):
    """The same graph, its rows as two codes, of four and of eight bits: what it recommends on processors of its maker. Ends the process on others."""

    name, graph_of = "SVS LVQ4x8", Svs.name

    def __init__(self, library):
        if not has_lvq:
            raise RuntimeError("it does not run on this processor")
        self.library, self.index = library, peers[self.graph_of].index
        with tempfile.TemporaryDirectory() as directory:
            self.save(directory)
            config, graph, data = (os.path.join(directory, part) for part in ("config", "graph", "data"))
            data = library.LVQLoader(library.VectorDataLoader(data, library.float32), primary=4, residual=8)
            self.index = library.Vamana(config, library.GraphLoader(graph), data, library.MIP, num_threads=1)


class Glass:
    name, package, distribution = "glass SQ8U", "glass", "pyglass-portable"

    def __init__(self, library):
        library.set_num_threads(threads)
        graph = library.Index("HNSW", "IP", "FP32", 2 * m, breadth).build(rows)
        # Its searcher takes the graph over and leaves nothing to be saved.
        self.saved = tempfile.TemporaryDirectory()
        graph.save(os.path.join(self.saved.name, "graph"))
        library.set_num_threads(1)
        self.searcher = library.Searcher(graph, rows, "IP", "SQ8U", "FP32")
        self.searcher.optimize(1)

    def save(self, directory):
        shutil.copytree(self.saved.name, directory, dirs_exist_ok=True)
        # It keeps the rows beside.
        np.save(os.path.join(directory, "rows.npy"), rows)

    def search(self, ef):
        self.searcher.set_ef(max(ef, k))
        found = self.searcher.batch_search(queries, k, 1)
        found = found[0] if isinstance(found, tuple) else found
        return np.asarray(found).reshape(len(queries), -1)[:, :k]


def version(kind):
    for name in (getattr(kind, "distribution", kind.package), kind.package + "-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown version"


def bytes_of(directory):
    return sum(os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(directory) for name in names)


peers, about, missing = {}, [], []
for kind in (Hnswlib, Usearch, UsearchSingle, Faiss, Svs, SvsQuantized, Glass):
    try:
        library = importlib.import_module(kind.package)
    except ImportError:
        if kind.package not in missing:
            missing.append(kind.package)
        continue
    started = time.perf_counter()
    try:
        peers[kind.name] = kind(library)
    except (RuntimeError, AttributeError, TypeError, KeyError) as problem:
        # Some refuse some processors, or have changed since this was written.
        print(f"{kind.name}: {problem}", file=sys.stderr)
        missing.append(kind.name)
        continue
    seconds = time.perf_counter() - started
    seconds += sum(one["build_seconds"] for one in about if one["name"] == getattr(kind, "graph_of", None))
    with tempfile.TemporaryDirectory() as directory:
        peers[kind.name].save(directory)
        size = bytes_of(directory)
    about.append({"name": kind.name, "version": version(kind), "build_seconds": seconds, "bytes": size})
answer({"peers": about, "missing": missing})

for line in sys.stdin:
    order = json.loads(line)
    started = time.perf_counter()
    found = peers[order["peer"]].search(order["breadth"])
    seconds = time.perf_counter() - started
    found = np.asarray(found).astype(np.int64)
    valid = (found >= 0) & (found < n)
    similarity = np.einsum("qkd,qd->qk", rows[np.where(valid, found, 0)], queries, dtype=np.float32)
    hits = valid & (similarity >= (worst - 1e-5 * np.abs(worst))[:, None])
    answer({"seconds": seconds, "recall": float(hits.sum()) / (len(queries) * k)})
