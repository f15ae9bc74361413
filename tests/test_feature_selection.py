import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from read_only import read_only
from scipy import sparse
from scipy.stats import norm
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_dpvae._utils.autocorrelation import knn_weights, morans_i, morans_i_null
from sklearn_dpvae.feature_selection import HighlyVariableGenes, SpatiallyVariableGenes
from sklearn_dpvae.feature_selection._dispersion import variance_about_trend
from sklearn_dpvae.feature_selection._loess import loess
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

REFERENCE = Path(__file__).with_name("data") / "highly_variable.npz"
FLAVORS = ["seurat", "cell_ranger", "seurat_v3"]
CONTAINERS = [np.asarray, sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix]


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as archive:
        stored = dict(archive)
    read_only(*stored.values())
    return stored


def expression(counts, flavor):
    """What a flavor wants to be given."""
    counts = counts.astype(float)
    return counts if flavor == "seurat_v3" else LogNormalizer(1000).fit_transform(counts)


def scores_of(selector):
    counts = selector.flavor == "seurat_v3"
    return selector.variances_norm_ if counts else selector.dispersions_norm_


# ----------------------------------------------------------------- HighlyVariableGenes


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("by_section", [False, True])
def test_scores_and_picks_are_those_stored_of_scanpy(reference, container, flavor, by_section):
    X = container(expression(reference["counts"], flavor))
    selector = HighlyVariableGenes(int(reference["n_top"]), flavor)
    selector.fit(X, sections=reference["batch"] if by_section else None)
    name = f"{flavor}_sections" if by_section else flavor
    np.testing.assert_allclose(scores_of(selector), reference[f"{name}_scores"], rtol=1e-9)
    np.testing.assert_array_equal(selector.support_, reference[f"{name}_picks"])
    assert selector.transform(X).shape == (160, 40)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("by_section", [False, True])
@pytest.mark.parametrize("n_top", [1, 25, 100])
@pytest.mark.parametrize("container", CONTAINERS[:2])
def test_picks_are_those_of_scanpy(reference, flavor, by_section, n_top, container):
    scanpy = pytest.importorskip("scanpy")
    anndata = pytest.importorskip("anndata")
    if flavor == "seurat_v3":
        pytest.importorskip("skmisc")
    X = expression(reference["counts"], flavor).astype(np.float32)
    data = anndata.AnnData(container(X))
    # As scanpy puts genes in the order of their names.
    data.var_names = [f"gene{i:03}" for i in range(X.shape[1])]
    data.obs["batch"] = reference["batch"]
    data.obs["batch"] = data.obs["batch"].astype("category")
    found = scanpy.pp.highly_variable_genes(
        data,
        flavor=flavor,
        n_top_genes=n_top,
        batch_key="batch" if by_section else None,
        inplace=False,
    )
    selector = HighlyVariableGenes(n_top, flavor)
    selector.fit(container(X), sections=reference["batch"] if by_section else None)
    np.testing.assert_array_equal(selector.support_, found["highly_variable"])
    np.testing.assert_allclose(selector.means_, found["means"], rtol=1e-5)
    if flavor == "seurat_v3":
        np.testing.assert_allclose(selector.variances_, found["variances"], rtol=1e-5)
        np.testing.assert_allclose(selector.variances_norm_, found["variances_norm"], rtol=1e-5)
    else:
        np.testing.assert_allclose(selector.dispersions_, found["dispersions"], rtol=1e-4)
        found = found["dispersions_norm"]
        np.testing.assert_allclose(selector.dispersions_norm_, found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("container", CONTAINERS[:2])
def test_variance_about_trend_is_that_of_clipped_z_scores(reference, container):
    counts = reference["counts"].astype(float)
    counts[0, 7] = 1e4
    n = len(counts)
    mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
    varies = variance > 0
    trend = loess(np.log10(mean[varies]), np.log10(variance[varies]))
    z = (counts[:, varies] - mean[varies]) / 10 ** (trend / 2)
    assert z.max() > np.sqrt(n)
    expected = (np.minimum(z, np.sqrt(n)) ** 2).sum(axis=0) / (n - 1)
    scores = variance_about_trend(container(counts))
    np.testing.assert_allclose(scores[varies], expected)
    assert not scores[~varies].any()


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_gene_of_two_cell_types_stands_out(flavor):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.lognormal(1, 0.5, 60), size=(300, 60))
    counts[:, 17] = rng.poisson(np.where(rng.random(300) < 0.5, 1, 8))
    selector = HighlyVariableGenes(n_top_genes=1, flavor=flavor, n_bins=5)
    selector.fit(expression(counts, flavor))
    assert selector.get_support(indices=True).tolist() == [17]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_asking_for_more_genes_than_vary(flavor):
    rng = np.random.default_rng(0)
    X = expression(rng.poisson(3.0, size=(50, 9)), flavor)
    X[:, 4] = 0
    selector = HighlyVariableGenes(flavor=flavor).fit(X)
    assert selector.support_.sum() >= 8
    with pytest.raises(ValueError, match="no gene of X varies"):
        selector.fit(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="no gene of X varies"):
        selector.fit(np.zeros((6, 3)), sections=[0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("flavor", "value", "message"),
    [
        ("seurat", -0.5, "Negative values in data.*log-normalized"),
        ("cell_ranger", -0.5, "Negative values in data.*log-normalized"),
        ("seurat_v3", -1, "Negative values in data.*raw counts"),
        ("seurat", 800, "too large for logarithms.*LogNormalizer"),
        ("seurat", np.inf, "infinity"),
        ("seurat_v3", np.nan, "NaN"),
    ],
)
def test_bad_values_leave_no_half_fitted_selector(flavor, value, message):
    X = np.ones((6, 4))
    X[1, 2] = value
    selector = HighlyVariableGenes(flavor=flavor)
    with pytest.raises(ValueError, match=message):
        selector.fit(X)
    assert vars(selector) == selector.get_params()
    with pytest.raises(NotFittedError):
        check_is_fitted(selector)


def test_fractions_are_no_counts():
    X = np.random.default_rng(0).random((20, 10))
    with pytest.warns(UserWarning, match="not whole numbers") as record:
        HighlyVariableGenes(flavor="seurat_v3").fit(X)
    assert record[0].filename == __file__


def test_a_section_of_one_row_is_named():
    X = np.random.default_rng(0).poisson(3.0, size=(6, 4))
    with pytest.raises(ValueError, match="section 'b' has a single row"):
        HighlyVariableGenes().fit(X, sections=list("aaabcc"))


# -------------------------------------------------------------- SpatiallyVariableGenes


@pytest.fixture
def tissue_like():
    """Counts of 20 genes at 120 positions in two sections; genes 3 and 11 follow positions."""
    rng = np.random.default_rng(1)
    coords = rng.uniform(size=(120, 2))
    sections = np.repeat(["a", "b"], [70, 50])
    counts = rng.poisson(2.0, size=(120, 20))
    counts[:, 3] = rng.poisson(8 * coords[:, 0])
    counts[:, 11] = rng.poisson(20 * np.abs(coords[:, 1] - 0.5))
    return counts, coords, sections


def moran_by_sums(x, weights):
    z = x - x.mean()
    return len(x) / weights.sum() * (z @ weights @ z) / (z @ z)


@pytest.mark.parametrize("container", CONTAINERS)
def test_statistics_are_their_formulas(tissue_like, container):
    counts, coords, _ = tissue_like
    selector = SpatiallyVariableGenes(n_top_genes=2).fit(container(counts), coords)
    weights = knn_weights(coords, 6).toarray()
    expected = np.array([moran_by_sums(x, weights) for x in counts.T])
    np.testing.assert_allclose(selector.morans_i_, expected, rtol=1e-10)
    expectation, variance = morans_i_null(weights)
    z = (expected - expectation) / np.sqrt(variance)
    np.testing.assert_allclose(selector.scores_, z, rtol=1e-10)
    np.testing.assert_allclose(selector.pvalues_, norm.sf(z), rtol=1e-8)
    assert selector.get_support(indices=True).tolist() == [3, 11]
    assert selector.get_feature_names_out().tolist() == ["x3", "x11"]
    chosen = selector.transform(container(counts))
    assert sparse.issparse(chosen) == sparse.issparse(container(counts))
    np.testing.assert_array_equal(
        chosen.toarray() if sparse.issparse(chosen) else chosen, counts[:, [3, 11]]
    )


def test_sections_are_averaged_by_their_size(tissue_like):
    counts, coords, sections = tissue_like
    selector = SpatiallyVariableGenes().fit(counts, coords, sections=sections)
    values, moments = [], []
    for label in ("a", "b"):
        part = sections == label
        weights = knn_weights(coords[part], 6)
        values.append(morans_i(counts[part], weights))
        moments.append(morans_i_null(weights))
    shares = np.array([70, 50]) / 120
    np.testing.assert_allclose(selector.morans_i_, shares @ values)
    expectation, variance = np.array(moments).T
    z = (shares @ values - shares @ expectation) / np.sqrt(shares**2 @ variance)
    np.testing.assert_allclose(selector.scores_, z)


def test_frames_and_levels_of_sections_do_not_matter(tissue_like):
    counts, coords, sections = tissue_like
    first = SpatiallyVariableGenes(n_top_genes=5).fit(counts, coords, sections=sections)
    b = sections == "b"
    moved = coords.copy()
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    moved[b] = 30 * coords[b] @ turn + [1e3, -7]
    shifted = counts * np.where(b, 3, 1)[:, None] + np.where(b, 40, 0)[:, None]
    second = clone(first).fit(shifted, moved, sections=sections)
    np.testing.assert_allclose(second.morans_i_, first.morans_i_, rtol=1e-10)
    # Without labels the difference between the sections would pass for structure.
    assert clone(first).fit(shifted, moved).morans_i_.min() > 0.3


def test_order_of_rows_does_not_matter(tissue_like):
    counts, coords, sections = tissue_like
    order = np.random.default_rng(0).permutation(len(counts))
    first = SpatiallyVariableGenes().fit(counts, coords, sections=sections)
    second = clone(first).fit(counts[order], coords[order], sections=sections[order])
    np.testing.assert_allclose(second.scores_, first.scores_, rtol=1e-9)


def test_pvalues_are_uniform_without_structure():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2000))
    selector = SpatiallyVariableGenes(max_pvalue=0.05, n_top_genes=None)
    selector.fit(X, rng.uniform(size=(600, 2)), sections=rng.integers(2, size=600))
    for level in (0.05, 0.5, 0.9):
        assert (selector.pvalues_ <= level).mean() == pytest.approx(level, abs=0.03)
    np.testing.assert_array_equal(selector.support_, selector.pvalues_ <= 0.05)


def test_limits_on_pvalues_and_cells(tissue_like):
    counts, coords, _ = tissue_like
    counts[:, 11] = 0
    counts[np.argsort(coords[:, 0])[:4], 11] = 5
    selector = SpatiallyVariableGenes(n_top_genes=2).fit(counts, coords)
    assert selector.support_[[3, 11]].all()
    selector.set_params(min_cells=5, max_pvalue=1e-6).fit(counts, coords)
    assert selector.get_support(indices=True).tolist() == [3]
    n_cells = len(counts)
    selector.set_params(min_cells=4 / n_cells, max_pvalue=None).fit(counts, coords)
    assert selector.support_[[3, 11]].all()
    selector.set_params(min_cells=5 / n_cells).fit(counts, coords)
    assert selector.support_[3]
    assert not selector.support_[11]
    with pytest.raises(ValueError, match="min_cells=500"):
        selector.set_params(min_cells=500).fit(counts, coords)
    with pytest.raises(ValueError, match=r"max_pvalue=1e-300.*the lowest p-value is"):
        selector.set_params(min_cells=0, max_pvalue=1e-300).fit(counts, coords)


def test_constant_genes_come_last(tissue_like):
    counts, coords, sections = tissue_like
    counts[:, 0] = 4
    selector = SpatiallyVariableGenes(n_top_genes=19).fit(counts, coords, sections=sections)
    assert selector.get_support(indices=True).tolist() == list(range(1, 20))
    for values in (selector.morans_i_, selector.scores_, selector.pvalues_):
        assert np.isnan(values[0]) and np.isfinite(values[1:]).all()
    # All are kept where there are fewer than wanted.
    assert selector.set_params(n_top_genes=1000).fit(counts, coords).support_.all()


def test_a_section_without_the_gene_counts_as_no_evidence(tissue_like):
    counts, coords, sections = tissue_like
    b = sections == "b"
    counts[b, 3] = 0
    selector = SpatiallyVariableGenes().fit(counts, coords, sections=sections)
    alone = SpatiallyVariableGenes().fit(counts[~b], coords[~b])
    np.testing.assert_allclose(selector.scores_[3], alone.scores_[3])
    assert 0 < selector.morans_i_[3] < alone.morans_i_[3]


@pytest.mark.parametrize("n_dims", [1, 3])
def test_positions_of_other_dimensions(n_dims):
    rng = np.random.default_rng(0)
    coords = rng.uniform(size=(100, n_dims))
    X = rng.normal(size=(100, 5))
    X[:, 2] += 5 * coords[:, -1]
    y = coords[:, 0] if n_dims == 1 else coords
    assert SpatiallyVariableGenes(1).fit(X, y).get_support(indices=True).tolist() == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "requires y to be passed, but the target y is None.*positions"),
        ({"y": np.zeros((120, 2))}, "same point"),
        ({"y": np.full((120, 2), np.nan)}, "NaN"),
        ({"y": np.zeros((7, 2))}, "inconsistent numbers of samples"),
        ({"sections": ["a"] * 119 + ["b"]}, "section 'b' has n_samples=1"),
        ({"sections": ["a"] * 7}, "sections has 7 labels"),
        ({"X": np.full((120, 20), np.inf)}, "infinity"),
    ],
)
def test_bad_input_leaves_no_half_fitted_selector(tissue_like, change, message):
    counts, coords, sections = tissue_like
    given = {"X": counts, "y": coords, "sections": sections} | change
    selector = SpatiallyVariableGenes()
    with pytest.raises(ValueError, match=message):
        selector.fit(**given)
    assert vars(selector) == selector.get_params()
    # Nor does it change what was learned before.
    before = vars(selector.fit(counts, coords)).copy()
    with pytest.raises(ValueError, match=message):
        selector.fit(**given)
    assert vars(selector) == before


def test_memory_is_bounded_by_the_chunk():
    import tracemalloc

    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.poisson(0.02, size=(1000, 3000)))
    tracemalloc.start()
    SpatiallyVariableGenes().fit(X, rng.uniform(size=(1000, 2)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * 8 * 1000 * 3000


# --------------------------------------------------------------------------- together


@pytest.mark.parametrize(
    "selector",
    [
        HighlyVariableGenes(5),
        HighlyVariableGenes(5, flavor="cell_ranger"),
        SpatiallyVariableGenes(5),
    ],
)
def test_pipeline_with_and_without_metadata_routing(tissue_like, selector):
    counts, coords, sections = tissue_like
    chain = make_pipeline(LogNormalizer(), selector, SectionScaler(), Ridge())
    alone = clone(selector).fit(LogNormalizer().fit_transform(counts), coords, sections=sections)
    with config_context(enable_metadata_routing=True):
        chain.fit(sparse.csr_matrix(counts), coords, sections=sections)
        assert chain.predict(counts, sections=sections).shape == (120, 2)
    np.testing.assert_array_equal(chain[1].support_, alone.support_)
    assert chain[2].sections_.tolist() == ["a", "b"]

    name = chain.steps[1][0]
    again = clone(chain).fit(counts, coords, **{f"{name}__sections": sections})
    np.testing.assert_array_equal(again[1].support_, alone.support_)
    assert again[2].sections_.tolist() == [0]


def test_grid_search_over_the_number_of_genes(tissue_like):
    counts, coords, sections = tissue_like
    chain = make_pipeline(LogNormalizer(), SpatiallyVariableGenes(), SectionScaler(), Ridge())
    search = GridSearchCV(
        chain,
        {"spatiallyvariablegenes__n_top_genes": [1, 2, 20]},
        cv=LeaveOneGroupOut(),
        n_jobs=1,
    )
    with config_context(enable_metadata_routing=True):
        search.fit(counts, coords, sections=sections, groups=sections)
    assert search.best_params_ == {"spatiallyvariablegenes__n_top_genes": 2}
    assert search.best_estimator_[1].get_support(indices=True).tolist() == [3, 11]


@pytest.mark.parametrize("selector", [HighlyVariableGenes(7), SpatiallyVariableGenes(7)])
def test_names_tables_and_pickles(tissue_like, selector):
    pandas = pytest.importorskip("pandas")
    counts, coords, _ = tissue_like
    genes = [f"gene{i}" for i in range(20)]
    table = pandas.DataFrame(LogNormalizer().fit_transform(counts), columns=genes)
    selector = clone(selector).set_output(transform="pandas").fit(table, coords)
    found = selector.transform(table)
    assert found.columns.tolist() == selector.get_feature_names_out().tolist()
    assert found.columns.tolist() == list(np.array(genes)[selector.support_])
    assert selector.inverse_transform(found.to_numpy()).shape == table.shape
    again = pickle.loads(pickle.dumps(selector))
    pandas.testing.assert_frame_equal(again.transform(table), found)


def test_genes_of_the_generated_tissue(tissue):
    X = LogNormalizer().fit_transform(tissue.X)
    found = SpatiallyVariableGenes(20).fit(X, tissue.coords, sections=tissue.sections)
    assert found.morans_i_[found.support_].min() > 0.1


@pytest.mark.skipif("SKLEARN_DPVAE_DATA" not in os.environ, reason="needs real sections")
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("name", ["human_dbit", "mouse_olfactory_bulb_st2k"])
def test_picks_on_real_sections_are_those_of_scanpy(name, flavor):
    anndata = pytest.importorskip("anndata")
    scanpy = pytest.importorskip("scanpy")
    if flavor == "seurat_v3":
        pytest.importorskip("skmisc")
    data = anndata.read_h5ad(Path(os.environ["SKLEARN_DPVAE_DATA"]) / f"{name}.h5ad")
    scanpy.pp.filter_cells(data, min_counts=1)
    data.X = data.X.astype(np.float64)
    if flavor != "seurat_v3":
        data.X = LogNormalizer().fit_transform(data.X)
    found = scanpy.pp.highly_variable_genes(data, flavor=flavor, n_top_genes=500, inplace=False)
    selector = HighlyVariableGenes(500, flavor).fit(data.X)
    np.testing.assert_array_equal(selector.support_, found["highly_variable"])


@pytest.mark.skipif("SKLEARN_DPVAE_DATA" not in os.environ, reason="needs real sections")
def test_spatial_genes_of_a_real_section():
    scanpy = pytest.importorskip("scanpy")
    anndata = pytest.importorskip("anndata")
    data = anndata.read_h5ad(Path(os.environ["SKLEARN_DPVAE_DATA"]) / "mouse_embryo_visium.h5ad")
    X = LogNormalizer().fit_transform(data.X)
    selector = SpatiallyVariableGenes(1000).fit(X, data.obsm["spatial"])
    weights = knn_weights(data.obsm["spatial"], 6)
    found = selector.morans_i_[selector.support_]
    expected = scanpy.metrics.morans_i(weights, X[:, selector.support_].T)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert len(found) == 1000
    assert selector.scores_[selector.support_].min() > 3
