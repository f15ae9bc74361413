"""Likelihoods against scipy and torch, and what they recover of simulated counts."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae._network.likelihoods import (
    COUNT_LIKELIHOODS,
    LIKELIHOODS,
    negative_binomial_log_prob,
    poisson_log_prob,
    zero_inflated_log_prob,
)
from sklearn_dpvae.metrics import procrustes_disparity
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler


def quick(**params):
    return DPVAESpatialRegressor(
        **{"hidden_layer_sizes": (32,), "max_epochs": 3, "n_estimators": 2, "random_state": 0}
        | params
    )


def tensors(*values, dtype=torch.float64):
    return [torch.tensor(value, dtype=dtype) for value in values]


# ------------------------------------------------------------------ values

GRID = [
    (x, mean, theta)
    for x in (0, 1, 7, 300, 100_000)
    for mean in (1e-4, 0.7, 250.0, 9e4)
    for theta in (1e-3, 0.5, 40.0, 2e4)
]


def test_poisson_is_scipys_and_torchs():
    x, mean, _ = tensors(*zip(*GRID, strict=True))
    value = poisson_log_prob(x, mean.log())
    expected = scipy.stats.poisson.logpmf(x.numpy(), mean.numpy())
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    torch.testing.assert_close(value, torch.distributions.Poisson(mean).log_prob(x))


def test_negative_binomial_is_scipys_and_torchs():
    x, mean, theta = tensors(*zip(*GRID, strict=True))
    value = negative_binomial_log_prob(x, mean.log(), theta.log())
    expected = scipy.stats.nbinom.logpmf(
        x.numpy(), theta.numpy(), (theta / (theta + mean)).numpy()
    )
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    theirs = torch.distributions.NegativeBinomial(theta, logits=mean.log() - theta.log())
    torch.testing.assert_close(value, theirs.log_prob(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [0, 3, 250, 40_000, 1_000_000])
@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.2])
def test_float32_keeps_the_decimals_of_large_counts(count, ratio):
    theta = np.array([1e-3, 0.5, 40.0, 2e4], dtype=np.float32)
    log_theta = np.log(theta)
    log_mean = np.log(np.full(4, max(count, 1) * ratio, dtype=np.float32))
    # What float32 makes of the parameters is what scipy gets, too.
    mean, theta = np.exp(log_mean.astype(float)), np.exp(log_theta.astype(float))
    x = torch.full((4,), float(count))
    value = negative_binomial_log_prob(x, torch.tensor(log_mean), torch.tensor(log_theta))
    assert value.dtype == torch.float32
    expected = scipy.stats.nbinom.logpmf(count, theta, theta / (theta + mean))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-3)
    value = poisson_log_prob(x, torch.tensor(log_mean))
    expected = scipy.stats.poisson.logpmf(count, mean)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("logit_zero", [-30.0, -1.0, 0.5, 30.0])
def test_zero_inflation_is_a_mixture(logit_zero):
    x, mean, theta = tensors(*zip(*GRID, strict=True))
    inner = negative_binomial_log_prob(x, mean.log(), theta.log())
    value = zero_inflated_log_prob(x, inner, torch.tensor(logit_zero, dtype=x.dtype))
    pi, kept = scipy.special.expit([logit_zero, -logit_zero])
    with np.errstate(divide="ignore"):
        expected = np.log(pi * (x.numpy() == 0) + kept * np.exp(inner.numpy()))
    seen = np.isfinite(expected)
    np.testing.assert_allclose(value[seen], expected[seen], rtol=1e-6, atol=1e-9)


def test_negative_binomial_sums_to_one_with_the_right_moments():
    x = torch.arange(4000, dtype=torch.float64)
    log_prob = negative_binomial_log_prob(x, *tensors(np.log(12.0), np.log(1.7)))
    p = log_prob.exp()
    assert p.sum().item() == pytest.approx(1)
    mean = (p * x).sum().item()
    assert mean == pytest.approx(12.0)
    assert (p * x**2).sum().item() - mean**2 == pytest.approx(12.0 + 12.0**2 / 1.7)


@settings(max_examples=150, deadline=None)
@given(
    x=st.integers(0, 10**7),
    log_mean=st.floats(-30, 16),
    log_theta=st.floats(-10, 10),
    logit_zero=st.floats(-40, 40),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_are_finite(x, log_mean, log_theta, logit_zero, dtype):
    x, *free = tensors(x, log_mean, log_theta, logit_zero, dtype=dtype)
    log_mean, log_theta, logit_zero = (value.requires_grad_() for value in free)
    inner = negative_binomial_log_prob(x, log_mean, log_theta)
    for value in (
        poisson_log_prob(x, log_mean),
        inner,
        zero_inflated_log_prob(x, inner, logit_zero),
    ):
        assert torch.isfinite(value)
        # Values this large are differences of larger ones, known to some digits only.
        assert value.item() <= 1e-6 * (1 + x.item()) * 20
        inputs = torch.autograd.grad(
            value, (log_mean, log_theta, logit_zero), retain_graph=True, allow_unused=True
        )
        assert all(torch.isfinite(g) for g in inputs if g is not None)


@settings(max_examples=60, deadline=None)
@given(x=st.integers(0, 10**5), mean=st.floats(1e-6, 1e5), theta=st.floats(1e-3, 1e4))
def test_negative_binomial_is_scipys_anywhere(x, mean, theta):
    value = negative_binomial_log_prob(*tensors(x, np.log(mean), np.log(theta))).item()
    assert value == pytest.approx(
        scipy.stats.nbinom.logpmf(x, theta, theta / (theta + mean)), rel=1e-6, abs=1e-5
    )


def test_gradients_are_those_of_differences():
    x = torch.tensor([0.0, 1.0, 40.0], dtype=torch.float64)
    values = [torch.randn(3, dtype=torch.float64).requires_grad_() for _ in range(3)]

    def objective(log_mean, log_theta, logit_zero):
        inner = negative_binomial_log_prob(x, log_mean, log_theta)
        return zero_inflated_log_prob(x, inner, logit_zero) + poisson_log_prob(x, log_mean)

    assert torch.autograd.gradcheck(objective, values)


# ------------------------------------------------------------------ heads


@pytest.mark.parametrize("name", sorted(COUNT_LIKELIHOODS))
def test_heads_of_counts(name):
    torch.manual_seed(0)
    head = LIKELIHOODS[name](2, 4, 5).double()
    hidden = torch.randn(2, 3, 4, dtype=torch.float64)
    library = torch.tensor([[10.0, 200.0, 0.0]] * 2, dtype=torch.float64)
    mean = head.log_mean(hidden, library).exp()
    # Rates are shares of the library: their sum is it, and a cell without counts expects none.
    torch.testing.assert_close(mean.sum(-1), library, atol=1e-6, rtol=1e-9)
    assert (head.expected(hidden, library) <= mean).all()
    value = head.log_prob(torch.zeros(2, 3, 5, dtype=torch.float64), hidden, library)
    assert value.shape == (2, 3)
    # Zeros are certain where the library is empty, and ever less likely as it grows.
    torch.testing.assert_close(value[:, 2], torch.zeros(2).double(), atol=1e-6, rtol=0)
    assert (value[:, 1] < value[:, 0]).all()


def test_heads_start_at_the_genes_shares():
    head = LIKELIHOODS["nb"](1, 4, 3).double()
    shares = torch.tensor([0.9, 0.1, 0.0], dtype=torch.float64)
    head.start_at(shares)
    with torch.no_grad():
        head.logits.weight.zero_()
        rates = head.expected(torch.zeros(1, 1, 4).double(), torch.ones(1, 1).double())[0, 0]
    # Up to the noise of the initial biases, which are at most 1/2 here.
    assert 9 / np.e <= rates[0] / rates[1] <= 9 * np.e
    assert torch.isfinite(rates.log()).all()


def test_the_inferred_library_size_is_that_of_the_counts(tissue):
    """Counts say well how deep a cell was sequenced: q(l|x) is near the observed size."""
    X = tissue.X.toarray()
    model = quick(likelihood="nb", library="inferred", max_epochs=150, n_estimators=1)
    model.fit(X, tissue.coords)
    library = model.module_.library
    observed = np.log(X.sum(axis=1))
    with torch.no_grad():
        mean, log_var = library.posterior(torch.tensor(np.log1p(X), dtype=torch.float32)[None])
    # The number of counts varies about the size that the cell would be expected to have.
    assert np.corrcoef(mean[0, :, 0], observed)[0, 1] > 0.8
    assert np.abs(mean[0, :, 0].numpy() - observed).mean() < 0.2
    # The prior is that of the reference, and narrow is the posterior.
    np.testing.assert_allclose(library.prior, [observed.mean(), np.log(observed.var())], rtol=1e-4)
    assert (log_var < library.prior[1]).float().mean() > 0.9
    assert model.inverse_transform(model.transform(X)).shape == X.shape
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X[:5]), model.predict(X[:5]))


def test_divergence_of_the_inferred_library_size_is_torchs():
    torch.manual_seed(0)
    module = DPVAE(6, 2, hidden_layer_sizes=(8,), likelihood="poisson", infer_library=True)
    module.library.start_at(7.0, 0.2)
    counts = torch.poisson(torch.full((1, 4, 6), 30.0))
    plain = DPVAE(6, 2, hidden_layer_sizes=(8,), likelihood="poisson")
    plain.load_state_dict(module.state_dict(), strict=False)
    torch.manual_seed(1)
    with_library = module(counts, counts=counts)
    torch.manual_seed(1)
    without = plain(counts)
    mean, log_var = module.library.posterior(counts.log1p())
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_var).exp()), normal(7.0, 0.2**0.5)
    )
    torch.testing.assert_close(with_library["kl"] - without["kl"], expected[..., 0])
    assert with_library["library"].shape == (1, 4)


def test_an_inferred_library_size_needs_counts(tissue):
    with pytest.raises(ValueError, match='library="inferred" needs a likelihood of counts'):
        quick(library="inferred").fit(tissue.X, tissue.coords)


def test_an_inferred_library_size_beside_components(tissue):
    pipe = make_spatial_pipeline(
        likelihood="nb", library="inferred", max_epochs=3, n_estimators=2,
        n_calibration_folds=None, early_stopping=True, random_state=0,
    )  # fmt: skip
    pipe.fit(tissue.X, tissue.coords, sections=tissue.sections, batch=tissue.sections)
    assert np.isfinite(pipe["dpvae"].history_[-1]["valid_elbo"])
    assert pipe.predict(tissue.X).shape == tissue.coords.shape


def test_dispersion_is_recovered_from_simulated_counts():
    """Gene-wise theta and means, from counts of one state only, by maximum likelihood."""
    rng = np.random.default_rng(0)
    theta, mean = np.array([0.5, 2.0, 8.0, 30.0]), np.array([40.0, 60.0, 80.0, 120.0])
    counts = rng.negative_binomial(theta, theta / (theta + mean), size=(4000, 4))
    head = LIKELIHOODS["nb"](1, 1, 4).double()
    x = torch.from_numpy(counts).double()[None]
    # The library is given: a constant one leaves the simulated dispersion as it is.
    library = torch.full((1, 4000), mean.sum(), dtype=torch.float64)
    hidden = torch.zeros(1, 4000, 1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = -head.log_prob(x, hidden, library).mean()
        value.backward()
        return value

    optimizer.step(loss)
    np.testing.assert_allclose(head.log_theta.exp().flatten().detach(), theta, rtol=0.15)
    expected = head.expected(hidden[:, :1], library[:, :1]).flatten().detach()
    np.testing.assert_allclose(expected, mean, rtol=0.1)


# ------------------------------------------------------------------ the estimator


@pytest.mark.parametrize("likelihood", sorted(COUNT_LIKELIHOODS))
def test_counts_alone_teach_positions(tissue, likelihood):
    held_out = np.arange(300) % 4 == 0
    # To Poisson's likelihood all the overdispersion is signal, which drowns the distances
    # unless it counts less than one by the number of genes.
    weight = 1e-3 if likelihood == "poisson" else "per_gene"
    model = quick(likelihood=likelihood, max_epochs=100, elbo_weight=weight)
    X = tissue.X[~held_out]
    model.fit(X, tissue.coords[~held_out], sections=tissue.sections[~held_out])
    score = model.score(
        tissue.X[held_out], tissue.coords[held_out], sections=tissue.sections[held_out]
    )
    assert score > 0.3
    # Decoded counts are of a median library and follow the genes' means.
    decoded = model.inverse_transform(model.transform(X))
    assert decoded.shape == X.shape
    if likelihood != "zinb":
        np.testing.assert_allclose(decoded.sum(1), model.library_size_, rtol=1e-5)
    correlation = np.corrcoef(np.log1p(decoded.mean(0)), np.log1p(X.toarray().mean(0)))[0, 1]
    assert correlation > 0.95


def test_simulated_means_are_recovered_better_than_by_the_gene_means(tissue):
    """Expected counts against the true intensities, which smooth along the tissue."""
    rng = np.random.default_rng(0)
    coords = tissue.coords[:150] / np.abs(tissue.coords[:150]).max()
    log_rate = coords @ rng.normal(size=(2, 30)) + rng.normal(size=30)
    rate = np.exp(log_rate)
    mean = 500 * rate / rate.sum(1, keepdims=True)
    counts = rng.negative_binomial(5.0, 5.0 / (5.0 + mean))
    model = quick(likelihood="nb", max_epochs=250, dropout=0.0).fit(counts, coords)
    decoded = model.inverse_transform(model.transform(counts), library_size=500)
    error = np.mean((np.log(decoded) - np.log(mean)) ** 2)
    assert error < 0.4 * np.mean((np.log(mean.mean(0)) - np.log(mean)) ** 2)


def test_the_depth_of_a_cell_does_not_move_it(tissue):
    X = tissue.X.astype(np.float64)
    model = quick(likelihood="nb").fit(X, tissue.coords, sections=tissue.sections)
    np.testing.assert_allclose(model.predict(3 * X), model.predict(X), rtol=1e-5)


def test_sparse_and_dense_counts_agree(tissue):
    X = tissue.X
    dense = quick(likelihood="nb").fit(X.toarray(), tissue.coords).predict(X.toarray())
    sparse = quick(likelihood="nb").fit(X, tissue.coords).predict(sp.csr_array(X))
    # Moments of the genes differ in the last digit, which training amplifies.
    assert procrustes_disparity(dense, sparse) < 1e-4


def test_cells_without_counts_are_finite(tissue):
    X = tissue.X.toarray()
    X[:3] = 0
    X[:, 7] = 0
    model = quick(likelihood="zinb").fit(X, tissue.coords)
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(model.history_[-1]["loss"])


def test_counts_beside_the_encoders_input(tissue):
    Z = SectionScaler().fit_transform(LogNormalizer().fit_transform(tissue.X))[:, :20]
    model = quick(likelihood="nb").fit(Z, tissue.coords, counts=tissue.X)
    assert model.n_features_in_ == 20
    decoded = model.inverse_transform(model.transform(Z))
    assert decoded.shape == tissue.X.shape
    np.testing.assert_allclose(decoded.sum(1), np.median(tissue.X.toarray().sum(1)), rtol=1e-5)
    one = model.inverse_transform(model.transform(Z)[:2], library_size=[1.0, 1000.0])
    np.testing.assert_allclose(one.sum(1), [1.0, 1000.0], rtol=1e-5)
    # Gaussian models have no use for them.
    plain, with_counts = quick().fit(Z, tissue.coords), quick()
    with_counts.fit(Z, tissue.coords, counts=tissue.X)
    np.testing.assert_array_equal(plain.predict(Z), with_counts.predict(Z))
    model.partial_fit(Z, tissue.coords, counts=tissue.X)
    with pytest.raises(ValueError, match="fitted with counts="):
        model.partial_fit(Z, tissue.coords)
    with pytest.raises(ValueError, match="columns"):
        model.partial_fit(Z, tissue.coords, counts=tissue.X[:, :9])


def test_search_slices_counts(tissue):
    Z = LogNormalizer().fit_transform(tissue.X)
    search = GridSearchCV(quick(), {"likelihood": ["gaussian", "nb"]}, cv=2)
    search.fit(Z, tissue.coords, counts=tissue.X, sections=tissue.sections)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("X", "params", "message"),
    [
        (lambda X: X.toarray() - 1.0, {}, "Negative values"),
        (lambda X: X, {"counts": lambda X: X * 0}, "no count above 0"),
        (lambda X: X, {"counts": lambda X: X[:-1]}, "rows but X has"),
        (lambda X: X, {"counts": lambda X: -X}, "Negative values in data passed to counts"),
        (lambda X: X, {"counts": lambda X: X * np.nan}, "NaN"),
    ],
)
def test_bad_counts(tissue, X, params, message):
    model = quick(likelihood="nb")
    with pytest.raises(ValueError, match=message):
        model.fit(X(tissue.X), tissue.coords, **{k: f(tissue.X) for k, f in params.items()})
    assert not hasattr(model, "fitted_")


def test_bad_library_size(tissue):
    model = quick(likelihood="nb").fit(tissue.X, tissue.coords)
    for bad in (-1.0, [1.0, 2.0], np.nan):
        with pytest.raises(ValueError, match="library_size"):
            model.inverse_transform(np.zeros((3, 2)), library_size=bad)


def test_float64_module_answers_what_float32_does(tissue):
    torch.manual_seed(0)
    module = DPVAE(60, 2, likelihood="zinb").eval()
    x = torch.from_numpy(tissue.X.toarray()).float()
    a, _ = module.encode(x)
    b, _ = module.double().encode(x.double())
    torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------ the pipeline


SMALL = {
    "n_top_genes": 25,
    "hidden_layer_sizes": (16,),
    "max_epochs": 2,
    "n_estimators": 2,
    "random_state": 0,
}


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("n_spatial_components", [5, None])
def test_pipelines_carry_the_counts_of_selected_genes(tissue, routing, n_spatial_components):
    pipe = make_spatial_pipeline(
        likelihood="nb",
        n_thinned=0,
        n_calibration_folds=None,
        n_spatial_components=n_spatial_components,
        **SMALL,
    )
    labels = {"sections": tissue.sections}
    with config_context(enable_metadata_routing=routing):
        pipe.fit(tissue.X, tissue.coords, batch=tissue.sections, **labels)
        predicted = pipe.predict(tissue.X, **labels)
    # The same by hand.
    by_hand = clone(pipe[:-1]).fit(tissue.X, tissue.coords, **labels)
    genes = by_hand["genes"].get_support()
    Z = by_hand.fit_transform(tissue.X, tissue.coords, **labels)
    model = clone(pipe[-1]).fit(
        Z, tissue.coords, counts=tissue.X[:, genes], batch=tissue.sections, **labels
    )
    np.testing.assert_allclose(predicted, model.predict(Z, **labels), rtol=1e-6)
    decoded = pipe[-1].inverse_transform(pipe.transform(tissue.X, **labels))
    assert decoded.shape == (300, 25)


def test_pipelines_of_counts_in_other_ways(tissue):
    frame = pd.DataFrame(tissue.X.toarray(), columns=tissue.genes)
    pipe = make_spatial_pipeline(n_calibration_folds=None, likelihood="poisson", **SMALL)
    Z = pipe.fit_transform(frame, tissue.coords)
    np.testing.assert_allclose(Z, pipe.transform(frame), rtol=1e-6)
    pipe.partial_fit(frame, tissue.coords)
    explicit = make_spatial_pipeline(n_calibration_folds=None, likelihood="poisson", **SMALL)
    explicit.fit(frame, tissue.coords, counts=tissue.X[:, :7])
    assert pipe["dpvae"].inverse_transform(Z).shape == (300, 25)
    assert explicit["dpvae"].inverse_transform(Z).shape == (300, 7)
    search = GridSearchCV(pipe, {"dpvae__likelihood": ["gaussian", "nb"]}, cv=2)
    search.fit(tissue.X, tissue.coords, sections=tissue.sections)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert procrustes_disparity(tissue.coords, search.predict(tissue.X)) < 1
