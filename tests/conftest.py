"""Settings and data that all tests share."""

import pytest
import torch
from read_only import read_only
from sklearn.utils import Bunch

from sklearn_dpvae.datasets import make_tissue


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Start each test, and the fixtures it asks for, with one thread of torch.

    One is faster than several for nets this small, on a busy machine much faster. It is set
    again before each test, as numba (through scanpy) runs in the same OpenMP pool as torch and
    leaves its own number of threads there, and sums then differ in the last digits.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _tissue():
    tissue = make_tissue(n_cells=300, n_genes=60, n_sections=2, random_state=0)
    read_only(*tissue.values())
    return tissue


@pytest.fixture
def tissue(_tissue):
    """Two sections of 150 cells and 60 genes: X, coords, sections, genes, cell_types ..."""
    return Bunch(**{key: value.copy() for key, value in _tissue.items()})
