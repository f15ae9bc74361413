"""Alignment of genes by name, dense and sparse alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sklearn_dpvae.datasets import align_genes
from sklearn_dpvae.datasets._genes import make_unique

CONTAINERS = [np.asarray, sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.coo_array]


def dense(X):
    return X.toarray() if sparse.issparse(X) else X


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(1.0, size=(6, 4)).astype(np.int32)


@pytest.mark.parametrize("container", CONTAINERS)
def test_permuted_genes_are_reordered_without_a_warning(container, counts):
    order = [2, 0, 3, 1]
    genes = np.array(list("abcd"))
    aligned = align_genes(container(counts[:, order]), genes[order], genes)
    np.testing.assert_array_equal(dense(aligned), counts)
    assert aligned.dtype == np.int32


@pytest.mark.parametrize("container", CONTAINERS)
def test_missing_genes_are_filled_with_one_warning_and_others_dropped(container, counts):
    with pytest.warns(UserWarning, match="2 of the reference's 5 genes .* filled: x, y") as seen:
        aligned = align_genes(container(counts), list("abcd"), list("xdyca"))
    assert len(seen) == 1
    expected = np.zeros((6, 5))
    expected[:, [1, 3, 4]] = counts[:, [3, 2, 0]]
    np.testing.assert_array_equal(dense(aligned), expected)


@pytest.mark.parametrize("container", CONTAINERS)
def test_fill_values_one_per_gene(container, counts):
    with pytest.warns(UserWarning, match="missing"):
        aligned = align_genes(
            container(counts), list("abcd"), list("axby"), fill_value=[9, 0.5, 9, 2.0]
        )
    expected = np.column_stack([counts[:, 0], np.full(6, 0.5), counts[:, 1], np.full(6, 2.0)])
    np.testing.assert_array_equal(dense(aligned), expected)
    assert aligned.dtype == np.float64


def test_sparse_stays_sparse_of_its_kind_and_dtype(counts):
    X = sparse.csr_array(counts.astype(np.float32))
    aligned = align_genes(X, list("abcd"), list("db"))
    assert isinstance(aligned, sparse.csr_array)
    assert aligned.dtype == np.float32
    assert aligned.has_canonical_format


def test_input_is_left_alone(counts):
    X = sparse.csr_matrix(counts)
    before = X.copy()
    with pytest.warns(UserWarning, match="missing"):
        align_genes(X, list("abcd"), list("dxb"))
    assert (before != X).nnz == 0


def test_equal_names_return_the_data_as_they_are(counts):
    X = sparse.csr_matrix(counts)
    assert align_genes(X, list("abcd"), np.array(list("abcd"), dtype=object)) is X


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_dense_and_sparse_agree_and_match_by_name(data):
    names = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)
    genes, reference = data.draw(names), data.draw(names)
    X = np.random.default_rng(0).poisson(0.7, size=(3, len(genes)))
    common = set(genes) & set(reference)
    if not common:
        with pytest.raises(ValueError, match="only 0"):
            align_genes(X, genes, reference, min_share=0)
        return

    def align(X):
        if len(common) == len(reference):
            return align_genes(X, genes, reference, min_share=0)
        with pytest.warns(UserWarning, match="missing"):
            return align_genes(X, genes, reference, min_share=0)

    expected = np.stack(
        [X[:, genes.index(g)] if g in common else np.zeros(3) for g in reference], axis=1
    )
    np.testing.assert_array_equal(align(X), expected)
    np.testing.assert_array_equal(align(sparse.csr_matrix(X)).toarray(), expected)


def test_too_few_in_common_names_some_of_each(counts):
    with pytest.raises(ValueError, match=r"only 1 of the reference's 4 genes.*b, c, e.*a, x, y"):
        align_genes(counts[:, :3], ["a", "x", "y"], ["a", "b", "c", "e"])


def test_case_that_differs_is_pointed_out(counts):
    with pytest.raises(ValueError, match="3 would match regardless of case"):
        align_genes(counts, ["GAD1", "SST", "MBP", "VIP"], ["Gad1", "Sst", "Mbp"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((list("abca"), list("ab")), r"genes has 1 name\(s\) more than once \(a\)"),
        ((list("abcd"), list("aab")), "reference_genes has 1 name"),
        ((list("abc"), list("ab")), "genes has 3 names but X has 4 columns"),
        ((list("abcd"), []), "reference_genes must be a non-empty list"),
        (("abcd", list("ab")), "genes must be a non-empty list"),
    ],
)
def test_bad_names(counts, arguments, message):
    with pytest.raises(ValueError, match=message):
        align_genes(counts, *arguments)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"min_share": 2}, "min_share"), ({"fill_value": [0, 0, 0]}, "fill_value")],
)
def test_bad_settings(counts, setting, message):
    with pytest.raises(ValueError, match=message):
        align_genes(counts, list("abcd"), list("ab"), **setting)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "a-1", "a-2", "b-1"]), max_size=8))
def test_made_unique_like_anndata(names):
    anndata_utils = pytest.importorskip("anndata.utils")
    pandas = pytest.importorskip("pandas")
    import warnings

    unique, repeated = make_unique(names)
    assert len(set(unique.tolist())) == len(names)
    assert set(repeated) == {name for name in names if names.count(name) > 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = anndata_utils.make_index_unique(pandas.Index(names, dtype=object))
    assert unique.tolist() == expected.tolist()
