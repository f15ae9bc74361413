"""What known positions are worth: how many there are, and where they lie."""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.impute import KNNImputer
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

from sklearn_dpvae.metrics import procrustes_align, procrustes_disparity
from sklearn_dpvae.reconstruction._landmarks import choose_landmarks

from .real import fitted, relative_error

AMOUNTS = ["0", "3", "10", "1%", "5%", "20%"]
DRAWS = 5


def anchors(folder, problem, d):
    """Error against the number of known positions, for one number of latents.

    The error is the mean squared distance to the true position over the variance of positions,
    1 for guessing the mean, of the rows that are not anchors; the median of five draws of
    anchors. Without anchors the frame is open: there it is the Procrustes disparity.

    similarity: the map without anchors, moved onto them by the best similarity. predict: the
    regressor's answer, (6) and (7). kNN and ridge: regression from latents to positions, fitted
    on the anchors. KNNImputer: latents and positions side by side, the unknown ones missing.
    ridge, components: the same ridge from what the network sees, 20 components.
    """
    placed = fitted(folder, problem, n_components=d)
    latents = placed.model.transform(placed.features)
    free_map = placed.model.predict(placed.features)
    for amount in AMOUNTS:
        n_anchors = count_of(amount, len(placed.truth))
        row = {"anchors": amount, "n_anchors": n_anchors}
        if n_anchors:
            yield row | _median_errors(placed, latents, free_map, n_anchors)
        else:
            yield row | {"predict": float(procrustes_disparity(placed.truth, free_map))}


def count_of(amount, n_samples):
    """Number of anchors that "10" or "5%" stands for; at least 3 if any."""
    count = n_samples * float(amount[:-1]) / 100 if amount.endswith("%") else int(amount)
    return max(round(count), 3) if count else 0


def _median_errors(placed, latents, free_map, n_anchors):
    n_samples = len(placed.truth)
    errors = {}
    for draw in range(DRAWS):
        indices = np.random.default_rng(draw).permutation(n_samples)[:n_anchors]
        free = np.setdiff1d(np.arange(n_samples), indices)
        for method, points in _answers(placed, latents, free_map, indices):
            errors.setdefault(method, []).append(relative_error(points, placed.truth, free))
    return {method: float(np.median(values)) for method, values in errors.items()}


def _answers(placed, latents, free_map, indices):
    """Positions of all query rows by each method, given some of them."""
    features, coords = placed.features, placed.truth
    known = coords[indices]
    yield "similarity", procrustes_align(free_map[indices], known).transform(free_map)
    yield "predict", placed.model.predict(features, anchors=(indices, known))
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


def placement(folder, problem, d):
    """Error with ten anchors: at random, in a heap, or spread out; and near them or far.

    heap: a random row and the nine nearest to it. spread: each the row farthest from those
    before it. near, far: of the quarters of rows nearest to and farthest from an anchor, at
    random anchors, the root of the mean squared distance over that of the similarity that is
    fitted on the anchors; below 1, (7) corrects the map. Medians of ten draws.
    """
    placed = fitted(folder, problem, n_components=d)
    truth = placed.truth
    free_map = placed.model.predict(placed.features)
    found = {}
    for draw in range(10):
        rng = np.random.default_rng(draw)
        for kind, indices in ten_of_each_kind(truth, rng).items():
            known = truth[indices]
            free = np.setdiff1d(np.arange(len(truth)), indices)
            points = placed.model.predict(placed.features, anchors=(indices, known))
            found.setdefault(kind, []).append(relative_error(points, truth, free))
            if kind != "random":
                continue
            moved = procrustes_align(free_map[indices], known).transform(free_map)
            errors = [((p[free] - truth[free]) ** 2).sum(axis=1) for p in (points, moved)]
            order = np.argsort(cdist(truth[free], known).min(axis=1))
            quarter = len(order) // 4
            for part, some in [("near", order[:quarter]), ("far", order[-quarter:])]:
                ratio = np.sqrt(errors[0][some].mean() / errors[1][some].mean())
                found.setdefault(part, []).append(ratio)
    yield {kind: float(np.median(values)) for kind, values in found.items()}


def ten_of_each_kind(coords, rng):
    """Ten rows at random, in a heap, and spread out."""
    first = rng.integers(len(coords))
    seed = int(rng.integers(2**31))
    return {
        "random": rng.permutation(len(coords))[:10],
        "heap": np.argsort(cdist(coords, coords[[first]])[:, 0])[:10],
        "spread": choose_landmarks(coords, 10, method="farthest", random_state=seed),
    }
