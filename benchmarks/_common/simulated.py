"""Input of any size for measurements of cost."""

import numpy as np
import scipy.sparse as sp


def section(n_cells, n_genes, *, sparse=False, density=0.1, dtype=np.float32, seed=0):
    """Expression without meaning, of the shape and density asked for, and positions."""
    rng = np.random.default_rng(seed)
    coords = rng.uniform(size=(n_cells, 2))
    if not sparse:
        return rng.standard_normal((n_cells, n_genes), dtype=np.float32).astype(dtype), coords
    per_row = max(1, round(density * n_genes))
    indptr = np.arange(0, n_cells * per_row + 1, per_row)
    # One sorted column from each of `per_row` equal bins: distinct without sorting.
    edges = np.linspace(0, n_genes, per_row + 1).astype(np.int32)
    indices = rng.integers(edges[:-1], edges[1:], size=(n_cells, per_row), dtype=np.int32)
    values = rng.uniform(0.5, 2, size=n_cells * per_row).astype(dtype)
    return sp.csr_matrix((values, indices.ravel(), indptr), shape=(n_cells, n_genes)), coords
