"""Model files: bit-identical round trips, and refusal of everything that is not one."""

import hashlib
import json
import os
import pickle
import re
import zipfile

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

import sklearn_dpvae
from sklearn_dpvae import DPVAESpatialRegressor, SpatialPipeline, make_spatial_pipeline
from sklearn_dpvae._network.likelihoods import LIKELIHOODS
from sklearn_dpvae._persistence import load, save
from sklearn_dpvae._persistence.archive import FORMAT_VERSION
from sklearn_dpvae._persistence.registry import is_attribute
from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.feature_selection import HighlyVariableGenes
from sklearn_dpvae.preprocessing import LogNormalizer

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


@pytest.fixture
def fitted(tissue):
    model = make_spatial_pipeline(**SMALL)
    return model.fit(tissue.X, tissue.coords, sections=tissue.sections)


@pytest.fixture
def path(fitted, tmp_path):
    path = tmp_path / "tissue.dpvae"
    save(fitted, path)
    return path


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, members, *, resign=True):
    """Write members, with true checksums unless told otherwise."""
    manifest = json.loads(members["manifest.json"])
    if resign:
        manifest["sha256"] = {
            name: hashlib.sha256(data).hexdigest()
            for name, data in members.items()
            if name != "manifest.json"
        }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**members, "manifest.json": json.dumps(manifest)}.items():
            archive.writestr(name, data)


def edit_model(path, old, new):
    """Replace text in the tree of objects and sign it anew, as an attacker would."""
    members = members_of(path)
    assert old.encode() in members["model.json"]
    members["model.json"] = members["model.json"].replace(old.encode(), new.encode())
    write(path, members)


def test_pipeline_predicts_the_same_bits(fitted, path, tissue):
    loaded = load(path)
    assert isinstance(loaded, SpatialPipeline)
    for method in ("predict", "transform"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(tissue.X, sections=tissue.sections),
            getattr(fitted, method)(tissue.X, sections=tissue.sections),
            strict=True,
        )
    anchors = ([0, 5, 9, 150, 160, 170], tissue.coords[[0, 5, 9, 150, 160, 170]])
    keywords = {"anchors": anchors, "sections": tissue.sections}
    np.testing.assert_array_equal(
        loaded.predict(tissue.X, **keywords), fitted.predict(tissue.X, **keywords)
    )
    latents = fitted.transform(tissue.X)
    np.testing.assert_array_equal(
        loaded[-1].inverse_transform(latents), fitted[-1].inverse_transform(latents)
    )


def test_attributes_and_parameters_come_back(fitted, path):
    loaded = load(path)
    assert repr(loaded) == repr(fitted)
    for (_, step), (_, other) in zip(fitted.steps, loaded.steps, strict=True):
        assert vars(step).keys() == vars(other).keys()
    assert loaded[-1].history_ == fitted[-1].history_
    assert loaded[-1].scale_ == fitted[-1].scale_
    assert len(loaded[-1].history_) == 2
    assert not loaded[-1].module_.training
    assert list(loaded[-1].module_.state_dict()) == list(fitted[-1].module_.state_dict())


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
@pytest.mark.parametrize("n_components", [2, 3])
def test_regressor_alone(tissue, tmp_path, likelihood, n_components):
    X = tissue.X[:80].toarray()
    model = DPVAESpatialRegressor(n_components, likelihood=likelihood, **SMALL)
    model.fit(X, tissue.coords[:80])
    save(model, tmp_path / "model.dpvae")
    loaded = load(str(tmp_path / "model.dpvae"))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X), strict=True)
    assert loaded.get_params() == model.get_params()


def test_names_of_genes_and_output_settings_come_back(tissue, tmp_path):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(tissue.X[:80].toarray(), columns=tissue.genes)
    model = SpatialPipeline(
        [("normalize", LogNormalizer()), ("dpvae", DPVAESpatialRegressor(**SMALL))]
    )
    model.set_output(transform="pandas").fit(X, tissue.coords[:80])
    save(model, tmp_path / "model.dpvae")
    loaded = load(tmp_path / "model.dpvae")
    np.testing.assert_array_equal(loaded.feature_names_in_, tissue.genes.astype(object))
    pandas.testing.assert_frame_equal(loaded.transform(X), model.transform(X))


@pytest.mark.parametrize(
    "step",
    [
        PCA(5, whiten=True, random_state=0),
        TruncatedSVD(5, random_state=0),
        StandardScaler(),
        MinMaxScaler(),
        MaxAbsScaler(),
        RobustScaler(),
        Normalizer(),
        VarianceThreshold(),
        SpatialPCA(5),
        HighlyVariableGenes(20),
        "passthrough",
    ],
    ids=lambda step: type(step).__name__,
)
def test_steps_of_scikit_learn_and_of_this_package(tissue, tmp_path, step):
    X = np.log1p(tissue.X[:80].toarray())
    model = Pipeline([("step", step), ("dpvae", DPVAESpatialRegressor(**SMALL))])
    model.fit(X, tissue.coords[:80])
    save(model, tmp_path / "model.dpvae")
    loaded = load(tmp_path / "model.dpvae")
    assert type(loaded) is Pipeline
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X), strict=True)


@pytest.mark.parametrize("order", ["C", "F", "sliced", "transposed"])
def test_arrays_keep_the_order_of_their_axes(tmp_path, order):
    """Products of matrices in another order differ in their last bits."""
    full = np.random.default_rng(0).normal(size=(40, 60))
    array = {"C": full, "F": full.T, "sliced": full[:, ::2], "transposed": full.T[::2]}[order]
    scaler = StandardScaler()
    scaler.mean_ = array
    save(Pipeline([("scale", scaler)]), tmp_path / "model.dpvae")
    loaded = load(tmp_path / "model.dpvae")[0].mean_
    np.testing.assert_array_equal(loaded, array, strict=True)
    assert np.argsort(loaded.strides).tolist() == np.argsort(array.strides).tolist()


def test_unfitted_models_too(tmp_path):
    save(make_spatial_pipeline(lr=0.25), tmp_path / "model.dpvae")
    assert load(tmp_path / "model.dpvae").get_params()["dpvae__lr"] == 0.25


def test_loaded_model_goes_on_as_the_saved_one(fitted, path, tissue):
    loaded = load(path)
    for model in (fitted, loaded):
        model.partial_fit(tissue.X[:150], tissue.coords[:150])
    np.testing.assert_array_equal(loaded.predict(tissue.X), fitted.predict(tissue.X))


def test_equal_models_are_equal_files_and_saving_again_changes_nothing(fitted, path, tmp_path):
    save(load(path), tmp_path / "again.dpvae")
    assert (tmp_path / "again.dpvae").read_bytes() == path.read_bytes()


def test_random_state_instance_keeps_its_state(tmp_path):
    rng = np.random.RandomState(3)
    rng.normal()
    save(DPVAESpatialRegressor(random_state=rng), tmp_path / "model.dpvae")
    loaded = load(tmp_path / "model.dpvae")
    assert loaded.random_state is not rng
    np.testing.assert_array_equal(loaded.random_state.normal(size=9), rng.normal(size=9))


def test_callbacks_and_caches_are_left_out_with_a_warning(tmp_path):
    model = make_spatial_pipeline(
        callbacks=[print], memory=joblib.Memory(tmp_path / "cache", verbose=0)
    )
    with pytest.warns(UserWarning) as caught:
        save(model, tmp_path / "model.dpvae")
    text = " ".join(str(warning.message) for warning in caught)
    assert "callbacks holds callbacks" in text
    assert "memory holds a cache" in text
    loaded = load(tmp_path / "model.dpvae")
    assert loaded.memory is None
    assert loaded[-1].callbacks is None


def test_unknown_objects_are_refused_and_no_file_is_left(tissue, tmp_path):
    model = SpatialPipeline(
        [("log", FunctionTransformer(np.log1p)), ("dpvae", DPVAESpatialRegressor())]
    )
    with pytest.raises(TypeError, match=r"steps\[0\]\[1\] is a sklearn.*FunctionTransformer"):
        save(model, tmp_path / "model.dpvae")
    with pytest.raises(TypeError, match="dtype object"):
        save(DPVAESpatialRegressor(lr=np.array([object()])), tmp_path / "model.dpvae")
    assert not list(tmp_path.iterdir())


def test_failure_leaves_the_older_file(path, fitted, monkeypatch):
    before = path.read_bytes()

    def fail(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match="no space"):
        save(fitted.set_params(dpvae__lr=0.1), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"damaged or cut short|not a model file"):
        load(path)


def test_flipped_bits_are_refused_or_do_not_matter(path, fitted, tissue):
    """Bits that are left to flip unseen are those of zip's dates and flags."""
    data = path.read_bytes()
    truth = fitted.predict(tissue.X[:20])
    rng = np.random.default_rng(0)
    refused = 0
    positions = [*rng.integers(len(data), size=15), *rng.integers(len(data) - 900, len(data), 25)]
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            loaded = load(path)
        except ValueError:
            refused += 1
        else:
            np.testing.assert_array_equal(loaded.predict(tissue.X[:20]), truth)
    assert refused > 20


def test_changed_weights_are_refused(path):
    members = members_of(path)
    name = max(members, key=lambda name: len(members[name]))
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    write(path, members, resign=False)
    with pytest.raises(ValueError, match=r"checksum of .* does not match"):
        load(path)


def test_missing_and_extra_members_are_refused(path, tmp_path):
    members = members_of(path)
    for changed in (
        {**members, "extra.txt": b""},
        {k: v for k, v in members.items() if "/3." not in k},
    ):
        write(tmp_path / "changed.dpvae", changed, resign=False)
        with pytest.raises(ValueError, match=r"differ in (extra.txt|arrays/3.npy)"):
            load(tmp_path / "changed.dpvae")


def test_compressed_members_are_refused(path):
    members = members_of(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match="repacked with compression"):
        load(path)


def of_another_version(path, format_version, version="9.0"):
    members = members_of(path)
    manifest = json.loads(members["manifest.json"])
    manifest["format_version"] = format_version
    manifest["versions"]["sklearn_dpvae"] = version
    write(path, {**members, "manifest.json": json.dumps(manifest).encode()})


def said_in_one_line(path):
    with pytest.raises(ValueError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_newer_and_unreleased_formats_are_refused(path):
    of_another_version(path, FORMAT_VERSION + 1)
    assert re.search(
        r"version 3.*reads up to version 2.*9\.0.*pip install --upgrade", said_in_one_line(path)
    )
    of_another_version(path, 1)
    assert "format version 1, which was never released" in said_in_one_line(path)


def test_classes_of_newer_versions_are_refused(path):
    of_another_version(path, FORMAT_VERSION)
    edit_model(path, "preprocessing.LogNormalizer", "preprocessing.LaterNormalizer")
    assert re.search(
        r"sklearn_dpvae\.preprocessing\.LaterNormalizer is not a class that this version knows.*"
        rf"written by sklearn-dpvae 9\.0; this is {sklearn_dpvae.__version__}",
        said_in_one_line(path),
    )


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04hello", b"\x80\x04N."])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ValueError, match=r"not a model file|damaged"):
        load(tmp_path / "other")


@pytest.mark.parametrize("content", [b"null", b"[]", b"3"])
def test_files_that_hold_no_model_are_refused(path, content):
    write(path, {**members_of(path), "model.json": content})
    with pytest.raises(ValueError, match="holds no model, but an object of type"):
        load(path)


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, np.zeros(3)])
def test_only_models_are_saved(tmp_path, value):
    with pytest.raises(TypeError, match="save keeps fitted estimators and SpatialModel, got"):
        save(value, tmp_path / "value.dpvae")
    assert list(tmp_path.iterdir()) == []


def test_pickles_and_other_archives_are_refused(tmp_path, fitted):
    joblib.dump(fitted, tmp_path / "model.joblib")
    with pytest.raises(ValueError, match=r"joblib\.load reads"):
        load(tmp_path / "model.joblib")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="not a model file"):
        load(tmp_path / "arrays.npz")
    write(tmp_path / "foreign.zip", {"manifest.json": b'{"format": "another"}'})
    with pytest.raises(ValueError, match="not a model file"):
        load(tmp_path / "foreign.zip")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "sklearn_dpvae._persistence.archive.load",
        "sklearn_dpvae.pipeline.Pipeline",
        "sklearn_dpvae._fitted.model.FittedModel",
        "preprocessing.LogNormalizer",
        "sklearn.preprocessing.FunctionTransformer",
        "sklearn_dpvae.cli.main",
        "builtins.eval",
    ],
)
def test_classes_off_the_list_are_never_built(path, name):
    edit_model(path, "sklearn_dpvae.preprocessing.LogNormalizer", name)
    with pytest.raises(ValueError, match="not a class that this version knows"):
        load(path)


@pytest.mark.parametrize("name", ["__class__", "__reduce__", "a b", "1", ""])
def test_attributes_that_python_reads_are_refused(path, name):
    assert not is_attribute(name)
    edit_model(path, '"target_sum_"', json.dumps(name))
    with pytest.raises(ValueError, match="no attribute may have the name"):
        load(path)


def test_arrays_of_pickles_and_of_false_size_are_refused(path, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    members = members_of(path)
    bomb = np.lib.format
    header = {"shape": (1,), "fortran_order": False}
    for descr, content in [("|O", pickle.dumps([Bomb()])), ("<f8", b"\0" * 80)]:
        with open(tmp_path / "a.npy", "wb") as file:
            bomb.write_array_header_1_0(file, {**header, "descr": descr})
            file.write(content)
        write(path, {**members, "arrays/1.npy": (tmp_path / "a.npy").read_bytes()})
        with pytest.raises(ValueError, match="not of the size and type"):
            load(path)
    assert not (tmp_path / "exploded").exists()


def test_parameters_of_another_version(path):
    members = members_of(path)
    tree = json.loads(members["model.json"])
    (steps,) = (params["steps"] for _, params, _ in [tree["$object"]])
    name, params, _ = steps[0]["$tuple"][1]["$object"]
    assert name.endswith("LogNormalizer")
    # A parameter that came later takes its default ...
    params.clear()
    write(path, {**members, "model.json": json.dumps(tree).encode()})
    assert load(path)[0].get_params() == LogNormalizer().get_params()
    # ... and one that is gone is named.
    params["old_name"] = 1
    write(path, {**members, "model.json": json.dumps(tree).encode()})
    with pytest.raises(ValueError, match=r"LogNormalizer has no parameter old_name.*written by"):
        load(path)


def test_steps_of_another_scikit_learn_warn(tissue, path):
    model = Pipeline([("pca", PCA(3)), ("dpvae", DPVAESpatialRegressor())])
    save(model, path)
    members = members_of(path)
    manifest = members["manifest.json"].replace(sklearn.__version__.encode(), b"0.1.dev0")
    write(path, {**members, "manifest.json": manifest})
    with pytest.warns(InconsistentVersionWarning, match=r"PCA from version 0\.1\.dev0"):
        load(path)
