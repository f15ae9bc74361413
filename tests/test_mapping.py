"""Genes, labels and cells on the tissue."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from sklearn_dpvae import SpatialModel, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.mapping import (
    CellMapping,
    impute_genes,
    map_cells,
    nearest_locations,
    project_genes,
    project_labels,
    transfer_labels,
)
from sklearn_dpvae.mapping import _capacity as capacities
from sklearn_dpvae.mapping._capacity import assign
from sklearn_dpvae.mapping._joint import Joint
from sklearn_dpvae.mapping._likeness import Neighbors, neighbors, other_neighbors
from sklearn_dpvae.mapping._telling import Telling

N_PANEL, N_REFERENCE = 60, 300


class Case:
    """A tissue whose last genes were not measured for the model."""

    def __init__(self):
        self.tissue = make_tissue(500, 80, random_state=0)
        X = self.tissue.X.toarray()
        self.X, self.query = X[:N_REFERENCE, :N_PANEL], X[N_REFERENCE:, :N_PANEL]
        self.coords = self.tissue.coords[:N_REFERENCE]
        self.query_coords = self.tissue.coords[N_REFERENCE:]
        depth = X.sum(axis=1, keepdims=True)
        logs = np.log1p(X / depth * np.median(depth))[:, N_PANEL:]
        self.hidden, self.query_hidden = logs[:N_REFERENCE], logs[N_REFERENCE:]
        self.model = make_spatial_pipeline(max_epochs=15, random_state=0)
        self.model.fit(self.X, self.coords)
        self.mapping = map_cells(self.model, self.query, (self.X, self.coords))

    def domains(self, coords):
        """Quadrants of the tissue."""
        east, north = (coords > np.median(self.tissue.coords, axis=0)).T
        return np.char.add(np.where(north, "N", "S"), np.where(east, "E", "W"))


@pytest.fixture(scope="module")
def case():
    return Case()


def correlations(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)])


def test_rows_are_probabilities_of_locations_like_the_cell(case):
    matrix = case.mapping.matrix
    assert matrix.shape == (200, 300)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    apart = np.linalg.norm(case.coords[case.mapping.best] - case.query_coords, axis=1)
    by_chance = cdist(case.query_coords, case.coords).mean()
    assert apart.mean() < 0.5 * by_chance


def test_by_place_is_predict_places(case):
    mapping = map_cells(case.model, case.query, (case.X, case.coords), by="place")
    places = case.model.predict_places(case.query, locations=case.coords)
    np.testing.assert_allclose(mapping.matrix.toarray(), places.probabilities.toarray())
    assert not mapping.by_likeness


def test_without_reference_locations_are_the_cells_that_the_model_keeps(case, monkeypatch):
    own = map_cells(case.model, case.query)
    # Their counts are not kept, so that the model's components are all there is.
    monkeypatch.setattr(Joint, "of", lambda *data: None)
    given = map_cells(case.model, case.query, (case.X, case.coords))
    order = np.lexsort(own.locations.T)
    np.testing.assert_allclose(own.locations[order], case.coords[np.lexsort(case.coords.T)])
    row = nearest_locations(own.locations, case.coords)[0]
    # Inputs are kept in single precision.
    np.testing.assert_allclose(own.matrix.toarray(), given.matrix.toarray()[:, row], atol=1e-3)
    assert own.tellings == (None, None)


def test_a_model_that_knows_its_genes_takes_them_in_any_order(case):
    genes = case.tissue.genes[:N_PANEL]
    model = SpatialModel.of(case.model, case.X, genes)
    mapping = map_cells(model, case.query[:, ::-1], (case.X, case.coords), genes=genes[::-1])
    np.testing.assert_allclose(mapping.matrix.toarray(), case.mapping.matrix.toarray(), atol=1e-6)


def test_sections_are_z_scored_and_told_apart():
    tissue = make_tissue(300, 60, n_sections=2, random_state=0)
    model = make_spatial_pipeline(max_epochs=3, random_state=0)
    model.fit(tissue.X, tissue.coords, sections=tissue.sections)
    own = map_cells(model, tissue.X[:20], sections=tissue.sections[:20])
    assert set(own.sections) == {0, 1}
    given = map_cells(
        model,
        tissue.X[:20],
        (tissue.X, tissue.coords),
        sections=tissue.sections[:20],
        reference_sections=tissue.sections,
    )
    assert (given.sections == tissue.sections).all()
    # Each of these cells is its own location.
    np.testing.assert_array_equal(given.locations_of_cells.index[:, 0], np.arange(20))
    with pytest.raises(ValueError, match="locations of one section"):
        map_cells(
            model,
            tissue.X[:20],
            (tissue.X, tissue.coords),
            by="place",
            reference_sections=tissue.sections,
        )


def test_hidden_genes_appear_on_the_tissue(case):
    found = project_genes(case.mapping, case.query_hidden)
    assert found.shape == case.hidden.shape
    smooth = cdist(case.coords, case.coords).argsort(axis=1)[:, :20]
    truth = case.hidden[smooth].mean(axis=1)
    expressed = truth.std(axis=0) > np.median(truth.std(axis=0))
    assert np.median(correlations(found, truth)[expressed]) > 0.35
    low, high = case.query_hidden.min(axis=0), case.query_hidden.max(axis=0)
    assert (found >= low).all() and (found <= high).all()
    sparse = project_genes(case.mapping, sp.csr_matrix(case.query_hidden))
    np.testing.assert_allclose(sparse, found, atol=1e-6)
    np.testing.assert_allclose(
        project_genes(case.mapping, 3 * case.query_hidden), 3 * found, rtol=1e-6
    )


def test_genes_of_the_reference_appear_in_cells(case):
    found = impute_genes(case.mapping, case.hidden)
    assert found.shape == case.query_hidden.shape
    expressed = case.hidden.std(axis=0) > np.median(case.hidden.std(axis=0))
    assert np.median(correlations(found, case.query_hidden)[expressed]) > 0.2


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_joint_components_are_principal_ones_of_both_data_sets(kind):
    rng = np.random.default_rng(0)
    mean = rng.gamma(2.0, size=100) * np.exp(rng.normal(size=(4, 100)))
    cells, locations = (rng.poisson(mean[rng.integers(4, size=n)]) for n in (90, 70))
    joint = Joint.of(kind(cells), kind(locations), None, None, None)
    assert len(joint.genes) == 100
    logs = []
    for counts in (cells, locations):
        size = counts.sum(axis=1, keepdims=True)
        logs.append(np.log1p(counts / size * np.median(size)))
    added = 20 * (logs[1].mean(axis=0) - logs[0].mean(axis=0)) / 110
    logs = [part - part.mean(axis=0) for part in logs]
    pca = PCA(30).fit(np.concatenate(logs))
    expected = pca.transform(logs[0] - added), pca.transform(logs[1])
    found = joint.components()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(pdist(ours[:, :5]), pdist(theirs[:, :5]), rtol=1e-2)
    between = cdist(*(part[:, :5] for part in found))
    np.testing.assert_allclose(between, cdist(*(part[:, :5] for part in expected)), rtol=1e-2)


def test_hidden_genes_leave_no_trace(case):
    joint = Joint.of(case.query, case.X, None, None, None)
    rest, hidden = joint.hide()
    assert len(hidden) == N_PANEL // 5
    rng = np.random.default_rng(0)
    others = [case.query.copy(), case.X.copy()]
    for X in others:
        X[:, hidden] = rng.permutation(X[:, hidden])
    changed, same = Joint.of(*others, None, None, None).hide()
    np.testing.assert_array_equal(same, hidden)
    np.testing.assert_array_equal(changed.cells.X, rest.cells.X)
    np.testing.assert_array_equal(changed.locations.X, rest.locations.X)
    assert not np.isin(rest.genes, hidden).any()


def test_what_tells_genes_best_between_the_data_sets_is_used(case):
    """It is no worse than the best of a few that are tried on the genes themselves."""
    assert all(isinstance(way, Telling) for way in case.mapping.tellings)

    def score(way):
        mapping = replace(case.mapping, tellings=(way, None))
        return correlations(project_genes(mapping, case.query_hidden), case.hidden).mean()

    chosen = score(case.mapping.tellings[0])
    assert chosen > score(Telling(5, None)) + 0.02
    assert chosen > max(score(Telling(n, None)) for n in (10, 40, 160)) - 0.02


def test_too_few_genes_in_common_leave_the_components_of_the_model(case):
    missing = np.arange(N_PANEL) >= 49
    assert Joint.of(case.query, case.X, None, None, missing) is None
    assert Joint.of(case.query, case.X, None, None, np.arange(N_PANEL) >= 50) is not None
    assert Joint.of(case.query[:, :50], case.X, None, None, None) is None


def test_a_linear_gene_is_told_by_its_slope():
    rng = np.random.default_rng(0)
    cells, locations = rng.standard_normal((400, 3)), rng.standard_normal((50, 3))
    slopes = np.array([[1.0, -2.0, 0.5]]).T
    mapping = CellMapping(
        sp.csr_matrix((400, 50)), rng.uniform(size=(50, 2)), None, cells, locations
    )
    found = project_genes(mapping, cells @ slopes)
    np.testing.assert_allclose(found, locations @ slopes, atol=0.2)


def test_noise_stays_near_the_mean_and_constants_stay():
    rng = np.random.default_rng(0)
    cells, locations = rng.standard_normal((400, 3)), rng.standard_normal((50, 3))
    mapping = CellMapping(
        sp.csr_matrix((400, 50)), rng.uniform(size=(50, 2)), None, cells, locations
    )
    noise = rng.standard_normal((400, 30))
    assert project_genes(mapping, noise).std() < 0.1
    assert (project_genes(mapping, np.ones((400, 2))) == 1).all()


def test_by_place_genes_are_means_of_the_cells_that_are_there():
    matrix = sp.csr_matrix([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    mapping = CellMapping(matrix, np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    X = np.array([[3.0], [9.0]])
    np.testing.assert_allclose(project_genes(mapping, X), [[5.0], [9.0], [np.nan]])
    np.testing.assert_allclose(impute_genes(mapping, np.array([[2.0], [4.0], [8.0]])), [[2], [3]])


def test_domains_are_transferred_with_probabilities(case):
    found = transfer_labels(case.mapping, case.domains(case.coords))
    np.testing.assert_allclose(found.values.sum(axis=1), 1)
    true = case.domains(case.query_coords)
    accuracy = (found.best == true).mean()
    assert accuracy > 0.6
    assert abs(found.accuracy - accuracy) < 0.12
    own = np.searchsorted(found.classes, true)
    loss = -np.log(found.values[np.arange(len(true)), own]).mean()
    assert loss < np.log(4)
    assert abs(found.log_loss - loss) < 0.25
    near = KNeighborsClassifier(20).fit(
        case.mapping.location_components, case.domains(case.coords)
    )
    assert accuracy > near.score(case.mapping.cell_components, true) - 0.05


def test_compositions_follow_the_tissue(case):
    labels = case.domains(case.query_coords)
    found = project_labels(case.mapping, labels)
    np.testing.assert_allclose(found.values.sum(axis=1), 1)
    assert (found.best == case.domains(case.coords)).mean() > 0.6
    assert (found.std > 0).all() and found.std.max() < 0.5


def test_numbers_of_cells_are_expectations_of_independent_cells():
    matrix = sp.csr_matrix([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]])
    mapping = CellMapping(matrix, np.array([[0.0, 0.0], [0.0, 1.0]]))
    found = project_labels(mapping, ["a", "b", "b"], counts=True)
    np.testing.assert_allclose(found.values, [[1, 0.75], [0, 1.25]])
    variance = 0.5 * 0.5 + 0.25 * 0.75
    np.testing.assert_allclose(found.std, np.sqrt([[0, variance], [0, variance]]))


@pytest.mark.parametrize("by", ["expression", "place"])
def test_no_location_holds_more_cells_than_it_may(case, by):
    capacity = np.arange(300) % 2
    mapping = map_cells(case.model, case.query, (case.X, case.coords), by=by, capacity=capacity)
    held = mapping.n_cells_per_location
    assert (held <= capacity).all() and held.sum() == 150
    assert (mapping.best == -1).sum() == 50
    assert np.isnan(impute_genes(mapping, case.hidden)[mapping.best == -1]).all()
    counts = project_labels(mapping, case.domains(case.query_coords), counts=True)
    np.testing.assert_array_equal(counts.values.sum(axis=1), held)
    assert (counts.std == 0).all()
    shares = project_labels(mapping, case.domains(case.query_coords))
    np.testing.assert_allclose(shares.values.sum(axis=1), 1)


def test_a_total_is_shared_out_evenly(case):
    mapping = map_cells(case.model, case.query, (case.X, case.coords), capacity=450)
    assert mapping.n_cells_per_location.max() <= 2
    assert (mapping.best >= 0).all()


def test_with_room_for_all_each_cell_is_in_the_location_most_like_it(case):
    mapping = map_cells(case.model, case.query, (case.X, case.coords), capacity=np.full(300, 200))
    np.testing.assert_array_equal(mapping.best, case.mapping.locations_of_cells.index[:, 0])


def costs_of(table):
    return lambda rows: table[rows].astype(np.float32)


@pytest.mark.parametrize("n_cells", [40, 70])
def test_the_assignment_is_the_cheapest(n_cells):
    rng = np.random.default_rng(0)
    table, capacity = rng.uniform(size=(n_cells, 12)), rng.integers(2, 8, size=12)
    where = assign(costs_of(table), n_cells, capacity)
    slots = np.repeat(np.arange(12), capacity)
    rows, columns = linear_sum_assignment(table[:, slots])
    placed = where >= 0
    assert placed.sum() == min(n_cells, len(slots))
    assert (np.bincount(where[placed], minlength=12) <= capacity).all()
    assert table[placed, where[placed]].sum() == pytest.approx(table[rows, slots[columns]].sum())


@pytest.mark.parametrize("spare", [1.0, 1.3])
def test_blocks_come_close_to_the_cheapest_assignment(monkeypatch, spare):
    rng = np.random.default_rng(0)
    locations = rng.uniform(size=(150, 2))
    # Half of the cells crowd in one corner.
    cells = rng.uniform(size=(900, 2)) * np.where(rng.uniform(size=(900, 1)) < 0.5, 1, 0.3)
    capacity = np.full(150, int(6 * spare))
    table = cdist(cells, locations, "sqeuclidean")
    slots = np.repeat(np.arange(150), capacity)
    rows, columns = linear_sum_assignment(table[:, slots])
    least = table[rows, slots[columns]].sum()
    monkeypatch.setattr(capacities, "_BLOCK", 100)
    where = assign(costs_of(table), 900, capacity)
    assert (np.bincount(where, minlength=150) <= capacity).all()
    spent = table[np.arange(900), where].sum()
    assert least - 1e-6 <= spent < 1.02 * least


def test_a_cell_is_not_its_own_neighbor_even_among_equal_ones():
    known = np.zeros((400, 3), dtype=np.float32)
    rows = np.array([0, 7, 399])
    found = other_neighbors(known, rows)
    assert found.index.shape == (3, 160)
    assert not (found.index == rows[:, None]).any()


def test_weights_fall_with_the_distance():
    known = np.array([[0.0], [1.0], [2.0]], dtype=np.float32)
    found = neighbors(known, np.array([[0.0]], dtype=np.float32))
    weights = found.weights(3, 2.0).toarray()[0]
    np.testing.assert_allclose(weights / weights[0], np.exp([0, -0.5, -2]), rtol=1e-6)
    same = Neighbors(np.zeros((1, 2), dtype=np.float32), np.array([[0, 1]]), 2)
    np.testing.assert_allclose(same.weights(2).toarray(), [[0.5, 0.5]])


def test_positions_snap_to_the_nearest_spot():
    rng = np.random.default_rng(0)
    coords, spots = rng.uniform(size=(40, 2)), rng.uniform(size=(9, 2))
    index, distance = nearest_locations(coords, spots)
    apart = cdist(coords, spots)
    np.testing.assert_array_equal(index, apart.argmin(axis=1))
    np.testing.assert_allclose(distance, apart.min(axis=1))
    with pytest.raises(ValueError, match=r"coords has 2 dimension.* locations has 3"):
        nearest_locations(coords, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "genes"}, "by must be 'expression' or 'place', got 'genes'"),
        ({"reference": np.ones((3, 2))}, "reference must be a pair"),
        ({"capacity": np.ones(7)}, r"capacity has shape \(7,\), but there are 300"),
        ({"capacity": np.full(300, -1)}, "whole numbers of 0 or more"),
        ({"capacity": np.full(300, 0.5)}, "whole numbers of 0 or more"),
        ({"capacity": np.zeros(300)}, "capacity is 0 everywhere"),
        ({"capacity": 0}, "capacity must be 1 or more, got 0"),
        ({"genes": ["a"]}, "need a SpatialModel"),
        ({"reference_sections": np.zeros(300)}, "reference_sections was given without"),
    ],
)
def test_wrong_arguments_are_named(case, arguments, message):
    with pytest.raises(ValueError, match=message):
        map_cells(case.model, case.query, **arguments)


def test_wrong_numbers_of_rows_are_named(case):
    with pytest.raises(ValueError, match="X has 3 rows, but the mapping has 200 cells"):
        project_genes(case.mapping, np.ones((3, 2)))
    with pytest.raises(ValueError, match="X has 3 rows, but the mapping has 300 locations"):
        impute_genes(case.mapping, np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"has 200 cells\. Pass one label"):
        project_labels(case.mapping, ["a"])
    with pytest.raises(ValueError, match=r"has 300 locations\. Pass one label"):
        transfer_labels(case.mapping, ["a"])
    with pytest.raises(ValueError, match="2 missing label"):
        transfer_labels(case.mapping, [None, np.nan, *"a" * 298])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matrix": np.eye(3)}, "3 columns, but there are 2 locations"),
        ({"matrix": 2 * np.eye(2)}, "must sum to 1"),
        ({"sections": ["a"]}, r"sections has shape \(1,\)"),
        ({"cell_components": np.ones((2, 1))}, "or neither"),
        (
            {"cell_components": np.ones((3, 1)), "location_components": np.ones((2, 1))},
            "does not fit a matrix",
        ),
    ],
)
def test_a_mapping_whose_parts_do_not_fit_is_refused(arguments, message):
    parts = {"matrix": np.eye(2), "locations": np.eye(2)} | arguments
    with pytest.raises(ValueError, match=message):
        CellMapping(**parts)
