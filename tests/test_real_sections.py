"""The main job on real sections, where the folder SKLEARN_DPVAE_DATA has them."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.neighbors import KNeighborsRegressor

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import read_sections
from sklearn_dpvae.metrics import ProcrustesScorer

FOLDER = Path(os.environ.get("SKLEARN_DPVAE_DATA", ""))
FILES = sorted(FOLDER.glob("*.h5ad")) if "SKLEARN_DPVAE_DATA" in os.environ else []
# Genes of these names swamp the libraries of the mouse brain sections.
UNWANTED = ["Gm42418", "Rn18s-rs5", "mt-Rnr1", "mt-Rnr2"]

pytestmark = pytest.mark.skipif(not FILES, reason="SKLEARN_DPVAE_DATA names no folder of sections")


def one_section(path, label=None):
    data = read_sections(path)
    label = data.sections[0] if label is None else label
    rows = np.flatnonzero(data.sections == label)
    return data.X[rows][:, ~np.isin(data.genes, UNWANTED)], data.coords[rows]


def split(n, seed=0, at_most=None):
    order = np.random.RandomState(seed).permutation(n)[:at_most]
    return order[len(order) // 5 :], order[: len(order) // 5]


def quick(**params):
    # Calibrated radii are tested elsewhere; here they would be half of the time.
    return make_spatial_pipeline(
        **{"n_estimators": 2, "n_calibration_folds": None, "random_state": 0} | params
    )


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_held_out_spots_are_placed_in_tissue_units(path):
    X, coords = one_section(path)
    train, test = split(len(coords), at_most=800)
    predicted = quick(max_epochs=10).fit(X[train], coords[train]).predict(X[test])
    assert np.isfinite(predicted).all()
    assert procrustes(coords[test], predicted)[2] < 0.95  # the mirror-symmetric bulb is at 0.9
    inside = (predicted >= coords.min(0)) & (predicted <= coords.max(0))
    assert inside.all(axis=1).mean() > 0.9


def test_mouse_brain_is_placed_better_than_by_neighbors():
    path = FOLDER / "mouse_brain_st2k.h5ad"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    X, coords = one_section(path, "Hippo1")
    train, test = split(len(coords))
    pipe = quick(n_estimators=4).fit(X[train], coords[train])
    disparity = procrustes(coords[test], pipe.predict(X[test]))[2]

    scores = pipe[:-2].set_params(scale__clip=None).fit(X[train], coords[train])
    pca = PCA(30, random_state=0).fit(scores.transform(X[train]))
    knn = KNeighborsRegressor(15).fit(pca.transform(scores.transform(X[train])), coords[train])
    baseline = knn.predict(pca.transform(scores.transform(X[test])))
    assert disparity <= 0.22
    assert disparity <= 0.9 * procrustes(coords[test], baseline)[2]


def test_grid_search_over_real_sections():
    path = FOLDER / "mouse_olfactory_bulb_st2k.h5ad"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    data = read_sections(path)
    rows = np.isin(data.sections, np.unique(data.sections)[:3])
    search = GridSearchCV(
        quick(query="new_section", max_epochs=3, n_top_genes=300),
        {"dpvae__distance_weight": [0.1, 1.0]},
        scoring=ProcrustesScorer(sections="single"),
        cv=LeaveOneGroupOut(),
        error_score="raise",
    ).fit(
        data.X[rows],
        data.coords[rows],
        groups=data.sections[rows],
        sections=data.sections[rows],
    )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
