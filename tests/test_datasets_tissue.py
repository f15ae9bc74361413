"""The generator: shapes, the distribution of counts, frames of sections, a signal to learn."""

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import ConvexHull, procrustes
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import check_random_state

from sklearn_dpvae.datasets import _tissue, make_tissue


def normalized(X):
    X = X.toarray().astype(float)
    total = X.sum(axis=1, keepdims=True)
    return np.log1p(X / total * np.median(total))


def knn_baseline():
    return make_pipeline(
        FunctionTransformer(normalized),
        StandardScaler(),
        PCA(30, random_state=0),
        KNeighborsRegressor(15),
    )


def test_fixture_is_a_private_copy(tissue):
    tissue.coords[:] = np.nan
    assert tissue.X.shape == (300, 60)


def test_fixture_was_not_changed_by_the_test_before(tissue):
    assert np.isfinite(tissue.coords).all()


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("n_sections", [1, 3])
def test_shapes_and_types(n_dims, n_sections):
    tissue = make_tissue(100, 30, n_sections=n_sections, n_dims=n_dims, random_state=0)

    assert sparse.isspmatrix_csr(tissue.X)
    assert tissue.X.shape == (100, 30) and tissue.X.dtype == np.int32
    assert tissue.X.data.min() >= 1  # No stored zeros.
    for coords in (tissue.coords, tissue.true_coords):
        assert coords.shape == (100, n_dims) and coords.dtype == np.float64
        assert np.isfinite(coords).all()
    assert tissue.genes[[0, -1]].tolist() == ["gene_0001", "gene_0030"]
    assert tissue.obs_names[[0, -1]].tolist() == ["cell_00001", "cell_00100"]
    labels, sizes = np.unique(tissue.sections, return_counts=True)
    assert labels.tolist() == [f"section_{i}" for i in range(1, n_sections + 1)]
    assert np.ptp(sizes) <= 1
    assert set(tissue.cell_types) <= {f"type_{i}" for i in range(1, 7)}
    assert set(tissue.layers) == set(range(5))
    assert tissue.spatial_genes.sum() == 15


def test_same_seed_same_tissue():
    one, two = (make_tissue(80, 20, n_sections=2, random_state=3) for _ in range(2))
    other = make_tissue(80, 20, n_sections=2, random_state=4)

    assert (one.X != two.X).nnz == 0
    np.testing.assert_array_equal(one.coords, two.coords)
    assert (one.X != other.X).nnz > 0


def test_random_state_instance_advances_and_global_state_is_untouched():
    before = check_random_state(None).get_state()[1].copy()
    rng = np.random.RandomState(0)
    first, second = (make_tissue(50, 20, random_state=rng) for _ in range(2))

    assert (first.X != second.X).nnz > 0
    make_tissue(50, 20, random_state=0)
    np.testing.assert_array_equal(check_random_state(None).get_state()[1], before)


def test_genes_do_not_depend_on_the_number_of_cells():
    few, many = (make_tissue(n, 40, random_state=0) for n in (500, 4000))

    np.testing.assert_array_equal(few.spatial_genes, many.spatial_genes)
    share = [np.asarray(t.X.sum(axis=0)).ravel() / t.X.sum() for t in (few, many)]
    np.testing.assert_allclose(share[0], share[1], rtol=0.25)


def test_counts_are_negative_binomial():
    dispersion = 0.5
    # Without pattern or batch effect all cells share the genes' proportions.
    settings = {"signal": 0, "batch_effect": 0, "random_state": 0}
    X = make_tissue(20_000, 5, dispersion=dispersion, **settings).X.toarray()
    mean, variance = X.mean(axis=0), X.var(axis=0)

    # The library size is log-normal, exp(0.35 N): squared, it is worth this factor.
    spread = np.exp(0.35**2)
    expected = mean + mean**2 * (spread * (1 + dispersion) - 1)
    np.testing.assert_allclose(variance, expected, rtol=0.06)


def test_without_dispersion_counts_are_poisson_given_the_library():
    settings = {"signal": 0, "batch_effect": 0, "random_state": 0}
    X = make_tissue(20_000, 40, dispersion=0, **settings).X.toarray()
    share = X.sum(axis=0) / X.sum()
    # Given its total, a cell's counts are multinomial.
    chi2 = ((X - X.sum(axis=1, keepdims=True) * share) ** 2).sum(axis=0)
    expected = (X.sum(axis=1, keepdims=True) * share * (1 - share)).sum(axis=0)
    np.testing.assert_allclose(chi2, expected, rtol=0.06)


def test_library_size_is_the_median_total():
    X = make_tissue(4000, 50, library_size=700, random_state=0).X
    assert np.median(np.asarray(X.sum(axis=1))) == pytest.approx(700, rel=0.04)


def test_blocks_of_cells_are_all_there(monkeypatch):
    monkeypatch.setattr(_tissue, "BLOCK_ENTRIES", 1000)
    tissue = make_tissue(203, 30, n_sections=2, random_state=0)
    assert tissue.X.shape == (203, 30)
    assert (tissue.X.getnnz(axis=1) > 0).all()


@pytest.mark.parametrize("n_dims", [2, 3])
def test_sections_are_rigid_motions_of_the_tissue(n_dims):
    tissue = make_tissue(400, 5, n_sections=4, n_dims=n_dims, random_state=0)
    turns = []
    for number in range(1, 5):
        rows = tissue.sections == f"section_{number}"
        coords, truth = tissue.coords[rows], tissue.true_coords[rows]
        np.testing.assert_allclose(pdist(coords), pdist(truth), rtol=1e-9)
        turn = np.linalg.lstsq(truth - truth.mean(0), coords - coords.mean(0), rcond=None)[0]
        turns.append(np.linalg.det(turn))
    np.testing.assert_allclose(turns, [1, -1, 1, -1])
    first = tissue.sections == "section_1"
    np.testing.assert_array_equal(tissue.coords[first], tissue.true_coords[first])


def test_jitter_moves_the_records_and_nothing_else():
    still, moved = (make_tissue(3000, 5, jitter=j, random_state=0) for j in (0, 10.0))
    error = moved.coords - moved.true_coords
    assert error.std() == pytest.approx(10, rel=0.05)
    np.testing.assert_array_equal(still.true_coords, moved.true_coords)
    assert (still.X != moved.X).nnz == 0


def test_batch_effects_shift_genes_between_sections():
    def spread(batch_effect):
        tissue = make_tissue(
            6000, 40, n_sections=2, signal=0, batch_effect=batch_effect, random_state=1
        )
        first = tissue.sections == "section_1"
        one, two = (np.asarray(tissue.X[rows].sum(0)).ravel() for rows in (first, ~first))
        return np.log(one / two).std()

    assert spread(0) < 0.05
    assert spread(0.5) == pytest.approx(0.5 * np.sqrt(2), rel=0.35)


def test_outline_has_no_mirror_symmetry():
    points = make_tissue(4000, 2, random_state=0).true_coords
    points = points - points.mean(axis=0)
    hull = points[ConvexHull(points).vertices]
    overlaps = []
    for angle in np.linspace(0, np.pi, 36, endpoint=False):
        # Reflection at the axis with this angle.
        c, s = np.cos(2 * angle), np.sin(2 * angle)
        mirrored = hull @ np.array([[c, s], [s, -c]])
        # How far the mirrored outline strays from the outline.
        distance = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(mirrored)[0]
        overlaps.append(distance.max())
    assert min(overlaps) > 50  # Of about 1,000.


def test_types_live_in_bands_and_the_last_one_everywhere():
    tissue = make_tissue(4000, 2, random_state=0)
    spreads = {t: tissue.layers[tissue.cell_types == t].std() for t in set(tissue.cell_types)}
    everywhere = spreads.pop("type_6")
    assert everywhere > 1.5 * max(spreads.values())


def test_only_informative_genes_vary_with_the_place():
    tissue = make_tissue(3000, 60, random_state=0)
    X = normalized(tissue.X)
    near = NearestNeighbors(n_neighbors=20).fit(tissue.coords).kneighbors(return_distance=False)
    # Share of a gene's variance that the mean of 20 neighbors keeps; 1 / 20 by chance.
    kept = X[near].mean(axis=1).var(axis=0) / X.var(axis=0)
    assert kept[~tissue.spatial_genes].max() < 0.1
    assert np.median(kept[tissue.spatial_genes]) > 0.15


@pytest.mark.parametrize(("n_dims", "low", "high"), [(2, 0.1, 0.3), (3, 0.1, 0.4)])
def test_neighbors_in_expression_tell_the_place(n_dims, low, high):
    tissue = make_tissue(1000, 300, n_dims=n_dims, random_state=0)
    train, test = np.arange(800), np.arange(800, 1000)
    baseline = knn_baseline().fit(tissue.X[train], tissue.coords[train])
    disparity = procrustes(tissue.coords[test], baseline.predict(tissue.X[test]))[2]
    assert low < disparity < high

    silent = make_tissue(1000, 300, n_dims=n_dims, signal=0, random_state=0)
    baseline = clone(baseline).fit(silent.X[train], silent.coords[train])
    assert procrustes(silent.coords[test], baseline.predict(silent.X[test]))[2] > 0.8


@pytest.mark.parametrize(
    "edge",
    [
        {"n_cell_types": 1},
        {"n_cell_types": 2},
        {"informative": 0.0},
        {"informative": 1.0},
        {"n_genes": 1},
        {"n_cells": 1},
    ],
)
def test_edges(edge):
    settings = {"n_cells": 40, "n_genes": 10, "random_state": 0} | edge
    tissue = make_tissue(**settings)
    assert tissue.X.shape == (settings["n_cells"], settings["n_genes"])
    assert tissue.spatial_genes.sum() == round(
        settings.get("informative", 0.5) * settings["n_genes"]
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"n_cells": 0}, "n_cells"),
        ({"n_cells": 2, "n_sections": 3}, "n_cells=2 is less than n_sections=3"),
        ({"n_dims": 4}, "n_dims"),
        ({"library_size": 0}, "library_size"),
        ({"dispersion": -1}, "dispersion"),
        ({"informative": 1.5}, "informative"),
        ({"jitter": "much"}, "jitter"),
        ({"random_state": "seed"}, "random_state"),
    ],
)
def test_bad_arguments(bad, message):
    with pytest.raises(ValueError, match=message):
        make_tissue(**bad)
