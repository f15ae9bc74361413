"""Alignment of genes by name, dense and sparse alike."""

import warnings

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
        align_genes(counts[:, :3], ["a", "x", "y"], ["a", "b", "c", "e"], min_share=0.5)


REFERENCE = ["Gad1", "Sst", "Mbp", "H2-K1"]
ENSEMBL = ["ENSMUSG00000000001", "ENSMUSG00000000002", "ENSMUSG00000000003", "ENSMUSG00000000004"]


@pytest.mark.parametrize(
    ("query", "reference"),
    [
        (["GAD1", "SST", "MBP", "H2-K1"], REFERENCE),
        (["Gad1 ", "Sst", " Mbp", "H2_K1"], REFERENCE),
        (["mm10___Gad1", "mm10___Sst", "mm10___Mbp", "mm10___H2-K1"], REFERENCE),
        ([f"{name}.{i}" for i, name in enumerate(ENSEMBL)], ENSEMBL),
        (ENSEMBL, [f"{name}.7" for name in ENSEMBL]),
        ([f"{name}.3" for name in ENSEMBL], [f"{name}.{i + 2}" for i, name in enumerate(ENSEMBL)]),
    ],
)
def test_names_that_are_spelled_differently_match_with_a_warning(counts, query, reference):
    order = [2, 0, 3, 1]
    with pytest.warns(UserWarning, match="spelled differently") as seen:
        found = align_genes(counts[:, order], np.array(query)[order], reference)
    np.testing.assert_array_equal(found, counts)
    assert len(seen) == 1
    assert "missing" not in str(seen[0].message)


def test_an_ambiguous_spelling_matches_nothing(counts):
    """SST may be Sst or sst, and Sst itself is there."""
    with pytest.warns(UserWarning, match="1 of the reference's 3 genes are missing.*: SST"):
        found = align_genes(counts, ["Gad1", "Sst", "sst", "Vip"], ["SST", "Gad1", "Vip"])
    np.testing.assert_array_equal(found, np.column_stack([0 * counts[:, 0], counts[:, [0, 3]]]))


def test_identifiers_tell_genes_of_one_symbol_apart(counts):
    """The order of the two TBCE is another one in the query."""
    names, ids = ["TBCE", "TBCE-1", "Sst", "Gad1"], ["E1", "E2", "E3", "E4"]
    order = [1, 0, 3, 2]
    their_names = ["TBCE", "TBCE-1", "Gad1", "Sst"]
    theirs = np.array(ids)[order]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = align_genes(
            counts[:, order], their_names, names, gene_ids=theirs, reference_ids=ids
        )
    np.testing.assert_array_equal(found, counts)
    with pytest.warns(UserWarning, match=r"2 names stand for.* \(TBCE, TBCE-1\), and were not"):
        found = align_genes(counts[:, order], their_names, names)
    np.testing.assert_array_equal(found, counts * [0, 0, 1, 1])
    with pytest.warns(UserWarning, match=r"2 names stand for .* matched by their place"):
        align_genes(counts, names, names)
    # What only looks like a number at the end is a name.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        align_genes(counts, ["NKX2-1", "NKX2-5", "a", "b"], ["NKX2-5", "NKX2-1"])


def test_names_match_identifiers_with_a_warning(counts):
    with pytest.warns(UserWarning, match="4 genes were matched by the identifiers of the query"):
        found = align_genes(counts, ENSEMBL, REFERENCE[::-1], gene_ids=REFERENCE)
    np.testing.assert_array_equal(found, counts[:, ::-1])
    with pytest.warns(UserWarning, match="by the names of the query as the identifiers"):
        found = align_genes(counts, ENSEMBL, REFERENCE, reference_ids=ENSEMBL)
    np.testing.assert_array_equal(found, counts)


def test_dates_of_a_spreadsheet_are_named(counts):
    with pytest.warns(UserWarning, match=r"2 names of the query look like dates.*2-Sep, 1-Mar"):
        align_genes(counts, ["2-Sep", "1-Mar", "a", "b"], ["Sept2", "March1", "a", "b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((list("abca"), list("ab")), r"genes has 1 name\(s\) more than once \(a\)"),
        ((list("abcd"), list("aab")), "reference_genes has 1 name"),
        ((list("abc"), list("ab")), "genes has 3 names but X has 4 columns"),
        ((list("abcd"), list("ab"), ["one"]), r"gene_ids has shape \(1,\), but there are 4"),
        ((list("abcd"), []), "reference_genes must be a non-empty list"),
        (("abcd", list("ab")), "genes must be a non-empty list"),
    ],
)
def test_bad_names(counts, arguments, message):
    with pytest.raises(ValueError, match=message):
        align_genes(counts, *arguments[:2], gene_ids=next(iter(arguments[2:]), None))


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

    unique, repeated = make_unique(names)
    assert len(set(unique.tolist())) == len(names)
    assert set(repeated) == {name for name in names if names.count(name) > 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = anndata_utils.make_index_unique(pandas.Index(names, dtype=object))
    assert unique.tolist() == expected.tolist()
