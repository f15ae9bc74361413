"""Random numbers of a fit: its own, whatever runs beside it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae._network.noise import Dropout
from sklearn_dpvae._network.random import generator_on, normal_like, own_generators, reseed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    coords = rng.normal(size=(150, 2))
    X = coords @ rng.normal(size=(2, 8)) + rng.normal(size=(150, 8))
    X.setflags(write=False)
    coords.setflags(write=False)
    return X, coords


def fit_and_predict(cells, seed=0):
    X, coords = cells
    model = DPVAESpatialRegressor(
        n_estimators=2, hidden_layer_sizes=(16,), max_epochs=10, random_state=seed
    )
    return model.fit(X, coords).predict(X)


def test_generators_belong_to_the_block():
    with own_generators(7, "cpu"):
        first = normal_like(torch.zeros(5))
        with own_generators(8, "cpu"):
            assert generator_on(CPU).initial_seed() == 8
        again = normal_like(torch.zeros(5))
    assert generator_on(CPU) is None
    # The block within did not draw from the one around it.
    with own_generators(7, "cpu"):
        torch.testing.assert_close(normal_like(torch.zeros(5)), first)
        torch.testing.assert_close(normal_like(torch.zeros(5)), again)


def test_a_shift_of_seeds_is_another_stream():
    with own_generators(7, "cpu"):
        reseed(2)
        shifted = normal_like(torch.zeros(5))
    with own_generators(9, "cpu"):
        torch.testing.assert_close(normal_like(torch.zeros(5)), shifted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_draws_from_the_block(dtype):
    layer, x = Dropout(0.4).train(), torch.ones(4000, dtype=dtype)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with own_generators(1, "cpu"):
        dropped = layer(x)
    assert_array_equal(torch.get_rng_state(), state)
    assert 0.35 < (dropped == 0).float().mean() < 0.45
    assert dropped.dtype == dtype
    kept = dropped[dropped != 0].float()
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.6), rtol=1e-2, atol=0)


def test_a_fit_leaves_the_global_generators_alone(cells):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit_and_predict(cells)
    assert_array_equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_the_global_generators_do_not_reach_a_fit(cells):
    torch.manual_seed(1)
    one = fit_and_predict(cells)
    torch.manual_seed(2)
    assert_array_equal(fit_and_predict(cells), one)


def test_fits_side_by_side_are_those_of_one_after_the_other(cells):
    """Six fits in four threads: torch's global generator would be drawn from in turns."""
    alone = [fit_and_predict(cells, seed) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: fit_and_predict(cells, seed), range(6)))
    for one, other in zip(alone, together, strict=True):
        assert_array_equal(one, other)
