"""The reference at other depths: what is drawn, what the networks see, what it buys."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from training_parts import reference

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae._training.batches import Batches
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import procrustes_disparity
from sklearn_dpvae.pipeline import SpatialPipeline
from sklearn_dpvae.pipeline._thinning import at_depths, query_depths, thin

TISSUE = make_tissue(300, 60, random_state=0)
GENES = np.array(TISSUE.genes)
FAST = {"max_epochs": 2, "n_estimators": 1, "n_calibration_folds": None, "random_state": 0}


@pytest.mark.parametrize("container", [sparse.csr_matrix, np.asarray])
def test_each_count_is_kept_with_its_probability(container):
    counts = np.full((3, 4000), 5)
    shares = np.array([0.0, 0.3, 1.0])
    thinned = thin(container(counts), shares, np.random.default_rng(0))
    thinned = thinned.toarray() if sparse.issparse(thinned) else thinned
    assert (thinned[0] == 0).all()
    assert_array_equal(thinned[2], counts[2])
    # Binomial: 5 counts, each kept with probability 0.3.
    assert thinned[1].mean() == pytest.approx(1.5, abs=0.06)
    assert thinned[1].var() == pytest.approx(1.05, abs=0.08)


def test_thinned_cells_have_the_depths_of_the_query():
    X = TISSUE.X
    depths = np.array([20.0, 40.0])
    thinned = at_depths(X, depths, np.random.default_rng(0))
    sizes = np.asarray(thinned.sum(axis=1)).ravel()
    assert sizes.mean() == pytest.approx(30, abs=1.5)
    # A query that is deeper than the reference cannot be made of it.
    assert_array_equal(
        at_depths(X, np.array([1e9]), np.random.default_rng(0)).toarray(), X.toarray()
    )


def test_a_batch_draws_one_measurement_of_each_cell():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)).astype(np.float32)
    views = tuple(X + 10 * (k + 1) for k in range(2))
    data = reference(X, rng.normal(size=(40, 2)), views=views)
    batches = Batches(data, [np.arange(40)] * 2, None, seed=0)
    drawn = []
    for _ in range(30):
        given, compared = next(iter(batches))
        x = given["x"].numpy()
        assert_array_equal(compared["target"].numpy(), x)
        # The position is that of the cell, whichever of its measurements is drawn.
        _, cells = cKDTree(data.coords).query(compared["s"].numpy())
        shifts = x - X[cells]
        np.testing.assert_allclose(shifts, 10 * np.round(shifts / 10), atol=1e-4)
        drawn.append(np.round(shifts[..., 0] / 10))
    counts = np.bincount(np.concatenate(drawn, axis=None).astype(int))
    assert counts.shape == (3,)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.04)


def test_without_views_the_same_cells_are_drawn():
    model = DPVAESpatialRegressor(n_estimators=1, max_epochs=2, random_state=0)
    X, y = TISSUE.X.toarray().astype(float), TISSUE.coords
    plain = clone(model).fit(X, y).predict(X)
    assert_array_equal(clone(model).fit(X, y, views=()).predict(X), plain)
    assert not np.array_equal(clone(model).fit(X, y, views=[X]).predict(X), plain)


def test_a_shallow_query_is_placed_better_by_networks_that_know_its_depth():
    tissue = make_tissue(700, 200, random_state=1)
    located, query = slice(0, 500), slice(500, 700)
    shallow = thin(tissue.X[query], np.full(200, 0.05), np.random.default_rng(0))
    params = FAST | {"n_estimators": 2, "max_epochs": 60, "query": "same_section"}
    X, y = tissue.X[located], tissue.coords[located]
    unaware = make_spatial_pipeline(n_thinned=0, **params).fit(X, y)
    aware = make_spatial_pipeline(**params).fit(X, y, query_counts=shallow)
    true = tissue.coords[query]
    errors = [procrustes_disparity(true, m.predict(shallow)) for m in (unaware, aware)]
    assert errors[1] < 0.95 * errors[0]


def test_depths_are_those_of_the_genes_in_common():
    counts = np.array([[1, 10, 100], [2, 20, 200]])
    assert_array_equal(query_depths(counts, np.array([True, False, True])), [101, 202])
    assert_array_equal(query_depths(sparse.csc_matrix(counts), None), [111, 222])
    assert_array_equal(query_depths([5, 0, 7], None), [5, 7])
    pipeline = make_spatial_pipeline(**FAST)
    by_counts = clone(pipeline).fit(
        TISSUE.X,
        TISSUE.coords,
        genes=GENES,
        query_genes=["other", *GENES[:30]],
        query_counts=np.hstack([np.full((10, 1), 1000), np.full((10, 30), 2)]),
    )
    by_depth = clone(pipeline).fit(
        TISSUE.X, TISSUE.coords, genes=GENES, query_genes=GENES[:30], query_counts=[60.0] * 10 * 10
    )
    assert_array_equal(by_counts.predict(TISSUE.X), by_depth.predict(TISSUE.X))


def test_radii_are_those_of_cells_as_shallow_as_the_query():
    params = FAST | {"n_calibration_folds": 2, "max_epochs": 30}
    deep, shallow = (
        make_spatial_pipeline(**params).fit(TISSUE.X, TISSUE.coords, query_counts=[depth])
        for depth in (1e9, 15.0)
    )
    radii = [m.predict_radius(TISSUE.X, level=0.5) for m in (deep, shallow)]
    assert np.median(radii[1]) > 1.2 * np.median(radii[0])


@pytest.mark.filterwarnings("ignore:X holds fractions")
def test_what_is_no_count_is_not_thinned():
    X = TISSUE.X.toarray() * 0.9
    a, b = (
        make_spatial_pipeline(**FAST, n_thinned=n).fit(X, TISSUE.coords).predict(X) for n in (0, 5)
    )
    assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("query_counts", "message"),
    [([], "no positive library size"), ([0.0], "no positive"), ([np.inf], "not finite")],
)
def test_impossible_depths_are_refused(query_counts, message):
    with pytest.raises(ValueError, match=message):
        make_spatial_pipeline(**FAST).fit(TISSUE.X, TISSUE.coords, query_counts=query_counts)


def test_what_cannot_be_trained_on_views_is_refused():
    pipeline = SpatialPipeline(
        [("normalize", make_spatial_pipeline()["normalize"]), ("linear", LinearRegression())],
        n_thinned=2,
    )
    with pytest.raises(ValueError, match="no argument views"):
        pipeline.fit(TISSUE.X, TISSUE.coords)
    with pytest.raises(ValueError, match="n_thinned must be 0 or more"):
        make_spatial_pipeline(n_thinned=-1).fit(TISSUE.X, TISSUE.coords)
    X = TISSUE.X.toarray().astype(float)
    with pytest.raises(ValueError, match=r"views\[0\] must be of the kind and shape of X"):
        DPVAESpatialRegressor().fit(X, TISSUE.coords, views=[X[:, :3]])
    with pytest.raises(ValueError, match="explains X itself"):
        DPVAESpatialRegressor(likelihood="poisson").fit(TISSUE.X, TISSUE.coords, views=[TISSUE.X])
