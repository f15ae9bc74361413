"""How far a query is moved onto the reference: known shifts, parts of a tissue, and both."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sklearn_dpvae import SpatialModel, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler, _section_scaler
from sklearn_dpvae.preprocessing._query_shift import choose_share, differs

TISSUE = make_tissue(900, 80, random_state=0)
LOGS = LogNormalizer().fit_transform(TISSUE.X).toarray()
REFERENCE, QUERY = slice(0, 500), slice(500, 900)


@pytest.fixture(scope="module")
def scaler():
    return SectionScaler(query="auto").fit(LOGS[REFERENCE])


def other_chemistry(X, seed=0):
    """Each gene is measured in another unit, and with a background."""
    rng = np.random.default_rng(seed)
    return X * rng.uniform(0.5, 1.5, X.shape[1]) + rng.uniform(0, 1.5, X.shape[1])


def test_cells_of_the_same_section_stay(scaler):
    assert scaler.query_shift(LOGS[QUERY]) == {0: 0.0}
    same = SectionScaler().fit(LOGS[REFERENCE])
    assert_array_equal(scaler.transform(LOGS[QUERY]), same.transform(LOGS[QUERY]))


def test_samples_seldom_move(monkeypatch):
    """Own statistics take out what sampling did to a few cells, and bring them nearer, too."""
    moves = {}
    for name, answer in (("as it is", differs), ("always", lambda *_: True)):
        monkeypatch.setattr(_section_scaler, "differs", answer)
        moves[name] = 0
        for seed in range(30):
            rng = np.random.default_rng(seed)
            X = rng.normal(size=(560, 3)) @ rng.normal(size=(3, 80)) + rng.normal(size=(560, 80))
            scaler = SectionScaler(query="auto").fit(X[:500])
            moves[name] += scaler.query_shift(X[500:])[0] > 0
    assert moves["as it is"] <= 3
    assert moves["always"] >= 2 * moves["as it is"]
    assert moves["always"] >= 5


def test_differences_of_means_are_compared_with_those_of_samples():
    rng = np.random.default_rng(0)
    reference, query = rng.normal(size=(300, 400)), rng.normal(size=(50, 400))
    away = query.mean(axis=0) - reference.mean(axis=0)
    np.testing.assert_allclose(np.mean(away**2), 1 / 50 + 1 / 300, rtol=0.2)
    assert not differs(away, 50, 300)
    assert differs(away, 150, 300)
    assert differs(1.5 * away, 50, 300)
    assert not differs(away[:0], 50, 300)


def test_another_chemistry_is_taken_out(scaler):
    moved = other_chemistry(LOGS[QUERY])
    assert scaler.query_shift(moved) == {0: 1.0}
    own = SectionScaler(query="new_section").fit(LOGS[REFERENCE])
    assert_allclose(scaler.transform(moved), own.transform(moved), rtol=1e-12)


def test_a_part_of_the_tissue_stays(scaler):
    x = TISSUE.coords[QUERY, 0]
    part = LOGS[QUERY][x < np.quantile(x, 0.3)]
    assert scaler.query_shift(part) == {0: 0.0}
    # By its own statistics it would look like the whole.
    own = SectionScaler(query="new_section").fit(LOGS[REFERENCE])
    assert abs(own.transform(part).mean(axis=0)).max() < 1e-5
    assert abs(scaler.transform(part).mean(axis=0)).max() > 0.5


def test_each_section_of_a_query_moves_by_itself(scaler):
    labels = np.repeat(["slide", "other"], 200)
    X = LOGS[QUERY].copy()
    X[labels == "other"] = other_chemistry(X[labels == "other"])
    assert scaler.query_shift(X, sections=labels) == {"other": 1.0, "slide": 0.0}


def test_few_cells_stay(scaler):
    moved = other_chemistry(LOGS[QUERY])
    assert scaler.query_shift(moved[:19]) == {0: 0.0}
    rows = np.vstack([scaler.transform(moved[:19][[i]]) for i in range(19)])
    assert_allclose(scaler.transform(moved[:19]), rows)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
def test_a_scaler_for_a_query_transforms_its_rows_one_by_one(scaler, container):
    labels = np.repeat(["slide", "other"], 200)
    X = LOGS[QUERY].copy()
    X[labels == "other"] = other_chemistry(X[labels == "other"])
    X = container(X)
    missing = np.arange(80) < 7
    together = scaler.transform(X, sections=labels, missing_genes=missing)
    alone = scaler.for_query(X, sections=labels, missing_genes=missing)
    assert alone.pointwise
    parts = [
        alone.transform(X[rows], sections=labels[rows], missing_genes=missing)
        for rows in (slice(0, 50), slice(50, 400))
    ]
    assert_array_equal(np.vstack(parts), together)
    assert (together[:, missing] == 0).all()


def test_missing_genes_do_not_move_a_query(scaler):
    missing = np.arange(80) < 40
    X = np.where(missing, 0, LOGS[QUERY])
    assert scaler.query_shift(X, missing_genes=missing) == {0: 0.0}


def test_the_smallest_shift_that_does_is_taken():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(5, 400))
    assert choose_share(noise) == 0
    gains = np.array([0, 0.5, 1, 1, 1])[:, None]
    assert choose_share(gains + noise[0]) == 2
    # Beyond doubt on 400 cells is not so on nine.
    assert choose_share(0.3 * gains + noise) > 0
    assert choose_share((0.3 * gains + noise)[:, :9]) == 0


def test_auto_must_be_set_before_the_fit():
    scaler = SectionScaler().fit(LOGS[REFERENCE]).set_params(query="auto")
    with pytest.raises(ValueError, match=r"must be set before fit"):
        scaler.transform(LOGS[QUERY])


def test_blocks_of_a_query_move_as_the_whole_does():
    pipeline = make_spatial_pipeline(
        max_epochs=2, n_estimators=1, n_calibration_folds=None, random_state=0
    )
    pipeline.fit(TISSUE.X[REFERENCE], TISSUE.coords[REFERENCE])
    model = SpatialModel.of(pipeline, TISSUE.X[REFERENCE], TISSUE.genes)
    counts = TISSUE.X[QUERY].toarray()
    counts[:, ::2] *= 4
    assert pipeline["scale"].query_shift(pipeline[:2].transform(counts))[0] > 0
    whole = pipeline.predict(counts)
    by_blocks = model.answers(sparse.csr_matrix(counts), chunk_size=70).coords
    assert_allclose(by_blocks, whole, rtol=1e-5, atol=1e-4)


def test_a_shift_is_logged(scaler, caplog):
    with caplog.at_level("INFO", logger="sklearn_dpvae"):
        scaler.transform(other_chemistry(LOGS[QUERY]))
    assert "the query is scaled by 100 % of its own statistics" in caplog.text


def test_a_query_from_a_missing_part_stays_nearer_to_the_networks():
    x = TISSUE.coords[:, 0]
    inside, missing = x < np.quantile(x, 0.7), x > np.quantile(x, 0.8)
    pipe = make_spatial_pipeline(n_estimators=2, max_epochs=40, random_state=0)
    pipe.fit(TISSUE.X[inside][::2], TISSUE.coords[inside][::2])
    last = pipe[-1]
    last.fitted_ = replace(last.fitted_, places=replace(last.fitted_.places, median_share=1.0))
    shares = []
    for rows in (np.flatnonzero(inside)[1::2], np.flatnonzero(missing)):
        counts = TISSUE.X[rows]
        X = pipe[:-1].transform(counts)
        by_networks = clone_with_share(last, 0.0).predict(X)
        way = clone_with_share(last, 1.0).predict(X) - by_networks
        assert np.abs(way).max() > 1
        placed = pipe.predict(counts)
        # All cells go the same share of the way.
        shares.append(np.sum((placed - by_networks) * way) / np.sum(way**2))
        expected = by_networks + shares[-1] * way
        assert_allclose(placed, expected, rtol=1e-5)
        model = SpatialModel(pipe, TISSUE.genes)
        by_blocks = model.answers(sparse.csr_matrix(counts), chunk_size=70).coords
        assert_allclose(by_blocks, expected, rtol=1e-4, atol=1e-2)
    assert shares[0] == pytest.approx(1)
    assert 0.5 <= shares[1] + 1e-6 < 0.95


def clone_with_share(last, share):
    """The last step, going so far to the medians."""
    own = copy.copy(last)
    own.fitted_ = replace(last.fitted_, places=replace(last.fitted_.places, median_share=share))
    return own


@pytest.mark.filterwarnings("ignore:X holds fractions")
def test_positions_of_a_moved_query_are_those_of_another_section():
    """Half-way to the medians of places, whether or not somebody asks how sure they are."""
    pipe = make_spatial_pipeline(n_estimators=2, max_epochs=40, random_state=0)
    pipe.fit(LOGS[REFERENCE] * 10, TISSUE.coords[REFERENCE])
    last = pipe[-1]
    last.fitted_ = replace(last.fitted_, places=replace(last.fitted_.places, median_share=1.0))
    moved = 10 * other_chemistry(LOGS[QUERY])
    placed, _ = pipe.predict(moved, return_std=True)
    assert_array_equal(pipe.predict(moved), placed)
    last.fitted_ = replace(last.fitted_, places=replace(last.fitted_.places, median_share=0.0))
    by_networks = pipe.predict(moved)
    last.fitted_ = replace(last.fitted_, places=replace(last.fitted_.places, median_share=2.0))
    medians = pipe.predict(moved)
    assert_allclose(placed, (by_networks + medians) / 2, rtol=1e-6)
    assert np.abs(placed - by_networks).max() > 1
