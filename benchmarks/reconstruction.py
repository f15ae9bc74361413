"""Speed, scale and worth of anchored multidimensional scaling.

    python benchmarks/reconstruction.py speed       # against scikit-learn's SMACOF
    python benchmarks/reconstruction.py scale       # cost against the number of rows
    python benchmarks/reconstruction.py anchors     # error against the number of known positions
    python benchmarks/reconstruction.py placement   # error against where these lie
    python benchmarks/reconstruction.py dimensions  # what latents of more dimensions hold

`speed` and `scale` run on one thread by default and need no data; ratios are of times measured
side by side in one run. The other three read the real sections of the folder
SKLEARN_DPVAE_DATA. Every command prints a table and, with --out, writes it as CSV.
"""

import argparse
import csv
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
COMMANDS = ["speed", "scale", "anchors", "placement", "dimensions"]
parser.add_argument("command", choices=COMMANDS)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--device", default=None, help="for the package's side, e.g. cuda")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--sizes", type=int, nargs="+", default=None)
parser.add_argument("--anchors", type=int, default=500, help="of `scale`")
parser.add_argument("--datasets", nargs="+", default=None, help="tasks, by name")
parser.add_argument("--dims", type=int, nargs="+", default=[2, 5, 10, 30], help="of latents")
parser.add_argument("--out", type=Path, default=None, help="folder for CSV files and figures")
args = parser.parse_args()
# Before numpy: the libraries read these when they are loaded.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(args.threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.manifold import smacof  # noqa: E402
from sklearn.metrics import euclidean_distances  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))
from sklearn_dpvae.reconstruction import anchored_smacof  # noqa: E402

torch.set_num_threads(args.threads)


def latents_of_tissue(n_samples, seed, n_latents=10, noise=0.5):
    """Positions in a rectangle, and latents that hold them together with noise."""
    rng = np.random.default_rng(seed)
    tissue = rng.uniform(size=(n_samples, 2)) * [10.0, 6.0]
    noisy = np.hstack([tissue, noise * rng.normal(size=(n_samples, n_latents - 2))])
    turn = np.linalg.qr(rng.normal(size=(n_latents, n_latents)))[0]
    return tissue, noisy @ turn


def synchronize():
    if args.device and args.device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(function, *arguments, **options):
    """Result and seconds: of the processor on one thread, else of the wall clock."""
    clock = time.process_time if args.threads == 1 and not args.device else time.perf_counter
    synchronize()
    begin = clock()
    result = function(*arguments, **options)
    synchronize()
    return result, clock() - begin


def steps_to(history, goal):
    """Number of steps to reach a stress, or None."""
    reached = np.flatnonzero(np.asarray(history) <= goal)
    return int(reached[0]) if len(reached) else None


def report(name, rows):
    """Print rows of a table and write them with --out."""
    columns = list(rows[0])
    widths = [max(len(c), *(len(f"{r[c]}") for r in rows)) for c in columns]
    for line in [dict(zip(columns, columns, strict=True)), *rows]:
        print("  ".join(f"{line[c]}".rjust(w) for c, w in zip(columns, widths, strict=True)))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        with open(args.out / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def speed():
    """Time to the stress at which scikit-learn stops, from the same random start.

    scikit-learn runs with its own tolerance of 1e-6. Ours runs until its stress is not above
    scikit-learn's final one, times 1 + 1e-6; the time of finding out how many steps that takes
    is not counted. The last columns start from classical MDS instead.
    """
    rows = []
    for n_samples in args.sizes or [500, 1000, 2000]:
        for seed in range(args.seeds):
            _, latents = latents_of_tissue(n_samples, seed)
            start = np.random.default_rng(seed).normal(size=(n_samples, 2)) * 3.0
            distances = euclidean_distances(latents)
            (_, goal, their_steps), their_time = timed(
                smacof, distances, init=start, n_init=1, eps=1e-6, return_n_iter=True
            )
            goal *= 1 + 1e-6
            row = {"n": n_samples, "seed": seed, "sklearn_s": f"{their_time:.3f}"}
            row["sklearn_steps"] = their_steps
            for name, options in {
                "latents64": {"latents": latents, "init": start},
                "matrix64": {"dissimilarities": distances, "init": start},
                "latents32": {
                    "latents": latents.astype(np.float32),
                    "init": start.astype(np.float32),
                },
                "classical": {"latents": latents},
            }.items():
                options["device"] = args.device
                trial = anchored_smacof(**options, eps=0.0, max_iter=300)
                steps = steps_to(trial.history, goal)
                if steps is None:
                    row |= {f"{name}_steps": "-", f"{name}_s": "-", f"{name}_ratio": "-"}
                    continue
                # Passes that momentum lost cost time without being a step of the history.
                passes = steps + (trial.n_iter - len(trial.history) + 1)
                found, ours = timed(anchored_smacof, **options, eps=0.0, max_iter=max(passes, 1))
                assert found.stress <= goal, (found.stress, goal)
                row[f"{name}_steps"] = found.n_iter
                row[f"{name}_s"] = f"{ours:.3f}"
                row[f"{name}_ratio"] = f"{their_time / ours:.1f}"
            rows.append(row)
            print({k: row[k] for k in row if "ratio" in k or k in ("n", "seed")}, flush=True)
    report("speed", rows)


def peak_memory():
    """Largest resident memory of this process so far, in GB."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1e6
    return float("nan")


def scale():
    """Time, memory and error of the sampling method against the number of rows.

    The error is the mean distance to the true position, in units of the tissue's diagonal; up
    to 10,000 rows the exact method stands beside it, with the ratio of the full stresses.
    """
    rows = []
    diagonal = np.hypot(10.0, 6.0)
    for n_samples in args.sizes or [2000, 5000, 10_000, 20_000, 50_000, 100_000]:
        for seed in range(args.seeds):
            tissue, latents = latents_of_tissue(n_samples, seed)
            known = np.random.default_rng(seed).permutation(n_samples)[: args.anchors]
            options = {
                "latents": latents,
                "anchors": (known, tissue[known]),
                "device": args.device,
                "random_state": seed,
            }
            sampled, seconds = timed(anchored_smacof, method="stochastic", **options)
            assert (sampled.embedding[known] == tissue[known]).all()
            row = {
                "n": n_samples,
                "seed": seed,
                "sampled_s": f"{seconds:.1f}",
                "us_per_row": f"{1e6 * seconds / n_samples:.0f}",
                "peak_GB": f"{peak_memory():.2f}",
                "error": f"{mean_distance(sampled.embedding, tissue) / diagonal:.4f}",
                "exact_s": "-",
                "exact_steps": "-",
                "exact_error": "-",
                "stress_ratio": "-",
            }
            if n_samples <= 10_000 and seed == 0:
                exact, seconds = timed(anchored_smacof, method="exact", **options)
                again = anchored_smacof(
                    **options, method="exact", init=sampled.embedding, max_iter=1, eps=0.0
                )
                row["exact_s"] = f"{seconds:.1f}"
                row["exact_steps"] = exact.n_iter
                row["exact_error"] = f"{mean_distance(exact.embedding, tissue) / diagonal:.4f}"
                row["stress_ratio"] = f"{again.history[0] / exact.stress:.5f}"
            rows.append(row)
            print(row, flush=True)
    report("scale", rows)


def mean_distance(points, truth):
    return float(np.linalg.norm(points - truth, axis=1).mean())


# Name: file, reference section, query section (sections by their rank; None: a random half).
TASKS = {
    "bulb": ("mouse_olfactory_bulb_st2k", 0, None),
    "bulb, next section": ("mouse_olfactory_bulb_st2k", 0, 1),
    "brain": ("mouse_brain_st2k", 0, None),
    "brain, next section": ("mouse_brain_st2k", 0, 1),
    "synovium, next section": ("human_synovium_st", 0, 1),
    "cortex": ("mouse_cortex_seqfishplus", None, None),
    "embryo": ("mouse_embryo_visium", None, None),
}
AMOUNTS = ["0", "3", "10", "1%", "5%", "20%"]
DRAWS = 5


def split_of(name):
    """Counts and positions of reference and query, and the pipeline's word for such a query."""
    file, reference, query = TASKS[name]
    folder = Path(os.environ["SKLEARN_DPVAE_DATA"])
    data = anndata.read_h5ad(folder / f"{file}.h5ad")
    coords = np.asarray(data.obsm["spatial"], dtype=float)
    rows = np.arange(data.n_obs)
    if reference is not None:
        sections = data.obs["section"].astype(str).to_numpy()
        labels = np.unique(sections)
        rows = np.flatnonzero(sections == labels[reference])
    if query is None:
        rows = np.random.default_rng(0).permutation(rows)
        known, unknown = np.array_split(rows, 2)
        word = "same_section"
    else:
        known, unknown = rows, np.flatnonzero(sections == labels[query])
        word = "new_section"
    return data.X[known], coords[known], data.X[unknown], coords[unknown], word


def relative_error(points, truth, free):
    """Mean squared distance over that of the mean position, of the rows without an anchor."""
    spread = ((truth[free] - truth[free].mean(axis=0)) ** 2).sum()
    return float(((points[free] - truth[free]) ** 2).sum() / spread)


def encoded(pipe, X):
    """What the regressor of a pipeline sees of X."""
    for _, step in pipe.steps[:-1]:
        X = step.transform(X)
    return X


def answers(model, features, latents, free_map, coords, indices):
    """Positions of all query rows by each method, given some of them."""
    known = coords[indices]
    yield "similarity", procrustes_align(free_map[indices], known).transform(free_map)
    yield "predict", model.predict(features, anchors=(indices, known))
    neighbors = min(5, len(indices))
    knn = KNeighborsRegressor(neighbors, weights="distance").fit(latents[indices], known)
    yield "kNN", knn.predict(latents)
    table = np.full(coords.shape, np.nan)
    table[indices] = known
    imputed = KNNImputer(n_neighbors=neighbors).fit_transform(np.hstack([latents, table]))
    yield "KNNImputer", imputed[:, -coords.shape[1] :]
    for name, inputs in [("ridge", latents), ("ridge, components", features)]:
        ridge = RidgeCV(np.logspace(-3, 3, 13)).fit(inputs[indices], known)
        yield name, ridge.predict(inputs)


METHODS = ["similarity", "predict", "kNN", "KNNImputer", "ridge", "ridge, components"]


def anchors():
    """Error against the number of known positions, for several numbers of latents.

    The error is the mean squared distance to the true position over the variance of positions,
    1 for guessing the mean, of the rows that are not anchors; the median of five draws of
    anchors. Without anchors the frame is open: there it is the Procrustes disparity.

    similarity: the map without anchors, moved onto them by the best similarity. predict: the
    regressor's answer, (6) and (7). kNN and ridge: regression from latents to positions, fitted
    on the anchors. KNNImputer: latents and positions side by side, the unknown ones missing.
    ridge, components: the same ridge from what the network sees, 20 components.
    """
    rows = []
    for name in args.datasets or TASKS:
        X, coords, query, truth, word = split_of(name)
        for n_components in args.dims:
            pipe = make_spatial_pipeline(query=word, n_components=n_components, random_state=0)
            pipe.fit(X, coords)
            model, features = pipe[-1], encoded(pipe, query)
            latents, free_map = model.transform(features), model.predict(features)
            for amount in AMOUNTS:
                n_anchors = count_of(amount, len(truth))
                row = {
                    "task": name,
                    "d": n_components,
                    "anchors": amount,
                    "n_anchors": n_anchors,
                }
                if n_anchors == 0:
                    row["predict"] = f"{procrustes_disparity(truth, free_map):.3f}"
                else:
                    row |= median_errors(model, features, latents, free_map, truth, n_anchors)
                rows.append(row)
                print(row, flush=True)
    rows = [{**row, **{c: row.get(c, "-") for c in METHODS}} for row in rows]
    report("anchors", rows)
    if args.out is not None:
        draw_anchors(rows, args.out / "anchors.png")


def count_of(amount, n_samples):
    """Number of anchors that "10" or "5%" stands for; at least 3 if any."""
    count = n_samples * float(amount[:-1]) / 100 if amount.endswith("%") else int(amount)
    return max(round(count), 3) if count else 0


def median_errors(model, features, latents, free_map, truth, n_anchors):
    n_samples = len(truth)
    errors = {}
    for draw in range(DRAWS):
        indices = np.random.default_rng(draw).permutation(n_samples)[:n_anchors]
        free = np.setdiff1d(np.arange(n_samples), indices)
        for method, points in answers(model, features, latents, free_map, truth, indices):
            errors.setdefault(method, []).append(relative_error(points, truth, free))
    return {method: f"{np.median(values):.3f}" for method, values in errors.items()}


def draw_anchors(rows, path):
    """One panel a task: error of every method against the anchors, at the smallest d."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    d = min(row["d"] for row in rows)
    # Colors of Okabe and Ito, which color-blind readers tell apart; markers say the same.
    styles = {
        "kNN": ("#E69F00", "^:", "kNN on latents"),
        "KNNImputer": ("#CC79A7", "v:", "KNNImputer on latents and positions"),
        "ridge, components": ("#56B4E9", "x:", "ridge on components"),
        "ridge": ("#D55E00", "D--", "ridge on latents"),
        "similarity": ("#009E73", "s--", "similarity only"),
        "predict": ("#000000", "o-", "predict(anchors=...)"),
    }
    n_columns = -(-(len(tasks) + 1) // 2)
    figure, axes = plt.subplots(2, n_columns, figsize=(3 * n_columns, 6), squeeze=False)
    for axis in axes.flat[len(tasks) :]:
        axis.set_axis_off()
    for axis, task in zip(axes.flat, tasks, strict=False):
        here = [row for row in rows if (row["task"], row["d"]) == (task, d)]
        for method, (color, line, label) in styles.items():
            points = {r["n_anchors"]: float(r[method]) for r in here if r["n_anchors"]}
            axis.plot(*zip(*sorted(points.items()), strict=True), line, color=color, label=label)
        free = [float(r["predict"]) for r in here if not r["n_anchors"]]
        axis.axhline(free[0], color="0.5", linewidth=0.8, label="no anchors, best similarity")
        axis.set_xscale("log")
        axis.set(title=task, xlim=(2.5, 350), ylim=(0, 2), xlabel="anchors")
        axis.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"], minor=False)
        axis.minorticks_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("error (mean position: 1)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes.flat[len(tasks)].legend(handles[::-1], labels[::-1], loc="center", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def placement():
    """Error with ten anchors: at random, in a heap, or spread out; and near them or far.

    heap: a random row and the nine nearest to it. spread: each the row farthest from those
    before it. near, far: of the quarters of rows nearest to and farthest from an anchor, at
    random anchors, the root of the mean squared distance over that of the similarity that is
    fitted on the anchors; below 1, (7) corrects the map. Medians of ten draws, d = 2.
    """
    rows = []
    for name in args.datasets or TASKS:
        X, coords, query, truth, word = split_of(name)
        pipe = make_spatial_pipeline(query=word, random_state=0).fit(X, coords)
        model, features = pipe[-1], encoded(pipe, query)
        free_map = model.predict(features)
        found = {}
        for draw in range(10):
            rng = np.random.default_rng(draw)
            for kind, indices in ten_of_each_kind(truth, rng).items():
                known = truth[indices]
                free = np.setdiff1d(np.arange(len(truth)), indices)
                placed = model.predict(features, anchors=(indices, known))
                found.setdefault(kind, []).append(relative_error(placed, truth, free))
                if kind != "random":
                    continue
                moved = procrustes_align(free_map[indices], known).transform(free_map)
                errors = [((p[free] - truth[free]) ** 2).sum(axis=1) for p in (placed, moved)]
                order = np.argsort(cdist(truth[free], known).min(axis=1))
                quarter = len(order) // 4
                for part, some in [("near", order[:quarter]), ("far", order[-quarter:])]:
                    ratio = np.sqrt(errors[0][some].mean() / errors[1][some].mean())
                    found.setdefault(part, []).append(ratio)
        rows.append({"task": name, **{k: f"{np.median(v):.3f}" for k, v in found.items()}})
        print(rows[-1], flush=True)
    report("placement", rows)


def ten_of_each_kind(coords, rng):
    first = rng.integers(len(coords))
    spread = [first]
    nearest = cdist(coords, coords[spread])[:, 0]
    while len(spread) < 10:
        spread.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, cdist(coords, coords[spread[-1:]])[:, 0])
    return {
        "random": rng.permutation(len(coords))[:10],
        "heap": np.argsort(cdist(coords, coords[[first]])[:, 0])[:10],
        "spread": np.array(spread),
    }


def dimensions():
    """What latents hold beyond the plane, on the training's cells and on the query's.

    residual: mean absolute difference of latent distance over c and tissue distance, over the
    mean tissue distance, with the c that makes it smallest: what the distance term trains.
    off plane: share of the variance of latents that no linear function of the position gives.
    """
    rows = []
    for name in args.datasets or TASKS:
        X, coords, query, truth, word = split_of(name)
        for n_components in args.dims:
            for kl_weight in (1.0, 0.0):
                pipe = make_spatial_pipeline(
                    query=word, n_components=n_components, kl_weight=kl_weight, random_state=0
                ).fit(X, coords)
                model, features = pipe[-1], encoded(pipe, query)
                row = {"task": name, "d": n_components, "kl_weight": kl_weight}
                for part, z, s in [
                    ("training", model.transform(encoded(pipe, X)), coords),
                    ("query", model.transform(features), truth),
                ]:
                    row[f"residual, {part}"] = f"{distance_residual(z, s):.3f}"
                    row[f"off plane, {part}"] = f"{off_plane(z, s):.2f}"
                row["disparity"] = f"{procrustes_disparity(truth, model.predict(features)):.3f}"
                rows.append(row)
                print(row, flush=True)
    report("dimensions", rows)


def distance_residual(latents, coords, n_samples=1000):
    some = np.random.default_rng(0).permutation(len(coords))[:n_samples]
    found, true = pdist(latents[some]), pdist(coords[some])
    scales = np.quantile(found, 0.5) / np.quantile(true, 0.5) * np.geomspace(0.5, 2, 81)
    return min(np.abs(found / c - true).mean() for c in scales) / true.mean()


def off_plane(latents, coords):
    centered = latents - latents.mean(axis=0)
    axes = np.linalg.svd(coords - coords.mean(axis=0), full_matrices=False)[0]
    return 1 - np.sum((axes.T @ centered) ** 2) / np.sum(centered**2)


if __name__ == "__main__":
    if args.command in ("anchors", "placement", "dimensions"):
        import anndata
        from scipy.spatial.distance import cdist, pdist
        from sklearn.impute import KNNImputer
        from sklearn.linear_model import RidgeCV
        from sklearn.neighbors import KNeighborsRegressor

        from sklearn_dpvae import make_spatial_pipeline
        from sklearn_dpvae.metrics import procrustes_align, procrustes_disparity
    commands = {"speed": speed, "scale": scale, "anchors": anchors}
    commands |= {"placement": placement, "dimensions": dimensions}
    commands[args.command]()
