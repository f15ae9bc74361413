"""Where may a cell have been? Probabilities of places, beside simpler ones.

    python -m benchmarks.places [DATA] [-o places.json] [--seeds 1] [--known 0 5 20 50]

For each task and method, over the places of the reference: the log score of the true positions,
in nats above a uniform guess; the share of cells inside the regions of 50, 80 and 95 %; the area
of the 80 % region as a share of the tissue's; the share of cells whose 50 % region has several
patches; and the energy score, in spacings of the spots.

Methods are `predict_places`; a normal distribution around the position, of one width for all
cells; and the places of the nearest cells in components, smoothed. The last two have the width,
or number of cells and width, that would have been best on the very cells that are placed. Where
the query is another section, whose frame nobody knows, true positions are moved rigidly onto the
predicted ones.

With `--known`, that percentage of the query's cells is known, random ones, and passed as anchors;
the others are measured. The normal distribution is then around `predict(anchors=)`, and `without`
is `predict_places` without the anchors, moved into their frame.
"""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import (
    energy_score,
    place_coverage,
    place_log_score,
    procrustes_align,
    spot_spacing,
)
from sklearn_dpvae.pipeline._steps import transform_by, transformers
from sklearn_dpvae.places import PlaceDistribution

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import mean_and_spread, plus_minus, table
from ._common.tasks import find_tasks
from .imputation import choose_anchors

TASKS = (
    "hippo1 random",
    "embryo random",
    "DBiT random",
    "synovium random",
    "seqFISH+ random",
    "mouse_olfactory_bulb_st2k:MOB1 random",
    "hippo3>4",
    "bulb 1>2",
)
LEVELS = (0.5, 0.8, 0.95)
WIDTHS = np.geomspace(0.05, 1.5, 16)
# Fewest cells that are known, so that they tell the frame.
FEWEST_KNOWN = 4
NEIGHBORS, SMOOTHING = (20, 50, 100), (1.0, 2.0, 4.0)


def around(placed, width, locations):
    """Normal distributions around positions."""
    logs = -0.5 * (cdist(placed, locations) / width) ** 2
    p = np.exp(logs - logs.max(axis=1, keepdims=True))
    return PlaceDistribution(p / p.sum(axis=1, keepdims=True), locations)


def of_neighbors(known, coords, new, n_neighbors, width):
    """Places of the cells with the nearest components, smoothed."""
    n_neighbors = min(n_neighbors, len(known) // 2)
    distance, index = NearestNeighbors(n_neighbors=n_neighbors).fit(known).kneighbors(new)
    closeness = np.exp(-2 * (distance / distance[:, -1:]) ** 2)
    kernel = np.exp(-0.5 * (cdist(coords, coords) / width) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    p = np.stack([c @ kernel[i] for c, i in zip(closeness, index, strict=True)])
    return PlaceDistribution(p / p.sum(axis=1, keepdims=True), coords)


def scores(places, true, spacing, region=0.8):
    """Everything that is measured of a distribution."""
    everywhere = PlaceDistribution(
        np.full((1, len(places.locations)), 1 / len(places.locations)), places.locations
    )
    return {
        "log score": place_log_score(true, places),
        **{f"{100 * level:.0f} %": place_coverage(true, places, level) for level in LEVELS},
        "area": float(places.area(region).mean() / everywhere.area(1 - 1e-9)[0]),
        "patches": float(np.mean(places.n_patches(0.5) > 1)),
        "energy": energy_score(true, places) / spacing,
    }


def measure(split, model):
    """Scores of every method on one split."""
    placed, true = model.predict(split.query_X), split.query_coords
    if split.new_section:
        true = procrustes_align(true, placed, scaling=False).transform(true)
    spacing = spot_spacing(split.coords)
    size = split.coords.std()
    known, new = (transform_by(transformers(model), X)[0] for X in (split.X, split.query_X))
    candidates = {
        "predict_places": [model.predict_places(split.query_X)],
        "normal": [around(placed, width * size, split.coords) for width in WIDTHS],
        "neighbors": [
            of_neighbors(known, split.coords, new, n, width * spacing)
            for n in NEIGHBORS
            for width in SMOOTHING
        ],
    }
    return {
        method: scores(max(found, key=lambda p: place_log_score(true, p)), true, spacing)
        for method, found in candidates.items()
    }


def measure_known(split, model, seed, percent):
    """Scores of the cells that are not known, where a percentage of the query's cells is."""
    X, true = split.query_X, split.query_coords
    n_known = max(FEWEST_KNOWN, round(percent / 100 * len(true)))
    known = choose_anchors(true, n_known, "random", np.random.default_rng(seed))
    others = np.setdiff1d(np.arange(len(true)), known)
    anchors = (known, true[known])
    untold = model.predict_places(X)
    pose = procrustes_align(model.predict(X)[known], true[known])
    placed = model.predict(X, anchors=anchors)[others]
    told = model.predict_places(X, anchors=anchors)
    size = split.coords.std() * pose.scale
    candidates = {
        "predict_places": [told],
        "normal": [around(placed, width * size, told.locations) for width in WIDTHS],
        "without": [
            PlaceDistribution(
                untold.probabilities, pose.transform(untold.locations), untold.tolerance
            )
        ],
    }
    spacing, true = spot_spacing(true), true[others]
    found = {}
    for method, distributions in candidates.items():
        of_others = [
            places
            if len(places) == len(others)
            else PlaceDistribution(
                places.probabilities[others], places.locations, places.tolerance
            )
            for places in distributions
        ]
        best = max(of_others, key=lambda places: place_log_score(true, places))
        found[method] = scores(best, true, spacing)
    return found


def as_table(records):
    """Means over the seeds, a row for each task and method."""
    groups = {}
    for record in records:
        for method, measured in record["measured"].items():
            groups.setdefault((record["task"], record["known"], method), []).append(measured)
    head = list(next(iter(groups.values()))[0]) if groups else []
    rows = [
        [
            task,
            f"{known:g} %",
            method,
            *(plus_minus(mean_and_spread([r[n] for r in runs]), 2) for n in head),
        ]
        for (task, known, method), runs in groups.items()
    ]
    return table(["task", "known", "method", *head], rows)


@threads(1)
def main(argv=None):
    arguments = parser("places", __doc__, seeds=1)
    arguments.add_argument("--tasks", nargs="+", default=TASKS, help="in their place")
    arguments.add_argument(
        "--known", nargs="+", type=float, default=[0], help="percentages of the query's cells"
    )
    args = arguments.parse_args(argv)
    config = fingerprint(make_spatial_pipeline(), LEVELS)
    results = Store(args.output, key=("task", "known", "seed"), config=lambda _: config)
    folder = Folder(args.data)
    for task in find_tasks(args.tasks, folder.files):
        for seed in range(args.seeds):
            wanted = [{"task": task.label, "known": known, "seed": seed} for known in args.known]
            missing = results.missing(wanted, args.redo)
            if not missing:
                continue
            split = next(iter(folder.splits(task, seed)))
            model = make_spatial_pipeline(random_state=seed).fit(split.X, split.coords)
            for key in missing:
                known = key["known"]
                found = (
                    measure_known(split, model, seed, known) if known else measure(split, model)
                )
                log(f"{key} {found}")
                results.add(key | {"measured": found})
    print(as_table(results))


if __name__ == "__main__":
    main()
