"""The loop around the steps of SMACOF: when it stops, and how it takes momentum."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from smacof_problems import plain_stress

from sklearn_dpvae.reconstruction import anchored_smacof
from sklearn_dpvae.reconstruction._majorize import majorize, majorize_twice


class Scripted:
    """A majorizer whose stress follows a script wherever the points are.

    A step moves its one point by 1.
    """

    def __init__(self, stresses):
        self.stresses = iter(stresses)
        self.fixed = torch.empty((0, 1), dtype=torch.float64)
        self.visited = []

    def evaluate(self, points):
        self.visited.append(float(points))
        return next(self.stresses), points

    def step(self, points, product):
        return points + 1.0


def run(stresses, dtype=torch.float64, **options):
    majorizer = Scripted(stresses)
    found = majorize(majorizer, torch.zeros((1, 1), dtype=dtype), **options)
    return found, majorizer.visited


def test_momentum_stops_after_two_quiet_passes_in_a_row():
    stresses = [100.0, 99.9999, 50.0, 49.9999, 49.9998, 20.0, 10.0]
    found, _ = run(stresses)
    assert found.history == stresses[:5]
    assert found.n_iter == 4


def test_plain_steps_stop_after_one_quiet_pass():
    found, _ = run([100.0, 80.0, 79.9999, 50.0], accelerate=False)
    assert found.history == [100.0, 80.0, 79.9999]


def test_a_fall_of_just_eps_is_quiet():
    found, _ = run([100.0, 75.0, 10.0], accelerate=False, eps=0.25)
    assert found.history == [100.0, 75.0]
    # The same stress twice is quiet for eps=0, too.
    found, _ = run([100.0, 75.0, 75.0, 75.0, 10.0], eps=0.0)
    assert found.history == [100.0, 75.0, 75.0, 75.0]


def test_momentum_follows_nesterov():
    found, visited = run([9.0, 8.0, 7.0, 6.0, 5.0, 4.0], max_iter=5)
    point, last, t = 0.0, None, 1.0
    expected = [point]
    for _ in range(5):
        image = point + 1.0
        point = image
        if last is not None:
            longer = (1 + math.sqrt(1 + 4 * t**2)) / 2
            point, t = image + (t - 1) / longer * (image - last), longer
        last = image
        expected.append(point)
    np.testing.assert_allclose(visited, expected)
    assert expected[-1] > 6
    assert float(found.points) == pytest.approx(expected[-1])


def test_a_higher_stress_takes_the_plain_step_and_starts_the_momentum_again():
    # The third step carries momentum, raises the stress and is taken back.
    found, visited = run([9.0, 8.0, 7.0, 7.5, 6.0, 5.0, 4.0], max_iter=6)
    assert found.history == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    assert found.n_iter == 6
    assert visited[4] == 3.0 < visited[3]
    # As after the first step: no momentum, then that of the second.
    assert visited[5] == 4.0
    assert visited[6] == pytest.approx(5.0 + (visited[3] - 3.0))


def test_the_last_pass_is_not_spent_twice():
    found, visited = run([9.0, 8.0, 7.0, 7.5, 6.0], max_iter=3)
    assert found.history == [9.0, 8.0, 7.0]
    assert (found.n_iter, len(visited)) == (3, 4)
    assert float(found.points) == 2.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_stress_that_is_not_finite_is_refused(bad):
    found, _ = run([9.0, 8.0, bad, bad])
    assert found.history == [9.0, 8.0]
    assert float(found.points) == 1.0


def test_max_iter_is_the_number_of_passes():
    found, visited = run([9.0, 8.0, 7.0, 6.0], max_iter=2)
    assert (found.n_iter, len(visited)) == (2, 3)


def run_twice(rough, fine, **options):
    rough, fine = Scripted(rough), Scripted(fine)
    found = majorize_twice(rough, fine, torch.zeros((1, 1), dtype=torch.float64), **options)
    return found, len(rough.visited), len(fine.visited)


def test_float32_passes_count_and_their_history_falls():
    falling = [90.0, 80.0, 70.0, 60.0, 50.0, 49.9999, 49.9998]
    # In float64 the last point has a higher stress than the point before had in float32.
    found, n_rough, n_fine = run_twice(falling, [49.99995, 40.0, 39.9999, 39.9998, 1.0])
    assert found.history == [*falling[:5], 49.99995, 40.0, 39.9999, 39.9998]
    assert (n_rough, n_fine) == (7, 4)
    # The first evaluation of all is no pass; that of the point handed over is.
    assert found.n_iter == n_rough + n_fine - 1
    assert found.points.dtype == torch.float64


def test_float32_passes_stop_early():
    # A fall by 5e-5 of the stress is quiet in float32 even if eps asks for more.
    rough = [90.0, 80.0, 70.0, 60.0, 50.0, 49.998, 49.996, 1.0]
    found, n_rough, _ = run_twice(rough, [49.996, 40.0, 40.0, 40.0], eps=1e-9)
    assert n_rough == 7
    assert found.history[-1] == 40.0


def test_all_passes_together_are_no_more_than_max_iter():
    falling = [float(stress) for stress in range(100, 0, -1)]
    for max_iter in (1, 4, 5, 6, 10):
        found, n_rough, n_fine = run_twice(falling, falling, max_iter=max_iter)
        assert found.n_iter == max_iter
        assert n_fine >= 2
        assert found.history[-1] < found.history[0]
        assert n_rough + n_fine == max_iter + 1


def test_a_good_start_stays_in_float64():
    found, n_rough, _ = run_twice([9.0, 8.99999, 8.99998], [9.0, 8.5, 8.0, 8.0, 8.0])
    assert n_rough == 3
    assert found.history == [9.0, 8.5, 8.0, 8.0, 8.0]


# Rounding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e5])
def test_only_rounding_counts_as_an_exact_answer(size):
    rng = np.random.default_rng(0)
    tissue = size * rng.uniform(-1, 1, size=(40, 2))
    options = {"anchors": (np.arange(4), tissue[:4]), "scale": 1.0}
    exact = anchored_smacof(latents=tissue, init=tissue, **options)
    assert exact.n_iter == 0
    near = tissue + 1e-12 * size * rng.normal(size=tissue.shape)
    near[:4] = tissue[:4]
    started = plain_stress(near, squareform(pdist(tissue)))
    found = anchored_smacof(latents=tissue, init=near, **options)
    assert found.n_iter > 0
    assert found.stress < 0.1 * started
