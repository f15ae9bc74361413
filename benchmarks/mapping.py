"""What comes after the position: hidden genes, labels, and compositions of spots.

    python -m benchmarks.mapping [DATA] [-o mapping.json] [--seeds 1]
    python -m benchmarks.mapping --cost 20000 4000

Genes: a fifth of the genes is hidden from the reference, and told from the cells of the query that
have them; medians over genes of Pearson's and Spearman's correlation over locations, and of the
cosine. Labels: of the reference, given to the cells of the query; accuracy, macro F1, log loss in
nats, and the calibration error. Composition: types of cells in spots, told from single cells of
the same tissue; mean Jensen-Shannon divergence in bits.

Methods are `map_cells` by expression and by place; the 20 nearest cells in 30 principal components
of both data sets, centered by each; the five cells nearest by true positions, which is what the
position alone could tell; and Tangram, moscot and novoSpaRc, those that are installed, at their
defaults.

--cost measures seconds and peak memory, in MB, of mapping so many cells to so many locations, each
in a process of its own: without and with a capacity, and a few steps of Tangram.
"""

import importlib.util
import json
import multiprocessing
import resource
import time
import warnings

import numpy as np
import scipy.sparse as sp
from scipy.spatial.distance import jensenshannon
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestNeighbors

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae._utils.counts import log_normalize
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.mapping import (
    CellMapping,
    map_cells,
    project_genes,
    project_labels,
    transfer_labels,
)

from ._common.arguments import add_data, log, parser
from ._common.folder import Folder, sum_to_spots
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import mean_and_spread, plus_minus, table
from ._common.tasks import find_tasks

GENES = ("embryo cells 2>3", "hippo1>2", "heart 5>6", "synovium 1>2", "embryo spots")
LABELS = {"embryo cells 2>3": "celltype", "heart 5>6": "name"}
COMPOSITION = {"embryo spots": "celltype"}

MOST_HIDDEN = 400
MIN_SHARE_OF_CELLS = 0.05
N_COMPONENTS, N_NEIGHBORS, N_IN_PLACE = 30, 20, 5
N_TOP = 2000
# Of the overall shares, added to all shares, so that no log loss is infinite.
FLOOR = 1e-3
# Of Tangram, whose cost is measured.
N_EPOCHS, MOST_ENTRIES = 5, 10**8


class Data:
    """A reference and a query, with what is hidden."""

    def __init__(self, folder, task, seed, column=None):
        data = folder.load(task.reference + task.query, task.dropped_genes)
        reference, query = next(iter(folder.rows(task, data, seed)))
        places = folder.places(task, data)
        self.new_section = task.kind == "transfer"
        self.X, self.coords = data.X[reference], data.coords[reference]
        self.query_X = data.X[query]
        self.query_places = None if places is None else places[query]
        self.labels = self.query_labels = self.composition = None
        if column is not None:
            labels = folder.labels(data, column).astype(str)
            self.labels, self.query_labels = labels[reference], labels[query]
        if task.kind == "spots":
            coords, sections = self.coords, data.sections[reference]
            self.X, self.coords, _ = sum_to_spots(self.X, coords, sections)
            if column is not None:
                classes = np.unique(np.append(self.labels, self.query_labels))
                certain = sp.csr_matrix((self.labels[:, None] == classes).astype(float))
                sums = sum_to_spots(certain, coords, sections)[0].toarray()
                self.composition = sums / sums.sum(axis=1, keepdims=True)
                self.classes = classes

    def hide(self, seed):
        """Hide a fifth of the genes of the reference: their columns, and all others."""
        common = np.asarray((self.X > 0).mean(axis=0)).ravel() >= MIN_SHARE_OF_CELLS
        common = np.flatnonzero(common)
        n = min(len(common) // 5, MOST_HIDDEN)
        hidden = np.sort(np.random.RandomState(seed).permutation(common)[:n])
        return hidden, np.setdiff1d(np.arange(self.X.shape[1]), hidden)


def logs(X):
    return log_normalize(sp.csr_matrix(X, dtype=np.float32)).toarray()


class Ours:
    """`map_cells` of a pipeline that was fitted on the reference."""

    def __init__(self, data, shown, seed, by):
        query = "new_section" if data.new_section else "same_section"
        X, cells = data.X[:, shown], data.query_X[:, shown]
        model = fitted(X, data.coords, query, seed)
        self.mapping = map_cells(model, cells, (X, data.coords), by=by)

    def genes(self, values):
        return np.nan_to_num(project_genes(self.mapping, values))

    def transfer(self, labels):
        found = transfer_labels(self.mapping, labels)
        return found.values, found.classes

    def compose(self, labels):
        found = project_labels(self.mapping, labels)
        return found.values, found.classes


_LAST = []


def fitted(X, coords, query, seed):
    """A pipeline, which two methods in a row share."""
    if not _LAST or _LAST[0] is not coords or _LAST[1] != (X.shape, seed):
        model = make_spatial_pipeline(query=query, random_state=seed).fit(X, coords)
        _LAST[:] = [coords, (X.shape, seed), model]
    return _LAST[2]


class Weights:
    """Weights of the cells of each location, and of the locations of each cell."""

    def genes(self, values):
        return self.of_cells @ values

    def transfer(self, labels):
        classes, codes = np.unique(labels, return_inverse=True)
        return self.of_locations @ np.eye(len(classes))[codes], classes

    def compose(self, labels):
        classes, codes = np.unique(labels, return_inverse=True)
        return self.of_cells @ np.eye(len(classes))[codes], classes


def nearest(known, asked, n):
    n = min(n, len(known))
    graph = NearestNeighbors(n_neighbors=n).fit(known).kneighbors_graph(asked)
    return graph.astype(np.float32) / n


class Components(Weights):
    """The nearest in principal components of both."""

    def __init__(self, data, shown, seed):
        parts = [logs(X[:, shown]) for X in (data.X, data.query_X)]
        top = np.argsort(-parts[0].var(axis=0))[:N_TOP]
        parts = [part[:, top] - part[:, top].mean(axis=0) for part in parts]
        n = min(N_COMPONENTS, len(top) - 1)
        pca = PCA(n, random_state=seed).fit(np.concatenate(parts))
        locations, cells = map(pca.transform, parts)
        self.of_cells = nearest(cells, locations, N_NEIGHBORS)
        self.of_locations = nearest(locations, cells, N_NEIGHBORS)


class TruePlaces(Weights):
    """The nearest by true positions."""

    def __init__(self, data, shown, seed):
        self.of_cells = nearest(data.query_places, data.coords, N_IN_PLACE)
        self.of_locations = nearest(data.coords, data.query_places, N_IN_PLACE)


class Tool(Weights):
    """Another tool at its defaults, on the genes that vary most in the cells."""

    def __init__(self, data, shown, seed):
        import anndata

        parts = []
        for X in (data.query_X, data.X):
            adata = anndata.AnnData(logs(X[:, shown]))
            adata.var_names = [str(gene) for gene in shown]
            parts.append(adata)
        parts[1].obsm["spatial"] = data.coords
        top = np.sort(np.argsort(-parts[0].X.var(axis=0))[:N_TOP])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matrix = np.asarray(self.map(*parts, top, seed), dtype=np.float32)
        self.of_locations = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
        self.of_cells = matrix.T / np.maximum(matrix.sum(axis=0)[:, None], 1e-12)


class Tangram(Tool):
    module = "tangram"

    @staticmethod
    def map(cells, locations, top, seed):
        import tangram

        tangram.pp_adatas(cells, locations, genes=list(cells.var_names[top]))
        found = tangram.map_cells_to_space(
            cells, locations, mode="cells", device="cpu", random_state=seed, verbose=False
        )
        return found.X


class Moscot(Tool):
    """As its tutorial on mapping does: components of both, and expression within each."""

    module = "moscot"

    @staticmethod
    def map(cells, locations, top, _):
        from moscot.problems.space import MappingProblem

        cells, locations = cells[:, top].copy(), locations[:, top].copy()
        n = min(N_COMPONENTS, len(top) - 1)
        cells.obsm["X_pca"] = PCA(n, random_state=0).fit_transform(cells.X)
        problem = MappingProblem(adata_sc=cells, adata_sp=locations)
        problem = problem.prepare(
            sc_attr={"attr": "obsm", "key": "X_pca"}, xy_callback="local-pca"
        )
        problem = problem.solve()
        return np.asarray(problem["src", "tgt"].solution.transport_matrix).T


class NovoSpaRc(Tool):
    """As its tutorial does, with all genes that are used as markers."""

    module = "novosparc"

    @staticmethod
    def map(cells, locations, top, _):
        import novosparc

        cells = cells[:, top].copy()
        tissue = novosparc.cm.Tissue(dataset=cells, locations=locations.obsm["spatial"])
        tissue.setup_reconstruction(
            atlas_matrix=locations.X[:, top], markers_to_use=np.arange(len(top)), verbose=False
        )
        tissue.reconstruct(alpha_linear=0.8, epsilon=5e-3, verbose=False)
        return tissue.gw


TOOLS = {"Tangram": Tangram, "moscot": Moscot, "novoSpaRc": NovoSpaRc}


def methods(data):
    """Methods by name, those that can be run."""
    found = {
        "by expression": lambda *given: Ours(*given, by="expression"),
        "by place": lambda *given: Ours(*given, by="place"),
        "components": Components,
    }
    if data.query_places is not None:
        found["true places"] = TruePlaces
    tools = {name: tool for name, tool in TOOLS.items() if importlib.util.find_spec(tool.module)}
    return found | tools


def correlation(a, b):
    """Of columns; 0 where one is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.divide((a * b).sum(axis=0), lengths, out=np.zeros_like(lengths), where=lengths > 0)


def scores_of_genes(found, true):
    lengths = np.linalg.norm(found, axis=0) * np.linalg.norm(true, axis=0)
    return {
        "Pearson": float(np.median(correlation(found, true))),
        "Spearman": float(np.median(correlation(rankdata(found, axis=0), rankdata(true, axis=0)))),
        "cosine": float(np.median((found * true).sum(axis=0) / np.maximum(lengths, 1e-12))),
    }


def with_floor(shares, overall):
    total = np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
    return (1 - FLOOR) * shares / total + FLOOR * overall


def scores_of_labels(shares, classes, given, true):
    """Of cells whose label the reference has."""
    overall = (np.asarray(given)[:, None] == classes).mean(axis=0)
    known = np.isin(true, classes)
    p, code = with_floor(shares, overall)[known], np.searchsorted(classes, true[known])
    best, sure = p.argmax(axis=1), p.max(axis=1)
    bins = np.minimum((sure * 10).astype(int), 9)
    right = (best == code).astype(float)
    error = sum(abs((right - sure)[bins == b].sum()) for b in range(10)) / len(code)
    return {
        "accuracy": float(right.mean()),
        "macro F1": float(f1_score(code, best, average="macro")),
        "log loss": float(-np.log(p[np.arange(len(code)), code]).mean()),
        "calibration error": float(error),
    }


def score_of_composition(shares, classes, data):
    full = np.zeros(data.composition.shape)
    full[:, np.searchsorted(data.classes, classes)] = shares
    overall = (data.query_labels[:, None] == data.classes).mean(axis=0)
    found = with_floor(full, overall)
    pairs = zip(found, data.composition, strict=True)
    return {"divergence": float(np.mean([jensenshannon(p, q, 2) ** 2 for p, q in pairs]))}


def measure(folder, kind, task, seed):
    """Scores of every method on one task."""
    column = {"labels": LABELS, "composition": COMPOSITION}.get(kind, {}).get(task.label)
    data = Data(folder, task, seed, column)
    shown = np.arange(data.X.shape[1])
    if kind == "genes":
        hidden, shown = data.hide(seed)
        true, values = logs(data.X)[:, hidden], logs(data.query_X)[:, hidden]
    found = {}
    for name, make in methods(data).items():
        start = time.process_time()
        method = make(data, shown, seed)
        if kind == "genes":
            scores = scores_of_genes(method.genes(values), true)
        elif kind == "labels":
            shares = method.transfer(data.labels)
            scores = scores_of_labels(*shares, data.labels, data.query_labels)
        else:
            scores = score_of_composition(*method.compose(data.query_labels), data)
        found[name] = scores | {"seconds": time.process_time() - start}
        log(f"{kind} {task.label} {name} {found[name]}")
    return found


def as_tables(records):
    """For each kind, a row for each task and method."""
    texts = []
    for kind in ("genes", "labels", "composition"):
        groups = {}
        for record in records:
            if record["kind"] == kind:
                for method, measured in record["measured"].items():
                    groups.setdefault((record["task"], method), []).append(measured)
        if groups:
            head = list(next(iter(groups.values()))[0])
            rows = [
                [*place, *(plus_minus(mean_and_spread([r[n] for r in runs]), 3) for n in head)]
                for place, runs in groups.items()
            ]
            texts.append(f"{kind}\n\n{table(['task', 'method', *head], rows)}")
    return "\n\n".join(texts)


def cost(n_cells, n_locations, capacity, results):
    """Seconds and peak memory, in MB, of one mapping; run in a process of its own."""
    tissue = make_tissue(n_cells + n_locations, 300, random_state=0)
    X, coords, cells = tissue.X[:n_locations], tissue.coords[:n_locations], tissue.X[n_locations:]
    del tissue
    model = make_spatial_pipeline(max_epochs=2, n_calibration_folds=None, random_state=0)
    model.fit(X[:1000], coords[:1000])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    limit = np.full(n_locations, -(-n_cells // n_locations)) if capacity else None
    mapping: CellMapping = map_cells(model, cells, (X, coords), capacity=limit)
    measured = measured_cost(start, before)
    results.put(measured | {"most cells in a location": float(mapping.n_cells_per_location.max())})


def cost_of_tangram(n_cells, n_locations, _, results):
    """The same of a few steps of Tangram."""
    import anndata
    import tangram

    tissue = make_tissue(n_cells + n_locations, 300, random_state=0)
    parts = [anndata.AnnData(logs(X)) for X in (tissue.X[n_locations:], tissue.X[:n_locations])]
    for part in parts:
        part.var_names = tissue.genes
    del tissue
    tangram.pp_adatas(*parts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    tangram.map_cells_to_space(
        *parts, mode="cells", device="cpu", num_epochs=N_EPOCHS, verbose=False
    )
    results.put(measured_cost(start, before))


def measured_cost(start, before):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.process_time() - start
    return {"seconds": seconds, "peak MB": peak, "of which mapping": peak - before}


def print_cost(n_cells, n_locations):
    rows = {"map_cells": (cost, False), "map_cells with a capacity": (cost, True)}
    # A dense matrix of many cells, with its gradient and moments, is too much for most machines.
    if n_cells * n_locations <= MOST_ENTRIES and importlib.util.find_spec("tangram"):
        rows[f"Tangram, {N_EPOCHS} of its 1,000 steps"] = (cost_of_tangram, False)
    context = multiprocessing.get_context("spawn")
    for name, (measure_cost, capacity) in rows.items():
        results = context.Queue()
        given = n_cells, n_locations, capacity, results
        process = context.Process(target=measure_cost, args=given)
        process.start()
        print(json.dumps({"method": name} | results.get()), flush=True)
        process.join()
    print(f"one dense matrix in single precision: {n_cells * n_locations * 4 / 2**20:.0f} MB")


@threads(1)
def main(argv=None):
    arguments = parser("mapping", __doc__, data=False, seeds=1)
    add_data(arguments, required=False)
    arguments.add_argument("--genes", nargs="*", default=GENES, help="tasks with hidden genes")
    arguments.add_argument(
        "--cost", nargs=2, type=int, metavar=("CELLS", "LOCATIONS"), help="measure this instead"
    )
    args = arguments.parse_args(argv)
    if args.cost is not None:
        print_cost(*args.cost)
        return
    if args.data is None:
        arguments.error("name a folder of .h5ad files, or use --cost")
    config = fingerprint(make_spatial_pipeline(), N_NEIGHBORS, N_COMPONENTS)
    results = Store(args.output, key=("kind", "task", "seed"), config=lambda _: config)
    folder = Folder(args.data)
    kinds = {"genes": args.genes, "labels": LABELS, "composition": COMPOSITION}
    for kind, texts in kinds.items():
        for task in find_tasks(texts, folder.files):
            if not {file for file, _ in task.reference + task.query} <= set(folder.files):
                log(f"{kind} {task.label}: no such files in {args.data}")
                continue
            wanted = [
                {"kind": kind, "task": task.label, "seed": seed} for seed in range(args.seeds)
            ]
            for key in results.missing(wanted, args.redo):
                found = measure(folder, kind, task, key["seed"])
                results.add(key | {"measured": found})
    print(as_tables(results))


if __name__ == "__main__":
    main()
