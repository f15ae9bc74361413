"""Library sizes and log-normalization: the one implementation, and the network's in torch."""

import numpy as np
import pytest
import torch
from scipy import sparse

from sklearn_dpvae._network.dpvae import StandardizedCounts
from sklearn_dpvae._utils.counts import (
    kind_of_values,
    library_sizes,
    log_normalize,
    median_library_size,
)
from sklearn_dpvae.preprocessing import LogNormalizer

CONTAINERS = [np.asarray, np.asfortranarray, sparse.csr_matrix, sparse.csr_array]


@pytest.fixture
def counts():
    counts = np.random.default_rng(0).poisson(2.0, size=(7, 5)).astype(np.float32)
    counts *= np.arange(1, 8, dtype=np.float32)[:, None]
    counts[2] = 0
    return counts


def dense(X):
    return X.toarray() if sparse.issparse(X) else X


def by_hand(counts, target):
    """Cell by cell, and without a division for cells of nothing."""
    rows = []
    for row in counts.astype(np.float64):
        total = row.sum()
        rows.append([np.log(1 + x * target / total) if total else 0.0 for x in row])
    return np.array(rows)


@pytest.mark.parametrize("container", CONTAINERS)
def test_library_sizes(counts, container):
    sizes = library_sizes(container(counts))
    np.testing.assert_array_equal(sizes, [sum(row) for row in counts.tolist()])
    assert sizes.dtype == np.float64
    # An empty cell is not one of the cells whose median is taken.
    assert median_library_size(container(counts)) == np.median(np.delete(sizes, 2))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("target", [None, 100.0])
def test_log_normalize_is_its_formula(counts, container, target):
    given = container(counts)
    result = log_normalize(given, target)
    expected = by_hand(counts, target or median_library_size(counts))
    np.testing.assert_allclose(dense(result), expected, rtol=1e-6)
    assert result.dtype == np.float32
    assert sparse.issparse(result) == sparse.issparse(given)
    np.testing.assert_array_equal(dense(given), counts)


@pytest.mark.parametrize("container", CONTAINERS)
def test_log_normalize_in_place(counts, container):
    given = container(counts.copy())
    expected = log_normalize(given)
    assert log_normalize(given, copy=False) is given
    np.testing.assert_array_equal(dense(given), dense(expected))


def test_entries_stored_twice_are_one_count(counts):
    twice = sparse.csr_matrix(
        (np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2)
    )
    np.testing.assert_allclose(log_normalize(twice, 6.0).toarray(), np.log1p([[3.0, 3.0]]))
    assert twice.nnz == 3


@pytest.mark.parametrize("container", CONTAINERS)
def test_three_ways_are_one(counts, container):
    """The function, the estimator and the first layer of the network agree."""
    given = container(counts)
    expected = dense(log_normalize(given))
    found = LogNormalizer().fit_transform(given)
    np.testing.assert_array_equal(dense(found), expected)

    layer = StandardizedCounts(5)
    layer.start_at(median_library_size(given), np.zeros(5), np.ones(5))
    in_torch = layer(torch.as_tensor(counts)).numpy()
    np.testing.assert_allclose(in_torch, expected, rtol=1e-6)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kinds_of_values(container, dtype):
    rng = np.random.default_rng(0)
    raw = rng.negative_binomial(1, 0.4, size=(50, 60)).astype(dtype)
    logged = np.log1p(raw / raw.sum(axis=1, keepdims=True) * 1e4).astype(dtype)
    corrected = (raw * rng.uniform(0.8, 1.0, size=raw.shape)).astype(dtype)
    halves = np.round(corrected * 2) / 2 + (raw == 3) / 2
    corrected_logged = np.log1p(corrected / corrected.sum(axis=1, keepdims=True) * 1e4)
    expected = {
        "counts": [raw, raw[:1], np.zeros((3, 2), dtype=dtype)],
        # Also of some genes only, or of a single cell, and of fractions.
        "logarithms": [logged, logged[:, :30], logged[:1], corrected_logged.astype(dtype)],
        "fractions": [
            corrected,
            halves,
            rng.uniform(size=(50, 60)).astype(dtype),
            raw / raw.sum(axis=1, keepdims=True),
            np.full((20, 5), 0.5, dtype=dtype),
        ],
    }
    for kind, arrays in expected.items():
        for number, array in enumerate(arrays):
            assert kind_of_values(container(array)) == kind, (kind, number)


def test_values_that_are_not_finite_are_no_counts():
    for value in (np.nan, np.inf):
        assert kind_of_values(np.array([[value, 0.5], [1.0, 2.0]])) == "fractions"
