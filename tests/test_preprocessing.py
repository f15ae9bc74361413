import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from sklearn_dpvae._utils.matrix import check_matrix, column_moments
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

CONTAINERS = [np.asarray, sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix]


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.lognormal(0, 1, 12), size=(30, 12))
    counts[:, 5] = 2
    return counts


@pytest.fixture
def sections():
    return np.repeat(["left", "right", "top"], [15, 10, 5])


def dense(X):
    return X.toarray() if sparse.issparse(X) else X


# ---------------------------------------------------------------------------- matrices


@pytest.mark.parametrize("container", CONTAINERS[:3])
@pytest.mark.parametrize("n_rows", [1, 30, 2500])
def test_column_moments(container, n_rows):
    X = np.random.default_rng(0).poisson(0.7, size=(n_rows, 5)).astype(float)
    mean, variance = column_moments(container(X))
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(variance, X.var(axis=0), rtol=1e-12)


def test_column_moments_far_from_zero():
    X = 1e4 + np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    _, variance = column_moments(X)
    np.testing.assert_allclose(variance, X.astype(float).var(axis=0), rtol=1e-9)


def test_entries_stored_twice_are_summed_in_a_copy():
    X = sparse.csr_matrix((np.array([1.0, 2.0, 4.0]), [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    np.testing.assert_array_equal(check_matrix(X, LogNormalizer()).toarray(), [[0, 3], [4, 0]])
    assert X.nnz == 3
    found = LogNormalizer(target_sum=1).fit_transform(X)
    np.testing.assert_allclose(np.expm1(found.toarray()), [[0, 1], [1, 0]])


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.coo_matrix])
@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "NaN or infinity")])
def test_rows_that_are_not_finite_are_named(container, value, what):
    X = np.ones((6, 3))
    X[[1, 2, 4, 5], [0, 2, 1, 1]] = value
    with pytest.raises(
        ValueError, match=rf"^Input X contains {what} in 4 of 6 rows \(1, 2, 4, ...\)"
    ):
        check_matrix(container(X), LogNormalizer())


# ----------------------------------------------------------------------- LogNormalizer


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint8])
def test_log_normalizer_is_its_formula(counts, container, dtype):
    X = container(counts.astype(dtype))
    found = LogNormalizer(target_sum=100).fit_transform(X)
    assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert sparse.issparse(found) == sparse.issparse(X)
    expected = np.log1p(counts * (100 / counts.sum(axis=1, keepdims=True)))
    np.testing.assert_allclose(dense(found), expected, rtol=1e-6)


def test_log_normalizer_brings_queries_to_the_median_of_the_reference(counts):
    counts = counts.astype(np.float64)
    normalizer = LogNormalizer().fit(counts)
    assert normalizer.target_sum_ == np.median(counts.sum(axis=1))
    totals = np.expm1(normalizer.transform(7 * counts[:4])).sum(axis=1)
    np.testing.assert_allclose(totals, normalizer.target_sum_)


@pytest.mark.parametrize("container", CONTAINERS[:2])
def test_pseudocount_is_added_to_the_normalized_counts(counts, container):
    counts = counts.astype(np.float64)
    found = LogNormalizer(target_sum=100, pseudocount=5).fit_transform(container(counts))
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dense(found), np.log(shares + 5) - np.log(5), rtol=1e-12)


def test_variance_is_stabilized_by_the_pseudocount_of_the_overdispersion():
    """1 / (4 a): the variance of genes of many and of few counts is nearly the same."""
    rng = np.random.default_rng(0)
    means, overdispersion = np.array([3.0, 30.0, 300.0]), 0.05
    rates = rng.gamma(1 / overdispersion, means * overdispersion, size=(20_000, 3))
    rest = 10_000 - rates.sum(axis=1, keepdims=True)
    counts = rng.poisson(np.hstack([rates, rest]))

    def unevenness(pseudocount):
        normalizer = LogNormalizer(target_sum=10_000, pseudocount=pseudocount)
        return np.ptp(np.log(normalizer.fit_transform(counts)[:, :3].var(axis=0)))

    assert unevenness(1 / (4 * overdispersion)) < 0.5 * unevenness(1.0)
    assert unevenness(1 / (4 * overdispersion)) < 0.5 * unevenness(50.0)


@pytest.mark.parametrize("container", CONTAINERS[:2])
@pytest.mark.filterwarnings("ignore:X holds fractions")
def test_of_missing_genes_the_others_are_normalized_as_if_these_were_there(container):
    """Where cells have the shares of the reference, exactly."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(12))
    reference = container(0.01 * shares * np.ones((9, 1)))
    missing = np.arange(12) % 3 == 0
    depths = rng.uniform(100, 5000, size=(9, 1))
    normalizer = LogNormalizer().fit(reference)
    np.testing.assert_allclose(normalizer.gene_shares_, shares)
    expected = dense(normalizer.transform(container(depths * shares)))
    lacking = container(depths * shares * ~missing)
    found = dense(normalizer.transform(lacking, missing_genes=missing))
    np.testing.assert_allclose(found[:, ~missing], expected[:, ~missing])
    assert not found[:, missing].any()
    unchanged = normalizer.transform(lacking, missing_genes=np.zeros(12, dtype=bool))
    np.testing.assert_array_equal(dense(unchanged), dense(normalizer.transform(lacking)))


def test_no_gene_with_counts_was_measured():
    normalizer = LogNormalizer().fit([[1.0, 0.0, 3.0]])
    with pytest.raises(ValueError, match=r"marks 2 of 3 genes.*no counts of the others"):
        normalizer.transform([[0.0, 1.0, 0.0]], missing_genes=[True, False, True])


@pytest.mark.parametrize("query", ["same_section", "new_section"])
def test_scaled_missing_genes_are_the_mean(counts, sections, query):
    missing = np.arange(12) < 3
    scaler = SectionScaler(query=query).fit(counts, sections=sections)
    X = counts * ~missing
    found = scaler.transform(X, sections=sections, missing_genes=missing)
    assert not found[:, missing].any()
    others = scaler.transform(X, sections=sections)[:, ~missing]
    np.testing.assert_array_equal(found[:, ~missing], others)


@pytest.mark.parametrize("missing", [[0, 3], np.zeros(12), np.zeros(11, dtype=bool)])
@pytest.mark.parametrize("step", [LogNormalizer(), SectionScaler()])
def test_missing_genes_are_one_boolean_each(counts, step, missing):
    with pytest.raises(ValueError, match="True or False for each of the 12 columns"):
        step.fit(counts).transform(counts, missing_genes=missing)


@given(depth=st.integers(1, 1000))
def test_log_normalizer_forgets_depth(depth):
    counts = np.array([[1.0, 2, 5], [0, 3, 1]])
    normalizer = LogNormalizer().fit(counts)
    found = normalizer.transform(counts * np.array([[depth], [1]]))
    np.testing.assert_allclose(found, normalizer.transform(counts))


@pytest.mark.parametrize("target_sum", [None, 1e4])
@pytest.mark.parametrize("container", CONTAINERS[:2])
def test_log_normalizer_equals_scanpy(counts, container, target_sum):
    scanpy = pytest.importorskip("scanpy")
    anndata = pytest.importorskip("anndata")
    X = container(counts.astype(np.float64))
    data = anndata.AnnData(X.copy())
    scanpy.pp.normalize_total(data, target_sum=target_sum)
    scanpy.pp.log1p(data)
    found = LogNormalizer(target_sum).fit_transform(X)
    np.testing.assert_allclose(dense(found), dense(data.X), rtol=1e-12)


@pytest.mark.parametrize("container", CONTAINERS[:3])
def test_empty_rows_stay_zero_or_are_refused(counts, container):
    counts[[3, 8]] = 0
    X = container(counts)
    kept = LogNormalizer().fit(X)
    assert kept.target_sum_ == np.median(counts.sum(axis=1)[counts.sum(axis=1) > 0])
    assert not dense(kept.transform(X))[[3, 8]].any()

    strict = LogNormalizer(empty_rows="error")
    message = r"2 of 30 rows of X have no counts \(rows 3, 8\).*Drop them"
    with pytest.raises(ValueError, match=message):
        strict.fit(X)
    assert vars(strict).keys() == strict.get_params().keys()
    strict.fit(container(counts[:3]))
    with pytest.raises(ValueError, match=message):
        strict.transform(X)


def test_nothing_but_empty_rows_has_no_median():
    with pytest.raises(ValueError, match="set target_sum"):
        LogNormalizer().fit(np.zeros((3, 2)))
    assert LogNormalizer(target_sum=10).fit(np.zeros((3, 2))).target_sum_ == 10


@pytest.mark.parametrize("container", CONTAINERS[:2])
@pytest.mark.parametrize(
    ("value", "message"),
    [(-1.0, "Negative values in data passed to X in LogNormalizer"), (np.nan, "NaN")],
)
def test_log_normalizer_refuses_what_are_no_counts(counts, container, value, message):
    bad = counts.astype(float)
    bad[2, 3] = value
    pandas = pytest.importorskip("pandas")
    normalizer = LogNormalizer()
    with pytest.raises(ValueError, match=message):
        normalizer.fit(container(bad))
    with pytest.raises(NotFittedError):
        check_is_fitted(normalizer)
    # Names of features are no sign of a fit either.
    with pytest.raises(ValueError, match=message):
        normalizer.fit(pandas.DataFrame(bad, columns=list("abcdefghijkl")))
    with pytest.raises(NotFittedError):
        normalizer.transform(counts)
    with pytest.raises(ValueError, match=message):
        normalizer.fit(counts).transform(container(bad))


@pytest.mark.parametrize("estimator", [LogNormalizer(), SectionScaler()])
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_input_is_not_modified_nor_need_it_be_writable(
    counts, tmp_path, estimator, container, dtype
):
    X = container(counts.astype(dtype))
    joblib.dump(X, tmp_path / "X.joblib")
    mapped = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
    fitted = clone(estimator).fit(mapped)
    results = [
        fitted.transform(mapped),
        fitted.transform(X),
        clone(estimator).fit_transform(X),
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(dense(result), dense(results[0]))
    for result in results:
        # The result belongs to the caller: writing into it leaves X as it was.
        (result.data if sparse.issparse(result) else result)[:] = 0
    np.testing.assert_array_equal(dense(X), counts.astype(dtype))


# ----------------------------------------------------------------------- SectionScaler


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_section_is_scaled_as_by_standard_scaler(counts, container, dtype):
    X = counts.astype(dtype)
    found = SectionScaler(clip=None).fit_transform(container(X))
    assert type(found) is np.ndarray and found.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(found, StandardScaler().fit_transform(X), atol=tolerance)
    assert not found[:, 5].any()


@pytest.mark.parametrize("container", CONTAINERS)
def test_each_section_is_scaled_by_itself(counts, sections, container):
    scaler = SectionScaler(clip=None)
    found = scaler.fit_transform(container(counts), sections=sections)
    for row, label in enumerate(["left", "right", "top"]):
        part = sections == label
        reference = StandardScaler().fit(counts[part])
        np.testing.assert_allclose(found[part], reference.transform(counts[part]), atol=1e-12)
        np.testing.assert_allclose(scaler.section_means_[row], reference.mean_)
        np.testing.assert_allclose(scaler.section_scales_[row], reference.scale_)
    again = clone(scaler).fit(container(counts), sections=sections)
    np.testing.assert_array_equal(again.transform(container(counts), sections=sections), found)
    assert again.sections_.tolist() == ["left", "right", "top"]


def test_rows_of_unknown_sections_take_the_pooled_statistics(counts, sections):
    scaler = SectionScaler(clip=None).fit(counts, sections=sections)
    centered = counts - np.array([counts[sections == s].mean(axis=0) for s in sections])
    scale = np.sqrt((centered**2).mean(axis=0))
    scale[5] = 1
    expected = (counts - counts.mean(axis=0)) / scale
    np.testing.assert_allclose(scaler.transform(counts), expected, atol=1e-12)
    np.testing.assert_allclose(
        scaler.transform(counts, sections=["new"] * 30), expected, atol=1e-12
    )

    mixed = np.where(sections == "left", "left", "new")
    found = scaler.transform(counts, sections=mixed)
    np.testing.assert_allclose(found[15:], expected[15:], atol=1e-12)
    np.testing.assert_allclose(found[:15], scaler.transform(counts[:15], sections=mixed[:15]))
    assert not np.allclose(found[:15], expected[:15])


def test_pooled_scale_does_not_see_differences_between_sections(counts, sections):
    shifted = counts + 100.0 * (sections == "top")[:, None]
    narrow = SectionScaler().fit(counts, sections=sections)
    wide = SectionScaler().fit(shifted, sections=sections)
    np.testing.assert_allclose(wide.scale_, narrow.scale_)
    assert wide.scale_[5] == 1


@pytest.mark.parametrize("query", ["same_section", "new_section"])
def test_pointwise_says_whether_a_row_depends_on_the_others(counts, sections, query):
    scaler = SectionScaler(query=query).fit(counts, sections=sections)
    alone = np.vstack([scaler.transform(row[None]) for row in counts])
    together = scaler.transform(counts)
    assert scaler.pointwise == np.allclose(alone, together)


def test_same_section_answers_row_by_row(counts, sections):
    scaler = SectionScaler().fit(counts, sections=sections)
    whole = scaler.transform(counts, sections=sections)
    rows = [scaler.transform(counts[[i]], sections=sections[[i]]) for i in range(30)]
    np.testing.assert_array_equal(np.vstack(rows), whole)


@pytest.mark.parametrize("container", CONTAINERS[:3])
def test_new_section_is_scaled_by_itself(counts, sections, container):
    scaler = SectionScaler(query="new_section", clip=None).fit(container(counts[:15]))
    query, labels = counts[15:], sections[15:]
    found = scaler.transform(container(query))
    np.testing.assert_allclose(found, StandardScaler().fit_transform(query), atol=1e-12)
    found = scaler.transform(container(query), sections=labels)
    for label in ("right", "top"):
        part = query[labels == label]
        expected = StandardScaler().fit_transform(part)
        np.testing.assert_allclose(found[labels == label], expected, atol=1e-12)
    # That a label was seen in fit changes nothing.
    found = scaler.transform(container(query), sections=[0] * len(query))
    np.testing.assert_allclose(found, StandardScaler().fit_transform(query), atol=1e-12)


def test_a_section_of_one_row_takes_the_pooled_statistics(counts, sections):
    scaler = SectionScaler(query="new_section").fit(counts, sections=sections)
    pooled = clone(scaler).set_params(query="same_section").fit(counts, sections=sections)
    np.testing.assert_array_equal(scaler.transform(counts[:1]), pooled.transform(counts[:1]))

    lonely = np.r_[["alone"], sections[1:]]
    found = scaler.fit_transform(counts, sections=lonely)
    np.testing.assert_allclose(
        found[0], np.clip((counts[0] - scaler.mean_) / scaler.scale_, -10, 10)
    )
    np.testing.assert_array_equal(found, scaler.transform(counts, sections=lonely))


@given(
    X=arrays(np.float64, (8, 3), elements=st.integers(0, 20).map(float)),
    factor=arrays(np.float64, 3, elements=st.sampled_from([0.5, 1.0, 3.0])),
    shift=arrays(np.float64, 3, elements=st.integers(-50, 50).map(float)),
)
@settings(deadline=None)
def test_shifts_and_scales_of_a_section_vanish(X, factor, shift):
    sections = np.repeat([1, 2], 4)
    moved = np.where((sections == 2)[:, None], factor * X + shift, X)
    scaler = SectionScaler()
    np.testing.assert_allclose(
        scaler.fit_transform(moved, sections=sections),
        scaler.fit_transform(X, sections=sections),
        atol=1e-9,
    )


def test_clip_bounds_the_scores():
    X = np.zeros((1000, 1))
    X[0] = 1
    assert SectionScaler(clip=None).fit_transform(X).max() > 30
    assert SectionScaler(clip=3.5).fit_transform(X).max() == 3.5
    fitted = SectionScaler(clip=3.5).fit(X)
    assert fitted.transform([[1e9], [-1e9]]).ravel().tolist() == [3.5, -3.5]


def test_rounding_is_no_spread():
    # Equal but for the last bit.
    X = np.array([[0.1 + 0.2], [0.3], [0.3]])
    assert SectionScaler().fit(X).scale_ == 1


@pytest.mark.parametrize(
    ("in_fit", "in_transform"),
    [
        ([1, 1, 2, 2], np.array([1, 1, 2, 2], dtype=object)),
        (["a", "a", "b", "b"], np.array(["a", "a", "b", "b"], dtype=object)),
        (np.array([1, 1, 2, 2], dtype=np.int8), [1, 1, 2, 2]),
    ],
)
def test_labels_are_known_again_in_another_type(in_fit, in_transform):
    X = np.array([[1.0], [3.0], [10.0], [30.0]])
    scaler = SectionScaler().fit(X, sections=in_fit)
    assert scaler.transform(X, sections=in_transform).ravel().tolist() == [-1, 1, -1, 1]


def test_labels_may_be_categorical():
    pandas = pytest.importorskip("pandas")
    X = np.array([[1.0], [3.0], [10.0], [30.0]])
    labels = pandas.Categorical(["a", "a", "b", "b"])
    found = SectionScaler().fit(X, sections=["a", "a", "b", "b"]).transform(X, sections=labels)
    assert found.ravel().tolist() == [-1, 1, -1, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], "sections has 2 labels but X has 30 rows"),
        (["a"] * 29 + [None], "1 missing label"),
        ("a", "one label per row"),
    ],
)
def test_bad_labels_leave_no_half_fitted_scaler(counts, labels, message):
    scaler = SectionScaler()
    with pytest.raises(ValueError, match=message):
        scaler.fit(counts, sections=labels)
    assert vars(scaler).keys() == {"query", "clip"}
    with pytest.raises(ValueError, match=message):
        scaler.fit(counts).transform(counts, sections=labels)


def test_a_failed_second_fit_leaves_the_first(counts):
    scaler = SectionScaler().fit(counts)
    expected = scaler.transform(counts)
    with pytest.raises(ValueError, match="NaN"):
        scaler.fit(np.full((3, 2), np.nan))
    np.testing.assert_array_equal(scaler.transform(counts), expected)


def test_fit_does_not_make_sparse_matrices_dense(counts, sections, monkeypatch):
    def refuse(self, *args, **kwargs):
        pytest.fail("made dense")

    X = sparse.csr_matrix(counts)
    monkeypatch.setattr(sparse.csr_matrix, "toarray", refuse)
    SectionScaler().fit(X, sections=sections)
    LogNormalizer().fit_transform(X)


# --------------------------------------------------------------------------- together


def test_names_pass_through(counts):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(counts, columns=[f"g{i}" for i in range(12)])
    chain = make_pipeline(LogNormalizer(), SectionScaler()).set_output(transform="pandas")
    found = chain.fit_transform(table)
    assert found.columns.tolist() == table.columns.tolist()
    assert chain.get_feature_names_out().tolist() == table.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        chain.transform(table[table.columns[::-1]])


def test_sections_reach_the_scaler_through_metadata_routing(counts, sections):
    chain = make_pipeline(LogNormalizer(), SectionScaler(clip=None))
    normalized = LogNormalizer().fit_transform(counts)
    expected = SectionScaler(clip=None).fit_transform(normalized, sections=sections)
    with config_context(enable_metadata_routing=True):
        found = chain.fit_transform(counts, sections=sections)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(chain.transform(counts, sections=sections), expected)
    # Without it, by the name of the step.
    found = clone(chain).fit_transform(counts, sectionscaler__sections=sections)
    np.testing.assert_array_equal(found, expected)


def test_grid_search_slices_the_sections(counts, sections):
    y = np.random.default_rng(0).normal(size=(30, 2))
    search = GridSearchCV(
        make_pipeline(LogNormalizer(), SectionScaler(), Ridge()),
        {"sectionscaler__query": ["same_section", "new_section"]},
        cv=LeaveOneGroupOut(),
    )
    with config_context(enable_metadata_routing=True):
        search.fit(counts, y, sections=sections, groups=sections)
        assert search.predict(counts).shape == (30, 2)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_[1].sections_.tolist() == ["left", "right", "top"]


@pytest.mark.parametrize("estimator", [LogNormalizer(), SectionScaler("new_section", clip=4)])
def test_pickles_answer_alike(counts, estimator):
    fitted = clone(estimator).fit(counts)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(counts), fitted.transform(counts))


@pytest.mark.skipif("SKLEARN_DPVAE_DATA" not in os.environ, reason="needs real sections")
def test_real_sections():
    anndata = pytest.importorskip("anndata")
    path = Path(os.environ["SKLEARN_DPVAE_DATA"]) / "mouse_olfactory_bulb_st2k.h5ad"
    data = anndata.read_h5ad(path)
    sections = data.obs["section"]
    X = data.X.astype(np.float32)
    normalized = LogNormalizer(empty_rows="error").fit_transform(X)
    assert sparse.issparse(normalized) and normalized.dtype == np.float32
    found = SectionScaler(clip=None).fit_transform(normalized, sections=sections)
    assert found.dtype == np.float32
    for label in np.unique(sections):
        part = found[(sections == label).to_numpy()]
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(part.std(axis=0), 1, atol=1e-4)


def test_logarithms_where_counts_are_expected(counts):
    logged = LogNormalizer().fit_transform(counts)
    with pytest.warns(UserWarning, match=r"log-normalized already.*layer=.counts") as caught:
        twice = LogNormalizer().fit(logged)
        twice.transform(logged)
    assert len(caught) == 1
    assert twice.input_kind_ == "logarithms"
    with pytest.warns(UserWarning, match="the reference looked log-normalized"):
        twice.transform(counts)
    once = LogNormalizer().fit(counts)
    assert once.input_kind_ == "counts"
    with pytest.warns(UserWarning, match="the reference was not"):
        once.transform(logged)
    # A query with the ambient RNA taken away is no fault.
    once.transform(counts * 0.93)


def test_fractions_where_counts_are_expected(counts):
    with pytest.warns(UserWarning, match=r"holds fractions.*layer=.counts.*np\.rint") as caught:
        normalizer = LogNormalizer().fit(counts * 0.93)
        normalizer.transform(counts)
    assert len(caught) == 1
    assert normalizer.input_kind_ == "fractions"
    LogNormalizer().fit(np.rint(counts * 0.93))
