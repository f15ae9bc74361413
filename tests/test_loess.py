import numpy as np
import pytest

from sklearn_dpvae.feature_selection._loess import loess


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("span", [0.3, 0.75, 1.0])
def test_quadratics_are_their_own_smooth(rng, span):
    x = rng.normal(size=80)
    y = 1 - 3 * x + 2 * x**2
    np.testing.assert_allclose(loess(x, y, span), y, atol=1e-10)


def test_smooth_is_linear_in_y_and_equivariant_in_x(rng):
    x, y, z = rng.normal(size=(3, 120))
    np.testing.assert_allclose(loess(x, 2 * y - z), 2 * loess(x, y) - loess(x, z), atol=1e-10)
    np.testing.assert_allclose(loess(5 + 2 * x, y), loess(x, y), atol=1e-10)
    order = rng.permutation(120)
    np.testing.assert_allclose(loess(x[order], y[order]), loess(x, y)[order], atol=1e-10)


@pytest.mark.parametrize("n", [20, 57, 300, 2000])
@pytest.mark.parametrize("span", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_equal_to_the_reference_implementation(rng, n, span, ties):
    reference = pytest.importorskip("skmisc.loess").loess
    x = rng.normal(size=n)
    if ties and n > 20:
        x = x.round(1)
    y = np.sin(x) + rng.normal(scale=0.1, size=n)
    model = reference(x, y, span=span, degree=2)
    model.fit()
    np.testing.assert_allclose(loess(x, y, span), model.outputs.fitted_values, atol=1e-9)


def test_few_or_equal_points_do_not_break_it(rng):
    np.testing.assert_allclose(loess([1.0], [3.0]), [3.0])
    np.testing.assert_allclose(loess([1.0, 2.0], [3.0, 4.0]), [3.0, 4.0])
    np.testing.assert_allclose(loess(np.ones(30), np.arange(30.0)), 14.5)
    # More than a neighborhood at one point, which the reference implementation refuses.
    x = np.r_[np.zeros(50), np.linspace(1, 2, 10)]
    assert np.isfinite(loess(x, rng.normal(size=60))).all()
