"""What do known positions of some cells of the query's own section teach about the others?

    python -m benchmarks.imputation [DATA] [-o imputation.json] [--seeds 1]
        [--tasks ...] [--percents 1 2 5 10 20 50] [--layouts random spread half grid]
        [--methods ...]

A section is placed by another one, and the positions of some of its cells, the anchors, are
known: random ones, ones spread far apart, all of one half of the section, or one near each node
of a grid. For each method: the mean squared distance of the other cells to their true positions,
over the variance of these, so that guessing the middle gives 1. "near/far" compares the quarter of
cells next to an anchor with the quarter farthest from any, by the ratio of their errors to those
of the pose alone: below 1, neighbors of anchors gain more.

Methods are `predict(anchors=)` at the defaults ("anchors") and without learning ("equations");
the map of `predict` in the pose that suits the anchors ("pose"); `partial_fit` on the anchors
("partial_fit"); a fit on both sections ("joint"); a fit on the anchors alone ("alone"); and
regression from our components to positions, fitted on the anchors: "knn", "ridge", "svr" and
"gp". Fits on fewer than 12 cells are left out.
"""

import copy

import numpy as np
import scipy.sparse as sp
from scipy.spatial.distance import cdist
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import procrustes_align
from sklearn_dpvae.pipeline._steps import transform_by, transformers
from sklearn_dpvae.reconstruction._landmarks import choose_landmarks

from ._common.arguments import log, parser
from ._common.folder import Folder, one_part
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import mean_and_spread, plus_minus, table
from ._common.tasks import find_tasks
from .accuracy.methods import GaussianProcess

TASKS = ("hippo1>2", "hippo3>4", "synovium 1>2", "bulb 1>2")
PERCENTS = (1, 2, 5, 10, 20, 50)
LAYOUTS = ("random", "spread")
# Fewest cells that a model is fitted on.
FEWEST = 12


def choose_anchors(coords, n_anchors, layout, rng):
    """Rows of the cells whose positions are known."""
    if layout == "random":
        return np.sort(rng.permutation(len(coords))[:n_anchors])
    if layout == "half":
        # All of them, however many were asked for.
        return np.flatnonzero(one_part(coords, 1, rng))
    if layout == "grid":
        side = np.sqrt(np.prod(np.ptp(coords, axis=0)) / n_anchors)
        nodes = np.unique(np.round(coords / side), axis=0) * side
        return np.unique(cdist(nodes, coords).argmin(axis=1))
    if layout != "spread":
        raise ValueError(f"no layout {layout!r}; there are random, spread, half and grid.")
    seed = int(rng.integers(2**31))
    return np.sort(choose_landmarks(coords, n_anchors, method="farthest", random_state=seed))


class Section:
    """A split whose query has anchors, and a model of the reference."""

    def __init__(self, split, model, seed):
        self.split = split
        self.model = model
        self.seed = seed
        self.placed = model.predict(split.query_X)
        self.components = transform_by(transformers(model), split.query_X)[0]
        self.labels = np.full(len(self.placed), "query")

    def partly(self, known):
        """Positions of the query with NaN where they are not known."""
        coords = np.full_like(self.split.query_coords, np.nan, dtype=float)
        coords[known] = self.split.query_coords[known]
        return coords


def by_anchors(section, known, **options):
    return section.model.predict(section.split.query_X, anchors=section.partly(known), **options)


def by_equations(section, known):
    return by_anchors(section, known, adapt=False)


def by_pose(section, known):
    pose = procrustes_align(section.placed[known], section.split.query_coords[known])
    return pose.transform(section.placed)


def by_partial_fit(section, known):
    model = copy.deepcopy(section.model)
    model.partial_fit(section.split.query_X, section.partly(known), sections=section.labels)
    return model.predict(section.split.query_X, sections=section.labels)


def by_joint_fit(section, known):
    split = section.split
    model = make_spatial_pipeline(random_state=section.seed)
    model.fit(
        sp.vstack([split.X, split.query_X[known]]).tocsr(),
        np.vstack([split.coords, split.query_coords[known]]),
        sections=np.concatenate([np.full(len(split.coords), "reference"), section.labels[known]]),
    )
    return model.predict(split.query_X, sections=section.labels)


def by_fit_alone(section, known):
    split = section.split
    model = make_spatial_pipeline(random_state=section.seed)
    return model.fit(split.query_X[known], split.query_coords[known]).predict(split.query_X)


def by_regression(make):
    """A method that fits a regressor on the components of the anchors."""

    def method(section, known):
        coords = section.split.query_coords[known]
        middle, size = coords.mean(axis=0), coords.std()
        model = make(len(known)).fit(section.components[known], (coords - middle) / size)
        return model.predict(section.components) * size + middle

    return method


def _svr(n_anchors):
    grid = {"estimator__C": [0.1, 1, 10]}
    return GridSearchCV(MultiOutputRegressor(SVR()), grid, cv=min(5, n_anchors // 2))


METHODS = {
    "anchors": by_anchors,
    "equations": by_equations,
    "pose": by_pose,
    "partial_fit": by_partial_fit,
    "joint": by_joint_fit,
    "alone": by_fit_alone,
    "knn": by_regression(lambda n: KNeighborsRegressor(min(10, n), weights="distance")),
    "ridge": by_regression(lambda _: RidgeCV(np.logspace(-2, 4, 13).tolist())),
    "svr": by_regression(_svr),
    "gp": by_regression(lambda _: GaussianProcess()),
}
# Those that fit more than a pose on the anchors alone.
NEED_MANY = ("partial_fit", "joint", "alone", "svr", "gp")


def measure(section, known, names):
    """Error of every method, and how much more cells near to anchors gain."""
    true = section.split.query_coords
    rest = np.setdiff1d(np.arange(len(true)), known)
    near = cdist(true[rest], true[known]).min(axis=1).argsort(kind="stable")
    quarters = near[: len(near) // 4], near[-(len(near) // 4) :]
    variance = np.square(true[rest] - true[rest].mean(axis=0)).sum(axis=1).mean()

    def squares(method):
        return np.square(method(section, known) - true)[rest].sum(axis=1)

    of_pose = squares(by_pose)
    found = {}
    for name in names:
        if name in NEED_MANY and len(known) < FEWEST:
            continue
        errors = squares(METHODS[name])
        gains = [errors[part].mean() / of_pose[part].mean() for part in quarters]
        found[name] = {
            "error": float(errors.mean() / variance),
            "near/far": float(gains[0] / gains[1]),
        }
    return found


def as_table(records, field="error"):
    """Means over the seeds: a row for each task, layout and share, a column for each method."""
    groups = {}
    for record in records:
        row = groups.setdefault((record["task"], record["layout"], record["percent"]), {})
        for name, measured in record["measured"].items():
            row.setdefault(name, []).append(measured[field])
    methods = [name for name in METHODS if any(name in row for row in groups.values())]
    rows = []
    for (task, layout, percent), found in groups.items():
        cells = [plus_minus(mean_and_spread(found[m])) if m in found else "" for m in methods]
        rows.append([task, f"{percent} %, {layout}", *cells])
    return table([field, "known", *methods], rows)


@threads(1)
def main(argv=None):
    arguments = parser("imputation", __doc__, seeds=1)
    arguments.add_argument("--tasks", nargs="+", default=TASKS)
    arguments.add_argument("--percents", nargs="+", type=int, default=PERCENTS)
    arguments.add_argument("--layouts", nargs="+", default=LAYOUTS)
    arguments.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    args = arguments.parse_args(argv)
    config = fingerprint(make_spatial_pipeline(), args.methods)
    results = Store(
        args.output, key=("task", "seed", "layout", "percent"), config=lambda _: config
    )
    folder = Folder(args.data)
    for task in find_tasks(args.tasks, folder.files):
        for seed in range(args.seeds):
            wanted = [
                {"task": task.label, "seed": seed, "layout": layout, "percent": percent}
                for layout in args.layouts
                # Of this layout there is one size: half of the section.
                for percent in (args.percents if layout != "half" else [50])
            ]
            todo = results.missing(wanted, args.redo)
            if not todo:
                continue
            split = next(iter(folder.splits(task, seed)))
            model = make_spatial_pipeline(random_state=seed).fit(split.X, split.coords)
            section = Section(split, model, seed)
            for key in todo:
                n_anchors = max(3, round(key["percent"] / 100 * len(split.query_coords)))
                rng = np.random.default_rng((seed, key["percent"]))
                known = choose_anchors(split.query_coords, n_anchors, key["layout"], rng)
                found = measure(section, known, args.methods)
                log(f"{key} {found}")
                results.add(key | {"n_anchors": len(known), "measured": found})
    for field in ("error", "near/far"):
        print(as_table(results, field))


if __name__ == "__main__":
    main()
