"""The Gaussian process on residuals, beside scikit-learn's."""

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from sklearn_dpvae._fitted.residual_field import ResidualField


def sample(n_points, seed=0):
    rng = np.random.default_rng(seed)
    view = rng.normal(size=(n_points, 2))
    field = np.column_stack([np.sin(view[:, 0]), np.cos(view[:, 1])])
    return view, field + 0.1 * rng.normal(size=field.shape)


def oracle(field):
    constant, variance, length, noise = np.exp(field.logs)
    kernel = (
        ConstantKernel(constant)
        + ConstantKernel(variance) * Matern(length, nu=1.5)
        + WhiteKernel(noise + 1e-8)
    )
    return GaussianProcessRegressor(kernel, optimizer=None)


def test_it_is_the_gaussian_process_of_its_hyperparameters():
    view, residuals = sample(60)
    new, _ = sample(20, seed=1)
    field = ResidualField.fit((view,), residuals, np.random.RandomState(0))
    mean, variance = field.predict((new,))
    expected, std = oracle(field).fit(view, residuals).predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    np.testing.assert_allclose(np.sqrt(variance), std[:, 0], rtol=1e-4)


def test_left_out_errors_are_those_of_fits_without_the_point():
    view, residuals = sample(25)
    field = ResidualField.fit((view,), residuals, np.random.RandomState(0))
    errors, variance = field.left_out()
    for k in (0, 7, 24):
        others = np.arange(25) != k
        alone = oracle(field).fit(view[others], residuals[others])
        mean, std = alone.predict(view[[k]], return_std=True)
        np.testing.assert_allclose(errors[k], residuals[k] - mean[0], atol=1e-5)
        np.testing.assert_allclose(np.sqrt(variance[k]), std[0, 0], rtol=1e-4)


def test_it_learns_a_field_and_finds_none_in_noise():
    view, residuals = sample(200)
    new, truth = sample(200, seed=1)
    rng = np.random.RandomState(0)
    mean, _ = ResidualField.fit((view,), residuals, rng).predict((new,))
    assert ((mean - truth) ** 2).mean() < 0.1 * (truth**2).mean()
    noise = rng.normal(size=residuals.shape)
    mean, variance = ResidualField.fit((view,), noise, rng).predict((new,))
    assert (mean**2).mean() < 0.1
    np.testing.assert_allclose(variance, 1, rtol=0.3)
