"""Whether cells are of a part of the tissue that the reference lacks."""

import numpy as np
import pytest

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae._fitted.novelty import Novelty, above_half
from sklearn_dpvae.datasets import make_tissue


def simulated(rng, n_cells=1500, width=0.15):
    """Features that tell the place but for noise of some width, places, and what a map says."""
    coords = rng.uniform(-1, 1, (n_cells, 2)) * [2, 1]
    # Ten times as dense on one half.
    coords = coords[(coords[:, 0] > 0) | (rng.uniform(size=n_cells) < 0.1)]
    features = coords + width * rng.normal(size=coords.shape)
    # A mean over where a cell may be is within the tissue.
    return features, coords, np.clip(features, [-2, -1], [2, 1])


def novelty_of(known, new):
    """How new simulated cells are to others, all of them of one section."""
    codes = [np.zeros(len(cells[1]), dtype=np.int64) for cells in (known, new)]
    return Novelty(known[0], known[1], codes[0], known[2]).of(new[0], new[2], codes[1])


def rows(cells, which):
    return tuple(values[which] for values in cells)


def is_in_hole(coords):
    return np.linalg.norm(coords - [1, 0], axis=1) < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_random_cells_are_not_new(seed):
    rng = np.random.RandomState(seed)
    cells = simulated(rng)
    new = rng.uniform(size=len(cells[1])) < 0.2
    assert novelty_of(rows(cells, ~new), rows(cells, new)) < 0.2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("part", ["half", "sparse", "dense"])
def test_positions_of_a_known_part_are_not_new(seed, part):
    """Be it with few cells, which are far from each other, or with many."""
    rng = np.random.RandomState(seed)
    known, new = simulated(rng), simulated(rng)
    x, y = new[1].T
    new = rows(new, {"half": y > 0, "sparse": x < 0, "dense": x > 0}[part])
    novelty = Novelty(known[0], known[1], np.zeros(len(known[0]), dtype=np.int64), known[2])
    # Features of the sparse part are rare, and so farther from the nearest ones.
    novelty._far[:] = np.inf
    assert novelty.of(new[0], new[2], np.zeros(len(new[0]), dtype=np.int64)) < 0.4


@pytest.mark.parametrize("seed", range(5))
def test_cells_of_a_missing_part_are_new(seed):
    rng = np.random.RandomState(seed)
    cells = simulated(rng)
    hole = is_in_hole(cells[1])
    known, new = rows(cells, ~hole), rows(cells, hole)
    assert novelty_of(known, new) == 1
    # Either sign alone tells it, and nothing without both.
    silent = 1e-3 * rng.normal(size=new[0].shape), 1e-3 * rng.normal(size=known[0].shape)
    elsewhere = known[2][rng.randint(len(known[2]), size=len(new[2]))]
    of_features = novelty_of(known, (new[0], new[1], elsewhere))
    of_places = novelty_of((silent[1], *known[1:]), (silent[0], *new[1:]))
    neither = novelty_of((silent[1], *known[1:]), (silent[0], new[1], elsewhere))
    assert neither < min(0.4, of_features, of_places)
    assert of_features > 0.4
    assert of_places == 1


def test_a_few_cells_do_not_tell():
    cells = simulated(np.random.RandomState(0))
    hole = np.flatnonzero(is_in_hole(cells[1]))
    known = rows(cells, np.setdiff1d(np.arange(len(cells[1])), hole))
    assert novelty_of(known, rows(cells, hole[:19])) == 0
    assert novelty_of(known, rows(cells, hole[:40])) == 1


def test_each_section_is_compared_with_its_own_places():
    """What one section lacks is missing, though another section has cells there."""
    rng = np.random.RandomState(0)
    both = [np.vstack(values) for values in zip(simulated(rng), simulated(rng), strict=True)]
    features, coords, placed = both
    features = 1e-3 * rng.normal(size=features.shape)
    codes = np.arange(len(coords)) // (len(coords) // 2 + 1)
    hole = is_in_hole(coords) & (codes == 0)
    novelty = Novelty(features[~hole], coords[~hole], codes[~hole], placed[~hole])
    assert novelty.of(features[hole], placed[hole], codes[hole]) == 1
    assert novelty.of(features[hole], placed[hole], codes[hole] + 1) < 0.2


def test_sections_of_a_few_cells_lack_no_part():
    coords = np.random.RandomState(0).normal(size=(6, 2))
    known = Novelty(coords, coords, np.zeros(6, dtype=np.int64), coords)
    new = coords.repeat(5, axis=0)
    assert known.of(new, 100 + new, np.zeros(30, dtype=np.int64)) == 0


def test_several_cells_at_one_place():
    coords = np.repeat(np.random.RandomState(0).normal(size=(10, 2)), 10, axis=0)
    known = Novelty(coords, coords, np.zeros(100, dtype=np.int64), coords)
    with np.errstate(all="raise"):
        assert known.of(coords, coords, np.zeros(100, dtype=np.int64)) == 0


def test_chance_alone_is_not_above_half():
    """The mean rank of cells like the known ones is above the bound as often as it should be."""
    rng = np.random.RandomState(0)
    above = [above_half(rng.uniform(size=50)) > 0 for _ in range(2000)]
    # A normal number is above 1.25 as often.
    assert np.mean(above) == pytest.approx(0.106, abs=0.02)


def test_a_part_that_is_missing_in_one_section_is_placed_with_wider_radii():
    tissue = make_tissue(1200, 200, n_sections=2, random_state=0)
    label = np.unique(tissue.sections)[0]
    middle = tissue.coords[tissue.sections == label].mean(axis=0)
    far = np.linalg.norm(tissue.coords - middle, axis=1)
    hole = (tissue.sections == label) & (far < np.quantile(far, 0.15))
    model = make_spatial_pipeline(
        n_estimators=5, hidden_layer_sizes=(32,), max_epochs=60, random_state=0
    ).fit(tissue.X[~hole], tissue.coords[~hole], sections=tissue.sections[~hole])
    X = tissue.X[hole]
    assert X.shape[0] > 100
    own, other = (
        model.predict_radius(X, sections=np.repeat(name, X.shape[0]), level=0.8)
        for name in np.unique(tissue.sections)
    )
    assert np.median(own / other) > 1.2
