"""The training loop: its random masks, its memory, and what it must not do in a step."""

import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from skorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode
from training_parts import reference

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae._fitted import encoding
from sklearn_dpvae._network.losses import distance_preservation, procrustes_misfit
from sklearn_dpvae._network.noise import Dropout, GaussianNoise, dropout_mask, random_bits
from sklearn_dpvae._network.objective import Step, alignment, distance
from sklearn_dpvae._training.batches import Batches

# ------------------------------------------------------------------ dropout


def bits_of(words):
    """The single bits of int64 words, as 0 and 1."""
    return np.unpackbits(words.numpy().view(np.uint8))


@pytest.mark.parametrize("eighths", range(1, 8))
def test_random_bits_have_exactly_the_probability(eighths, monkeypatch):
    """Of all combinations of three binary digits, as many give a 1 as the probability says."""

    def every_combination(digits, *_, **options):
        lanes = torch.arange(64) % 8
        for place in range(len(digits)):
            # Fewer digits are drawn where the last ones of the probability are 0.
            digit = lanes >> (place + 3 - len(digits)) & 1
            digits[place] = sum(int(b) << k for k, b in enumerate(digit)) - (
                2**64 if digit[63] else 0
            )
        return digits

    monkeypatch.setattr(torch.Tensor, "random_", every_combination)
    assert bits_of(random_bits(1, eighths / 8, 3)).sum() == 8 * eighths


@pytest.mark.parametrize("p", [0.5, 0.3, 0.05, 0.99])
def test_masks_are_bernoulli(p):
    torch.manual_seed(0)
    n = 200_000
    mask = dropout_mask(torch.Size([n]), p)
    assert set(mask.unique().tolist()) == {0.0, np.float32(1 / (1 - p))}
    dropped = (mask == 0).numpy()
    assert stats.binomtest(int(dropped.sum()), n, p).pvalue > 1e-3
    # Neighbors, elements of one word, and elements of one place are independent.
    for lag in (1, 32, 64):
        both = dropped[:-lag] & dropped[lag:]
        assert both.mean() == pytest.approx(p * p, abs=5 * np.sqrt(2 * p**2 / n))


def test_masks_are_new_at_each_step_and_the_same_for_a_seed():
    x = torch.ones(3, 17, 5)
    layer = Dropout(0.4)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    torch.testing.assert_close(layer(x), first, rtol=0, atol=0)


def test_gradient_passes_where_the_value_did():
    x = torch.randn(4, 50, requires_grad=True)
    y = Dropout(0.25)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(y, x * gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_dropped_in_evaluation_or_at_zero(dtype):
    x = torch.randn(4, 5, dtype=dtype)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    dropped = Dropout(0.5)(x)
    assert dropped.dtype == dtype
    assert ((dropped == 0) | torch.isclose(dropped, 2 * x)).all()


def test_noise_is_added_in_training_only():
    x = torch.zeros(3, 4000, 5, requires_grad=True)
    layer = GaussianNoise(0.3)
    torch.manual_seed(0)
    noisy = layer(x)
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02)
    assert not torch.equal(noisy[0], noisy[1])
    noisy.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))
    assert layer.eval()(x) is x
    assert GaussianNoise(0.0)(x) is x


def test_the_decoder_explains_inputs_without_noise(monkeypatch):
    seen = {}

    def remember(self, x):
        seen["noise"] = self.std
        return x + 100.0

    monkeypatch.setattr(GaussianNoise, "forward", remember)
    rng = np.random.default_rng(0)
    X, coords = rng.normal(size=(60, 4)).astype(np.float32), rng.uniform(size=(60, 2))
    model = quick(input_noise=0.5).fit(X, coords)
    assert seen["noise"] == 0.5
    # Not 100 ** 2 / 2, which inputs with that noise would cost.
    assert model.history_[0]["reconstruction"] < 100


# ------------------------------------------------------------------ memory


def quick(**params):
    return DPVAESpatialRegressor(
        **{
            "n_estimators": 1,
            "hidden_layer_sizes": (8,),
            "max_epochs": 1,
            "batch_size": 512,
            "device": "cpu",
            "random_state": 0,
        }
        | params
    )


@pytest.mark.parametrize("kind", ["csr", "float32", "float64"])
def test_fit_copies_x_neither_whole_nor_dense(kind, monkeypatch):
    monkeypatch.setattr(encoding, "_ROWS_PER_CHUNK", 256)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5000, 1600), dtype=np.float32)
    size = X.nbytes
    if kind == "csr":
        # Half of the values, each with its column: as large as the dense matrix.
        X = sp.csr_matrix(np.where(X > 0, X, 0))
        size = X.data.nbytes + X.indices.nbytes
    elif kind == "float64":
        X = X.astype(np.float64)
        size = X.nbytes
    coords = rng.uniform(size=(5000, 2))
    quick().fit(X[:50], coords[:50])  # what is imported on the way does not count
    tracemalloc.start()
    try:
        quick(batch_size=128).fit(X, coords)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * size


def test_batches_keep_the_matrix_that_they_are_given():
    X = sp.random(40, 10, density=0.3, format="csr", dtype=np.float32, random_state=0)
    batches = Batches(reference(X, np.zeros((40, 2))), [np.arange(40)], 8, seed=0)
    buffers = set()
    seen = []
    for given, _ in batches:
        seen.append(given["x"][0].sum(1).clone())
        buffers.add(given["x"].data_ptr())
    assert batches._x.X is X
    assert len(buffers) == 1
    expected = np.sort(np.asarray(X.sum(axis=1)).ravel())
    np.testing.assert_allclose(np.sort(torch.cat(seen)), expected, rtol=1e-5)


def peak_of(code):
    """Growth of the peak of a fresh process's memory over a piece of code, in MB."""
    script = """
        import torch
        from sklearn_dpvae import DPVAESpatialRegressor
        from sklearn_dpvae._network.losses import distance_preservation
        torch.set_num_threads(1)
        def peak():
            # Not ru_maxrss, which starts at that of the process that started this one.
            lines = open("/proc/self/status").read().splitlines()
            return int(next(l.split()[1] for l in lines if l.startswith("VmHWM"))) / 1024
        z, s = torch.randn(20_000, 2, requires_grad=True), torch.randn(20_000, 2)
        before = peak()
    """
    script = textwrap.dedent(script) + f"{code}\nprint(peak() - before)\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pairs_of_20_000_cells_take_little_memory():
    """The distances alone would take 1.6 GB, and automatic differentiation several of them."""
    assert peak_of("distance_preservation(z, s, torch.ones(())).backward()") < 200


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_full_batch_of_20_000_cells_trains_in_little_memory():
    fit = (
        "X = torch.randn(20_000, 30).numpy()\n"
        "DPVAESpatialRegressor(n_estimators=1, batch_size=None, max_epochs=3, device='cpu')"
        ".fit(X, s.numpy())"
    )
    assert peak_of(fit) < 1500


# ------------------------------------------------------------------ the step


class Reads(TorchDispatchMode):
    """Counts values that are read from tensors: on a GPU each one waits for all work."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += "_local_scalar_dense" in str(function)
        return function(*args, **(kwargs or {}))


class CountReads(Callback):
    """The reads of one step without the optimizer's, which differ by device."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        batch = next(iter(X))
        with Reads() as self.reads:
            net.train_step_single(batch)


@pytest.mark.parametrize(
    "params",
    [{}, {"n_components": 3}, {"n_estimators": 3}, {"distance_loss": "huber"}],
    ids=str,
)
def test_a_step_reads_no_value_from_the_device(tissue, params):
    counter = CountReads()
    quick(callbacks=[counter], batch_size=64, **params).fit(
        tissue.X, tissue.coords, sections=tissue.sections
    )
    assert counter.reads.count == 0


class Products(TorchDispatchMode):
    """Types of what batched matrix products return, the forward pass's and the gradients'."""

    def __init__(self):
        super().__init__()
        self.types = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if "bmm" in str(function):
            self.types.append(found.dtype)
        return found


class WatchStep(Callback):
    """One step before training, and the gradient of the terms on positions."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        inputs, given = next(iter(X))
        with Products() as products:
            step = net.train_step_single((inputs, given))
        self.products = set(products.types)
        self.terms = step["measured"]
        self.grads = {p.grad.dtype for p in net.module_.parameters() if p.grad is not None}
        z = step["y_pred"]["z"].detach().requires_grad_()
        looked_at = Step(net.module_, {**step["y_pred"], "z": z}, given)
        terms = distance(looked_at) + alignment(looked_at)
        (self.grad,) = torch.autograd.grad(terms.sum(), z)
        alone = distance_preservation(z, given["s"], net.module_.scale.detach())
        alone = alone + procrustes_misfit(z, given["s"])
        (self.exact_grad,) = torch.autograd.grad(alone.sum(), z)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "zinb"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_that_of_the_networks_products_alone(tissue, likelihood, precision):
    watch = WatchStep()
    model = quick(callbacks=[watch], precision=precision, likelihood=likelihood)
    model.fit(tissue.X, tissue.coords)
    # The terms on positions have products of their own.
    assert watch.products == {torch.float32, getattr(torch, precision)}
    assert watch.terms.dtype == watch.grad.dtype == torch.float32
    assert watch.grads == {torch.float32}
    torch.testing.assert_close(watch.grad, watch.exact_grad)


def test_rounded_products_change_the_loss_by_their_rounding_only(tissue):
    """Eight bits of each factor: the terms of the first step move by some parts in a thousand."""
    terms = {}
    for precision in ("float32", "bfloat16"):
        watch = WatchStep()
        quick(callbacks=[watch], precision=precision).fit(tissue.X, tissue.coords)
        terms[precision] = watch.terms.detach()
    apart = (terms["bfloat16"] - terms["float32"]).abs() / terms["float32"].abs()
    assert 0 < apart.max() < 0.02


class WatchOptimizer(Callback):
    def on_train_begin(self, net, **kwargs):
        self.fused = net.optimizer_.defaults["fused"]


def test_the_optimizer_is_one_kernel(tissue):
    watch = WatchOptimizer()
    quick(callbacks=[watch]).fit(tissue.X, tissue.coords)
    assert watch.fused


class Modes(Callback):
    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_batch_end(self, net, **kwargs):
        self.seen.append(net.module_.training)


def test_every_step_is_in_training_mode(tissue):
    """Also after the held-out cells were looked at in evaluation mode."""
    modes = Modes()
    model = quick(callbacks=[modes], max_epochs=4, batch_size=64, early_stopping=True)
    model.fit(tissue.X, tissue.coords)
    assert len(modes.seen) > 4
    assert all(modes.seen)
    assert not model.module_.training
