"""Spatial blocks: a partition into balanced, contiguous pieces with a gap around each."""

import pickle

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.neighbors import KNeighborsRegressor

from sklearn_dpvae.metrics import ProcrustesScorer
from sklearn_dpvae.model_selection import SpatialBlockKFold

GRID = np.argwhere(np.ones((20, 15))) * 1.0


def folds_of(splitter, coords, groups=None):
    """Fold that tests each row."""
    folds = np.full(len(coords), -1)
    for fold, (_, test) in enumerate(splitter.split(None, coords, groups)):
        assert (folds[test] == -1).all()
        folds[test] = fold
    return folds


def separable(a, b):
    """Whether some hyperplane has all of `a` on one side and all of `b` on the other."""
    n_dims = a.shape[1]
    center, unit = a.mean(axis=0), np.abs(a).max()
    a, b = (a - center) / unit, (b - center) / unit
    # w x + v <= -1 on a and >= 1 on b.
    left = np.vstack([np.c_[a, np.ones(len(a))], -np.c_[b, np.ones(len(b))]])
    bounds = [(None, None)] * (n_dims + 1)
    return linprog(np.zeros(n_dims + 1), left, -np.ones(len(left)), bounds=bounds).status == 0


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    n_samples=st.integers(20, 150),
    n_dims=st.integers(1, 3),
    n_splits=st.integers(2, 7),
    random=st.booleans(),
)
def test_blocks_are_a_balanced_partition_into_convex_pieces(
    seed, n_samples, n_dims, n_splits, random
):
    rng = np.random.default_rng(seed)
    coords = rng.normal(size=(n_samples, n_dims)) * rng.uniform(1, 5, size=n_dims) * 1000
    splitter = SpatialBlockKFold(n_splits, random_state=seed if random else None)
    folds = folds_of(splitter, coords)

    sizes = np.bincount(folds, minlength=n_splits)
    assert folds.min() >= 0
    assert np.ptp(sizes) <= 2
    for first in range(n_splits):
        for second in range(first):
            assert separable(coords[folds == first], coords[folds == second])


@pytest.mark.parametrize("random_state", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_blocks_of_a_grid_are_connected(random_state, angle):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    coords = 0.1 * GRID @ rotation
    folds = folds_of(SpatialBlockKFold(5, random_state=random_state), coords)
    assert_array_equal(np.bincount(folds), 60)
    for fold in range(5):
        block = coords[folds == fold]
        near = cdist(block, block) < 0.15
        reached = np.zeros(len(block), dtype=bool)
        reached[0] = True
        for _ in range(len(block)):
            reached |= near[reached].any(axis=0)
        assert reached.all()


def test_train_and_test_are_complements_without_a_buffer():
    for train, test in SpatialBlockKFold(4).split(None, GRID):
        assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(GRID)))
        assert_array_equal(train, np.sort(train))


def test_cells_at_one_position_stay_together():
    rng = np.random.default_rng(0)
    coords = rng.integers(6, size=(400, 2)).astype(float)
    coords[:60] = coords[0]
    for random_state in (None, 0, 1):
        folds = folds_of(SpatialBlockKFold(5, random_state=random_state), coords)
        _, spot = np.unique(coords, axis=0, return_inverse=True)
        for s in range(spot.max() + 1):
            assert len(np.unique(folds[spot.ravel() == s])) == 1
        assert len(np.unique(folds)) == 5


@pytest.mark.parametrize("buffer", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("random_state", [None, 7])
def test_a_buffer_of_distance_leaves_out_just_what_is_within_it(buffer, random_state):
    plain = SpatialBlockKFold(5, random_state=random_state).split(None, GRID)
    splitter = SpatialBlockKFold(5, buffer=buffer, random_state=random_state)
    for (train, test), (whole, same_test) in zip(splitter.split(None, GRID), plain, strict=True):
        assert_array_equal(test, same_test)
        far = cdist(GRID[whole], GRID[test]).min(axis=1) > buffer
        assert_array_equal(train, whole[far])
        assert len(train) < len(whole)


@pytest.mark.parametrize("buffer", [1, 4, 12])
def test_a_buffer_of_neighbors_leaves_out_just_the_nearest(buffer):
    rng = np.random.default_rng(1)
    coords = rng.uniform(size=(120, 2)) * 1e4
    distances = cdist(coords, coords)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :buffer]
    splitter = SpatialBlockKFold(4, buffer=buffer, buffer_unit="neighbors")
    for train, test in splitter.split(None, coords):
        expected = np.setdiff1d(np.arange(120), np.r_[test, nearest[test].ravel()])
        assert_array_equal(train, expected)


def test_each_section_is_cut_on_its_own():
    rng = np.random.default_rng(2)
    sizes = [50, 80, 31]
    sections = np.repeat(["a", "b", "c"], sizes)
    coords = rng.uniform(size=(161, 2))
    # All sections lie in the same place, and in different units.
    coords[sections == "b"] *= 1000
    order = rng.permutation(161)
    coords, sections = coords[order], sections[order]

    splitter = SpatialBlockKFold(5, random_state=0)
    folds = folds_of(splitter, coords, sections)
    for label, size in zip("abc", sizes, strict=True):
        counts = np.bincount(folds[sections == label], minlength=5)
        assert counts.min() >= size // 5 - 1
        assert counts.max() <= size // 5 + 2
        part = coords[sections == label], folds[sections == label]
        assert separable(part[0][part[1] == 0], part[0][part[1] == 1])
    # A buffer keeps cells of other sections, wherever they lie.
    for train, test in SpatialBlockKFold(5, buffer=0.2).split(None, coords, sections):
        distances = cdist(coords[train], coords[test])
        same = sections[train][:, None] == sections[test]
        assert distances[same].min() > 0.2
        assert distances[~same].min() < 0.2


def test_sections_and_groups_are_two_names_of_one_thing():
    sections = np.repeat(["a", "b"], 150)
    splitter = SpatialBlockKFold(3, buffer=1.0)
    by_groups = list(splitter.split(None, GRID, sections))
    by_sections = list(splitter.split(None, GRID, sections=sections))
    by_both = list(splitter.split(None, GRID, groups=sections == "a", sections=sections))
    for one, two, three in zip(by_groups, by_sections, by_both, strict=True):
        for i in (0, 1):
            assert_array_equal(one[i], two[i])
            assert_array_equal(one[i], three[i])
    with pytest.raises(ValueError, match="groups and sections divide the rows differently"):
        next(splitter.split(None, GRID, groups=np.roll(sections, 1), sections=sections))
    with pytest.raises(ValueError, match="groups and sections divide the rows differently"):
        next(splitter.split(None, GRID, groups=np.arange(300) // 75, sections=sections))


@pytest.mark.parametrize("random_state", [None, 0])
def test_several_blocks_per_fold(random_state):
    splitter = SpatialBlockKFold(3, blocks_per_fold=4, random_state=random_state)
    folds = folds_of(splitter, GRID)
    assert_array_equal(np.bincount(folds), 100)
    # More blocks have more border.
    near = cdist(GRID, GRID) < 1.1
    crossing = near[folds[:, None] != folds].sum()
    single = folds_of(SpatialBlockKFold(3, random_state=random_state), GRID)
    assert crossing > near[single[:, None] != single].sum()


def test_folds_follow_the_seed():
    same = [folds_of(SpatialBlockKFold(5, random_state=3), GRID) for _ in range(2)]
    assert_array_equal(*same)
    default = [folds_of(SpatialBlockKFold(5), GRID) for _ in range(2)]
    assert_array_equal(*default)
    others = [folds_of(SpatialBlockKFold(5, random_state=s), GRID) for s in range(4)]
    assert len({tuple(folds) for folds in others}) == 4
    # A generator moves on from call to call, as in scikit-learn's splitters.
    splitter = SpatialBlockKFold(5, random_state=np.random.RandomState(0))
    assert (folds_of(splitter, GRID) != folds_of(splitter, GRID)).any()


def test_long_tissue_is_cut_across():
    coords = np.argwhere(np.ones((60, 4))) * 1.0
    for random_state in (None, 0, 1):
        folds = folds_of(SpatialBlockKFold(4, random_state=random_state), coords)
        lengths = [np.ptp(coords[folds == fold, 0]) for fold in range(4)]
        assert max(lengths) < 25


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e12, 1e200])
def test_units_do_not_matter(scale):
    assert_array_equal(
        folds_of(SpatialBlockKFold(5), scale * GRID), folds_of(SpatialBlockKFold(5), GRID)
    )


def test_blocks_are_harder_than_random_folds():
    rng = np.random.default_rng(4)
    coords = rng.uniform(size=(400, 2))
    X = np.c_[np.sin(3 * coords), np.cos(3 * coords)] + 0.05 * rng.normal(size=(400, 4))
    model, scorer = KNeighborsRegressor(), ProcrustesScorer()
    scores = [
        cross_val_score(model, X, coords, cv=cv, scoring=scorer).mean()
        for cv in (
            KFold(5, shuffle=True, random_state=0),
            SpatialBlockKFold(5),
            SpatialBlockKFold(5, buffer=0.1),
        )
    ]
    assert scores[0] > scores[1] > scores[2]


def test_in_searches_with_routing_off_and_on():
    rng = np.random.default_rng(5)
    sections = np.repeat(["a", "b"], 150)
    X = GRID @ rng.normal(size=(2, 5)) + rng.normal(size=(300, 5))
    cv = SpatialBlockKFold(3, buffer=1, buffer_unit="neighbors", random_state=0)
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=cv, scoring=ProcrustesScorer())
    search.fit(X, GRID, groups=sections)
    assert search.n_splits_ == 3
    expected = [
        Ridge().fit(X[train], GRID[train]).score(X[test], GRID[test])
        for train, test in cv.split(X, GRID, sections)
    ]
    plain = cross_validate(Ridge(), X, GRID, groups=sections, cv=cv)["test_score"]
    np.testing.assert_allclose(plain, expected)
    with sklearn.config_context(enable_metadata_routing=True):
        for name in ("groups", "sections"):
            results = cross_validate(Ridge(), X, GRID, params={name: sections}, cv=cv)
            np.testing.assert_allclose(results["test_score"], expected)
        search.fit(X, GRID, sections=sections)
        cross_validate(Ridge(), X, GRID, cv=cv)


def test_frames_lists_float32_and_one_dimension():
    pd = pytest.importorskip("pandas")
    expected = folds_of(SpatialBlockKFold(4), GRID)
    assert_array_equal(folds_of(SpatialBlockKFold(4), pd.DataFrame(GRID)), expected)
    assert_array_equal(folds_of(SpatialBlockKFold(4), GRID.tolist()), expected)
    assert_array_equal(folds_of(SpatialBlockKFold(4), GRID.astype(np.float32)), expected)
    assert_array_equal(folds_of(SpatialBlockKFold(3), np.arange(6)), [0, 0, 1, 1, 2, 2])


def test_as_many_blocks_as_positions():
    coords = np.random.default_rng(6).normal(size=(7, 2))
    assert_array_equal(np.sort(folds_of(SpatialBlockKFold(7), coords)), np.arange(7))


def test_repr_pickle_and_number_of_splits():
    splitter = SpatialBlockKFold(4, buffer=3.0, random_state=1)
    assert splitter.get_n_splits() == splitter.get_n_splits(GRID, GRID) == 4
    assert "SpatialBlockKFold(" in repr(splitter)
    assert "buffer=3.0" in repr(splitter)
    again = pickle.loads(pickle.dumps(splitter))
    assert_array_equal(folds_of(again, GRID), folds_of(splitter, GRID))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_splits": 1}, ValueError, "n_splits == 1"),
        ({"n_splits": 2.5}, TypeError, "n_splits must be an instance of int"),
        ({"blocks_per_fold": 0}, ValueError, "blocks_per_fold == 0"),
        ({"buffer": -1.0}, ValueError, "buffer == -1.0"),
        ({"buffer": 1.5, "buffer_unit": "neighbors"}, TypeError, "buffer must be an instance"),
        ({"buffer_unit": "spots"}, ValueError, "buffer_unit must be"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        SpatialBlockKFold(**parameters)


def test_bad_positions():
    splitter = SpatialBlockKFold(3)
    with pytest.raises(ValueError, match=r"y is None\. Pass the coordinates as y"):
        next(splitter.split(GRID))
    with pytest.raises(ValueError, match="NaN"):
        next(splitter.split(None, np.where(GRID > 0, GRID, np.nan)))
    with pytest.raises(ValueError, match="sections has 2 labels"):
        next(splitter.split(None, GRID, groups=["a", "b"]))
    with pytest.raises(ValueError, match=r"section 'b' has 2 distinct position\(s\).*into 3"):
        next(splitter.split(None, GRID[:8], groups=list("aaaaaabb")))
    with pytest.raises(ValueError, match="leaves no training cells in fold 0 of 3"):
        next(SpatialBlockKFold(3, buffer=100.0).split(None, GRID))
