"""The decoder's condition on batches: what it explains, and the rule for unknown ones."""

import pickle

import numpy as np
import pytest
import torch
from read_only import read_only
from sklearn import config_context
from sklearn.model_selection import GridSearchCV

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import procrustes_disparity


def quick(**params):
    return DPVAESpatialRegressor(
        **{"hidden_layer_sizes": (16,), "max_epochs": 3, "n_estimators": 2, "random_state": 0}
        | params
    )


@pytest.fixture(scope="module")
def shifted():
    """Two sections of one tissue whose genes differ by strong effects of the section."""
    tissue = make_tissue(400, 60, n_sections=2, batch_effect=1.0, random_state=0)
    return read_only(tissue.X, tissue.coords, tissue.sections)


def test_decoder_sees_the_batch_and_the_encoder_does_not():
    torch.manual_seed(0)
    module = DPVAE(5, 2, n_members=2, hidden_layer_sizes=(8,), n_batches=3).eval()
    x, z = torch.randn(4, 5), torch.randn(4, 2)
    assert module.encoder[0].weight.shape[1] == 5
    first, second = (module.decode(z, batch=torch.full((4,), k)) for k in (0, 1))
    assert not torch.allclose(first, second)
    # Cells of one call can be of different batches, also of different ones in each member.
    mixed = module.decode(z, batch=torch.tensor([0, 1, 0, 1]))
    torch.testing.assert_close(mixed[::2], first[::2])
    torch.testing.assert_close(mixed[1::2], second[1::2])
    hidden = module(x, batch=torch.tensor([[0] * 4, [1] * 4]))["hidden"]
    assert hidden.shape == (2, 4, 8)


def test_the_encoder_sees_the_batch_where_it_is_asked_to():
    torch.manual_seed(0)
    module = DPVAE(5, 2, n_members=2, hidden_layer_sizes=(8,), n_batches=3, encode_batch=True)
    x = torch.randn(4, 5)
    assert module.encoder[0].weight.shape[1] == 5 + 3
    first, second = (module(x, batch=torch.full((2, 4), k))["mean"] for k in (0, 1))
    assert not torch.allclose(first, second)
    # A query's batch is not known.
    unknown, _ = module.encode(x)
    mean = torch.cat([x.expand(2, -1, -1), torch.full((2, 4, 3), 1 / 3)], dim=-1)
    torch.testing.assert_close(unknown, module.posterior(module.encoder(mean))[0])


def test_encoders_that_see_the_batch_carry_over_its_effect(shifted):
    X, coords, sections = shifted
    held_out = np.arange(400) % 2 == 0
    model = quick(likelihood="nb", max_epochs=60, hidden_layer_sizes=(32,), encode_batch=True)
    model.fit(
        X[~held_out], coords[~held_out], sections=sections[~held_out], batch=sections[~held_out]
    )
    predicted = model.predict(X[held_out], sections=sections[held_out])
    disparity = procrustes_disparity(coords[held_out], predicted, sections=sections[held_out])
    assert disparity < 0.6
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X[:5]), model.predict(X[:5]))
    # Without batches there is nothing to see.
    plain = quick(encode_batch=True).fit(X, coords)
    assert plain.module_.encoder[0].weight.shape[1] == X.shape[1]


def test_unknown_batches_are_the_mean_condition():
    torch.manual_seed(0)
    module = DPVAE(5, 2, hidden_layer_sizes=(8,), n_batches=4).eval()
    z = torch.randn(1, 3, 2)
    condition = torch.full((1, 3, 4), 0.25)
    expected = module.decoder(torch.cat([z, condition], dim=-1))
    torch.testing.assert_close(module._decoder(z, None), expected)
    torch.testing.assert_close(module._decoder(z, torch.full((1, 3), -1)), expected)


def test_gradients_reach_the_condition():
    module = DPVAE(5, 2, hidden_layer_sizes=(8,), n_batches=2)
    out = module(torch.randn(6, 5), batch=torch.tensor([[0, 0, 0, 1, 1, 1]]))
    module.likelihood.log_prob(torch.randn(1, 6, 5), out["hidden"], None).sum().backward()
    gradient = module.decoder[0].weight.grad[0, -2:]
    assert (gradient.abs().sum(1) > 0).all()


def test_positions_carry_over_a_batch_effect(shifted):
    """Fitted on one half of each section, read on the other, whose labels are not needed."""
    X, coords, sections = shifted
    held_out = np.arange(400) % 2 == 0
    model = quick(likelihood="nb", max_epochs=60, hidden_layer_sizes=(32,))
    model.fit(
        X[~held_out], coords[~held_out], sections=sections[~held_out], batch=sections[~held_out]
    )
    predicted = model.predict(X[held_out], sections=sections[held_out])
    disparity = procrustes_disparity(coords[held_out], predicted, sections=sections[held_out])
    assert disparity < 0.6
    # A query says nothing of its batch: the answer is the same whatever it is.
    np.testing.assert_array_equal(model.predict(X[:5]), model.predict(X[:7])[:5])


def test_the_condition_explains_the_effect_of_the_batch(shifted):
    X, coords, sections = shifted
    dense = X.toarray()
    model = quick(likelihood="nb", max_epochs=60, hidden_layer_sizes=(32,))
    model.fit(X, coords, sections=sections, batch=sections)
    assert list(model.batches_) == ["section_1", "section_2"]
    Z = model.transform(X)
    first, second = (
        model.inverse_transform(Z, batch=np.full(400, label)) for label in model.batches_
    )
    # Every cell decoded as if of either section differs as the sections' mean counts do.
    here = sections == "section_1"
    effect = np.log(dense[~here].mean(0) + 0.1) - np.log(dense[here].mean(0) + 0.1)
    decoded = np.log(second.mean(0) + 0.1) - np.log(first.mean(0) + 0.1)
    assert np.corrcoef(effect, decoded)[0, 1] > 0.9
    between = model.inverse_transform(Z)
    np.testing.assert_array_equal(between, model.inverse_transform(Z, batch=["new"] * 400))
    assert np.abs(np.log(between / first)).mean() < np.abs(np.log(second / first)).mean()


def test_one_batch_and_no_batch(tissue):
    X = tissue.X.toarray() - 5.0
    one = quick().fit(X, tissue.coords, batch=np.zeros(300, dtype=int))
    assert list(one.batches_) == [0]
    none = quick().fit(X, tissue.coords)
    assert none.batches_ is None
    Z = none.transform(X)
    np.testing.assert_array_equal(
        none.inverse_transform(Z), none.inverse_transform(Z, batch=["a"] * 300)
    )


def test_fine_tuning_on_known_and_new_batches(shifted):
    X, coords, sections = shifted
    model = quick().fit(X, coords, sections=sections, batch=sections)
    labels = np.array(["section_1", "new"] * 200)
    model.partial_fit(X, coords, sections=sections, batch=labels)
    model.partial_fit(X, coords, sections=sections)
    assert list(model.batches_) == ["section_1", "section_2"]
    assert np.isfinite(model.predict(X)).all()
    with pytest.raises(ValueError, match="fitted without batches"):
        quick().fit(X, coords).partial_fit(X, coords, batch=sections)


@pytest.mark.parametrize("routing", [False, True])
def test_batches_are_sliced_and_routed(shifted, routing):
    X, coords, sections = shifted
    pipe = make_spatial_pipeline(
        n_calibration_folds=None, n_estimators=2, max_epochs=2, random_state=0
    )
    for model, prefix in ((quick(), ""), (pipe, "dpvae__")):
        search = GridSearchCV(model, {f"{prefix}lr": [0.01]}, cv=2)
        with config_context(enable_metadata_routing=routing):
            search.fit(X, coords, sections=sections, batch=sections)
        best = search.best_estimator_
        assert len((best if not prefix else best["dpvae"]).batches_) == 2


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (["a"] * 3, "batch has 3 labels"),
        ("a", "batch must hold one label per row"),
        ([None] + ["a"] * 399, "batch has 1 missing"),
    ],
)
def test_bad_batches(shifted, batch, message):
    X, coords, _ = shifted
    with pytest.raises(ValueError, match=message):
        quick().fit(X, coords, batch=batch)
