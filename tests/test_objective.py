"""The objective: its sum, its gradient, and what it records."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from training_parts import objective, reference

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae._network.objective import Objective, Step, Term, distance
from sklearn_dpvae._training.batches import Batches
from sklearn_dpvae._training.pairs import build_mask

TERMS = ["reconstruction", "kl", "distance", "alignment"]
WEIGHTS = {
    "elbo_weight": "elbo_weight",
    "distance": "distance_weight",
    "alignment": "alignment_weight",
}


def data(n_cells=90, n_sections=2, mask=None):
    rng = np.random.default_rng(0)
    coords = rng.normal(size=(n_cells, 2))
    X = (coords @ rng.normal(size=(2, 6)) + rng.normal(size=(n_cells, 6))).astype(np.float32)
    codes = np.arange(n_cells) % n_sections
    if mask is not None:
        mask = build_mask(mask, X, coords, codes, np.unique(codes))
    return reference(X, coords, codes, mask=mask)


def step_of(given, batch_size=None, seed=0):
    torch.manual_seed(seed)
    module = DPVAE(6, 2, n_members=2, hidden_layer_sizes=(5,))
    everything = [np.arange(len(given.coords))] * 2
    X, y = next(iter(Batches(given, everything, batch_size, seed=0)))
    return Step(module, module(**X), y)


def fit(**params):
    given = data(n_sections=1)
    model = DPVAESpatialRegressor(
        **{"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0}
        | params
    )
    return model.fit(given.X, given.coords), given


def test_the_loss_is_the_weighted_sum_of_its_terms():
    goal = objective(elbo_weight=0.5, kl_weight=3.0, distance_weight=2.0, alignment_weight=7.0)
    assert [term.name for term in goal.terms] == TERMS
    assert [term.weight for term in goal.terms] == [0.5, 1.5, 2.0, 7.0]
    step = step_of(data())
    loss, measured = goal.measure(step)
    expected = sum(term.weight * term.function(step) for term in goal.terms)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(measured[0], loss.detach())
    assert not measured.requires_grad


@pytest.mark.parametrize("without", [(), ("distance_weight",), ("elbo_weight", "kl_weight")])
def test_columns_stand_in_the_order_of_the_terms(without):
    goal = objective(**dict.fromkeys(without, 0.0))
    step = step_of(data())
    _, measured = goal.measure(step)
    weightless = goal.measure_weightless(step)
    columns = goal.columns(measured.mean(dim=1).tolist(), weightless.tolist())
    assert list(columns) == ["loss", *TERMS]
    for term in goal.terms:
        assert columns[term.name] == pytest.approx(term.function(step).mean().item(), rel=1e-5)


def test_a_new_term_is_a_line_in_the_list():
    size = Term("size", 0.25, lambda step: step.output["z"].square().mean(dim=(-2, -1)))
    goal = Objective([*objective().terms, size])
    step = step_of(data())
    loss, measured = goal.measure(step)
    torch.testing.assert_close(
        loss, objective().measure(step)[0] + 0.25 * step.output["z"].square().mean(dim=(-2, -1))
    )
    assert list(goal.columns(measured.mean(dim=1).tolist(), []))[-1] == "size"


def test_an_objective_without_any_weight_has_a_gradient_of_zero():
    goal = objective(elbo_weight=0.0, kl_weight=0.0, distance_weight=0.0, alignment_weight=0.0)
    step = step_of(data())
    loss, _ = goal.measure(step)
    loss.sum().backward()
    grads = [p.grad for p in step.module.parameters() if p.grad is not None]
    assert grads
    assert all(not grad.any() for grad in grads)


@pytest.mark.parametrize("term", ["distance", "alignment"])
def test_a_term_without_weight_is_recorded(term):
    """The same values as with a weight too small to change anything."""
    without, _ = fit(**{WEIGHTS[term]: 0.0}, batch_size=None)
    nearly, _ = fit(**{WEIGHTS[term]: 1e-30}, batch_size=None)
    recorded = [[row[term] for row in model.history_] for model in (without, nearly)]
    assert min(recorded[0]) > 0
    assert_allclose(*recorded, rtol=1e-4)


def test_recording_changes_no_fit(monkeypatch):
    recorded, given = fit(distance_weight=0.0)
    monkeypatch.setattr(
        Objective, "measure_weightless", lambda self, step: torch.zeros(len(self._weightless))
    )
    alone, _ = fit(distance_weight=0.0)
    assert_array_equal(recorded.predict(given.X), alone.predict(given.X))


@pytest.mark.parametrize("mask", [None, "knn", "clusters"])
def test_a_step_on_its_first_cells_is_that_of_those_cells(mask):
    given = data(mask=mask)
    step = step_of(given)
    first = step.first(40)
    assert first.output["z"].shape[1] == first.target["s"].shape[1] == 40
    if mask == "knn":
        inside = (step.target["pairs"][1:] < 40).all(dim=0)
        assert 0 < inside.sum() < len(inside)
        assert first.target["pairs"].shape[1] == len(first.target["weights"]) == inside.sum()
    cut = Step(
        step.module,
        {name: value[:, :40] for name, value in step.output.items()},
        {
            name: value[:, :40]
            for name, value in step.target.items()
            if value is not None and name not in ("pairs", "weights")
        }
        | {name: first.target[name] for name in ("pairs", "weights") if name in first.target},
    )
    torch.testing.assert_close(distance(first), distance(cut))
    assert step.first(1000) is step
