"""What a model file is made of: public names, arguments of constructors, and what was learned."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_dpvae import make_spatial_pipeline, masks
from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae._network.places import PlaceNet
from sklearn_dpvae._persistence import registry, save
from sklearn_dpvae._persistence.codec import Decoder, Encoder
from sklearn_dpvae._persistence.registry import NAMES, class_of, name_of

CONFIG = {"n_genes": 5, "n_components": 2, "n_members": 3, "hidden_layer_sizes": (4, 6)}


def rebuilt(value):
    encoder = Encoder()
    tree = json.loads(json.dumps(encoder.encode(value, "value"), allow_nan=False))
    return Decoder(encoder.members).decode(tree)


@dataclasses.dataclass(frozen=True, eq=False)
class Ruler:
    """Stands for a value of the package."""

    lengths: np.ndarray
    name: str = "meter"
    inner: "Ruler | None" = None


class Learner(BaseEstimator):
    """Stands for an estimator of the package."""

    def __init__(self, alpha=1.0):
        self.alpha = alpha


@pytest.fixture
def register(monkeypatch):
    """Let files name `Ruler` and `Learner`."""
    for cls in (Ruler, Learner):
        monkeypatch.setitem(registry._OWN, cls.__name__, f"metrics.{cls.__name__}")
        monkeypatch.setattr(f"sklearn_dpvae.metrics.{cls.__name__}", cls, raising=False)
    monkeypatch.setattr(registry, "NAMES", (*NAMES, "Ruler", "Learner"))


# Names


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_that_of_one_class(name):
    assert name_of(class_of(name)) == name
    assert not any(part.startswith("_") for part in name.split("."))


def test_public_names_are_where_users_import_from():
    for name in NAMES:
        module, _, attribute = name.rpartition(".")
        if module:
            namespace = __import__(module, fromlist=[attribute])
            assert getattr(namespace, attribute) is class_of(name)


def test_other_classes_have_no_name():
    class StandardScaler:
        """Is not that of scikit-learn."""

    for cls in (dict, FunctionTransformer, StandardScaler, type("FittedModel", (), {})):
        assert name_of(cls) is None
    with pytest.raises(ValueError, match=r"os\.system is not a class"):
        class_of("os.system")


def test_no_private_path_is_in_a_file(tissue, tmp_path):
    model = make_spatial_pipeline(max_epochs=1, mask=masks.KNNMask(5), random_state=0)
    save(model.fit(tissue.X, tissue.coords), tmp_path / "model.dpvae")
    with zipfile.ZipFile(tmp_path / "model.dpvae") as archive:
        content = archive.read("model.json").decode() + archive.read("manifest.json").decode()
    assert "sklearn_dpvae._" not in content
    assert "_fitted." not in content
    assert '"FittedModel"' in content


def test_a_module_that_moves_breaks_no_file(register, monkeypatch):
    encoder = Encoder()
    tree = encoder.encode(Ruler(np.arange(3.0)), "ruler")
    assert tree["$object"][0] == "Ruler"
    monkeypatch.setitem(registry._OWN, "Ruler", "masks.Measure")
    monkeypatch.setattr(masks, "Measure", Learner, raising=False)
    with pytest.raises(ValueError, match="Learner has no parameter inner, lengths, name any more"):
        Decoder(encoder.members).decode(tree)
    monkeypatch.setattr(masks, "Measure", Ruler)
    np.testing.assert_array_equal(Decoder(encoder.members).decode(tree).lengths, np.arange(3.0))


# Values


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, 2**70, "µm", 0.1, -0.0, float("inf"), float("-inf")),
        *((), (1, ("a", [2.5])), [], [None, [1]], {}, {"a": (1,), 3: {"b": None}, (1, 2): "c"}),
        *(np.float32(0.1), np.int64(-3), np.bool_(True), np.str_("x")),
    ],
    ids=repr,
)
def test_plain_values(value):
    back = rebuilt(value)
    assert repr(back) == repr(value)
    assert type(back) is type(value)


def test_nan():
    assert np.isnan(rebuilt(float("nan")))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 0, 3)),
        np.array(3.5),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array(["a", "µm"]),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(12.0, dtype=np.float32).reshape(3, 4)),
        np.array([["a", "b"]], dtype=object),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays(array):
    back = rebuilt(array)
    np.testing.assert_array_equal(back, array, strict=True)
    assert back.flags.f_contiguous == array.flags.f_contiguous
    assert back.flags.c_contiguous == array.flags.c_contiguous


@pytest.mark.parametrize("build", [sp.csr_matrix, sp.csr_array])
def test_sparse_matrices(build):
    matrix = build(np.array([[0, 1.5], [0, 0], [2, 0]], dtype=np.float32))
    back = rebuilt(matrix)
    assert type(back) is type(matrix)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.toarray(), matrix.toarray())


def test_arrays_that_are_shared_are_written_once_and_shared_again(register):
    shared = np.arange(4.0)
    encoder = Encoder()
    tree = encoder.encode(Ruler(shared, inner=Ruler(shared)), "ruler")
    assert len(encoder.members) == 1
    back = Decoder(encoder.members).decode(tree)
    assert back.lengths is back.inner.lengths


# Objects


def test_dataclasses_are_their_fields(register):
    back = rebuilt(Ruler(np.arange(3), inner=Ruler(np.ones(2), "inch")))
    assert type(back) is Ruler
    assert (back.name, back.inner.name) == ("meter", "inch")
    np.testing.assert_array_equal(back.lengths, np.arange(3))


def test_fields_of_other_versions(register):
    encoder = Encoder()
    tree = encoder.encode(Ruler(np.arange(3), "inch"), "ruler")
    fields = tree["$object"][1]
    del fields["name"]
    assert Decoder(encoder.members).decode(tree).name == "meter"
    fields["unit"] = "m"
    with pytest.raises(ValueError, match="Ruler has no parameter unit any more"):
        Decoder(encoder.members).decode(tree)


def test_estimators_are_their_parameters_and_what_they_learned(register):
    learner = Learner(alpha=(1, 2))
    learner.mean_ = np.arange(3.0)
    back = rebuilt(learner)
    assert vars(back).keys() == {"alpha", "mean_"}
    assert back.alpha == (1, 2)
    np.testing.assert_array_equal(back.mean_, learner.mean_)


def test_masks(register):
    mask = rebuilt(masks.KNNMask(7, n_scales=2))
    assert repr(mask) == repr(masks.KNNMask(7, n_scales=2))


def test_refusals_say_where(register):
    with pytest.raises(TypeError, match=r"^ruler\.inner\.lengths\['a'\]\[1\] is a builtins\.set"):
        Encoder().encode(Ruler(np.ones(1), inner=Ruler({"a": [0, {1}]})), "ruler")


# Networks


def network(**config):
    torch.manual_seed(0)
    return DPVAE(**CONFIG | config).eval()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"n_components": (4, 2), "n_batches": 3, "layer_norm": False, "activation": "relu"},
        {"likelihood": "zinb", "n_outputs": 7, "counts_as_input": True, "dropout": 0.5},
    ],
    ids=["plain", "hierarchy", "counts"],
)
def test_networks_are_their_configuration_and_weights(config):
    module = network(**config)
    encoder = Encoder()
    tree = encoder.encode(module, "module")
    assert tree["$object"][1].keys() == module.config.keys()
    back = Decoder(encoder.members).decode(tree)
    assert back.config == module.config
    assert not back.training
    x = torch.arange(20.0).reshape(4, 5)
    for first, second in zip(module.encode(x), back.encode(x), strict=True):
        assert torch.equal(first, second)
    assert torch.equal(back.conditions, module.conditions)
    for first, second in zip(module.parameters(), back.parameters(), strict=True):
        assert first.stride() == second.stride()


def test_networks_for_places_are_kept():
    net = PlaceNet(3, 7, 2).eval()
    net.start_at(torch.arange(12.0).reshape(4, 3) ** 2)
    back = rebuilt(net)
    assert back.config == net.config
    features = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(back.probabilities(features), net.probabilities(features))


def test_building_a_network_leaves_the_global_generator_alone():
    module = network()
    before = torch.random.get_rng_state()
    rebuilt(module)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_networks_that_do_not_fit_their_weights_are_refused(monkeypatch):
    encoder = Encoder()
    tree = encoder.encode(network(), "module")
    _, config, weights = tree["$object"]
    config["n_genes"] = 10**12  # 70 TB
    with pytest.raises(ValueError, match="have another shape or type than the network"):
        Decoder(encoder.members).decode(tree)
    config["n_genes"] = 5
    removed = weights.pop("log_scale")
    with pytest.raises(ValueError, match="differ in the weights log_scale"):
        Decoder(encoder.members).decode(tree)
    weights |= {"log_scale": removed, "more": removed}
    with pytest.raises(ValueError, match="differ in the weights more"):
        Decoder(encoder.members).decode(tree)


def test_modules_of_torch_are_not_known():
    with pytest.raises(TypeError, match=r"torch\.nn\.modules\.linear\.Linear"):
        Encoder().encode(torch.nn.Linear(2, 2), "module")


def test_only_scikit_learns_classes_depend_on_its_version():
    encoder = Encoder()
    tree = encoder.encode([StandardScaler(), masks.KNNMask()], "list")
    decoder = Decoder(encoder.members)
    decoder.decode(tree)
    assert decoder.foreign == {"StandardScaler"}
