"""Scores of distributions over places."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sklearn_dpvae.metrics import energy_score, place_coverage, place_log_score
from sklearn_dpvae.places import PlaceDistribution

GRID = 10.0 * np.stack(np.meshgrid(range(30), range(30)), axis=-1).reshape(-1, 2)


def normal(center, width, n_cells=1):
    """The same normal distribution for all cells, on a fine grid."""
    p = multivariate_normal(center, width**2 * np.eye(2)).pdf(GRID)
    return PlaceDistribution(np.tile(p / p.sum(), (n_cells, 1)), GRID)


def test_scores_are_proper():
    rng = np.random.default_rng(0)
    true = rng.normal([150, 150], 30, size=(400, 2))
    logs = [place_log_score(true, normal([150, 150], w, 400)) for w in (15, 30, 60)]
    energies = [energy_score(true, normal([150, 150], w, 400)) for w in (15, 30, 60)]
    assert np.argmax(logs) == 1
    assert np.argmin(energies) == 1
    assert place_log_score(true, normal([100, 150], 30, 400)) < logs[1]
    assert energy_score(true, normal([100, 150], 30, 400)) > energies[1]


def test_log_score_above_uniform_by_its_closed_form():
    # A normal distribution on places that are normal themselves is one of both variances.
    places = normal([150, 150], 30)
    density = multivariate_normal([150, 150], (30**2 + 10**2) * np.eye(2)).logpdf([160, 150])
    uniform = -2 * np.log(300)
    assert place_log_score([[160, 150]], places) == pytest.approx(density - uniform, abs=0.01)


def test_energy_score_by_its_definition():
    places = PlaceDistribution([[0.5, 0.5]], [[0.0, 0.0], [0.0, 8.0]])
    # 3 and sqrt(9 + 64) from the truth; samples are 8 apart half of the time.
    expected = (3 + np.sqrt(73)) / 2 - 0.5 * 4
    assert energy_score([[3.0, 0.0]], places, n_samples=5000) == pytest.approx(expected, abs=0.1)


def test_coverage_is_of_the_own_section():
    places = PlaceDistribution(
        [[0.9, 0.1, 0, 0], [0, 0, 0.9, 0.1]],
        [[0.0], [1.0], [0.0], [1.0]],
        sections=[0, 0, 1, 1],
        cell_sections=[0, 1],
    )
    assert place_coverage([0.1, 0.1], places, 0.5) == 1.0
    assert place_coverage([0.9, 0.1], places, 0.5) == 0.5
    assert place_coverage([0.9, 0.9], places, 0.95) == 1.0


@pytest.mark.parametrize("score", [place_log_score, energy_score])
def test_there_is_one_position_for_each_cell(score):
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(1, 2\) was expected"):
        score(np.zeros((2, 2)), normal([150, 150], 30))
