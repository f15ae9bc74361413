"""Model files that run no code when they are read.

A file is a zip archive, stored without compression:

* ``manifest.json``: the format, its version, the versions of the packages that wrote it, and
  the sha256 of every other member;
* ``model.json``: the tree of objects, each as the registered name of its class, the arguments of
  its constructor and what it has learned;
* ``arrays/0.npy`` ...: numbers, weights among them, in NumPy's format without pickles.

Only classes of the registry are ever built. Imports the codec.
"""

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.exceptions import InconsistentVersionWarning

from .. import __version__
from .._utils.files import replacing
from .._utils.warn import warn
from .codec import Decoder, Encoder

FORMAT = "sklearn-dpvae model"
FORMAT_VERSION = 2

_MANIFEST, _MODEL = "manifest.json", "model.json"
# What a tree that `save` did not write can make of the decoding.
_MALFORMED = (
    AttributeError,
    IndexError,
    KeyError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)

# A fixed date makes equal models equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


def save(model: Any, path: "str | os.PathLike[str]") -> None:
    """Write a model to a file that runs no code when it is loaded.

    Parameters
    ----------
    model : estimator
        A `DPVAESpatialRegressor`; a `SpatialPipeline` or scikit-learn `Pipeline` of estimators
        of this package and of the scikit-learn transformers named in the notes; or a
        `SpatialModel`, which holds such a pipeline and the names of its genes. Fitted, as a rule.
    path : str or path-like
        File to write. It takes the place of an older one once it is complete, not before.

    Raises
    ------
    TypeError
        If it is no model, or holds an object that the format does not know. The message says
        where.
    OSError
        If the file cannot be written.

    Warns
    -----
    UserWarning
        If the model has callbacks, or a `joblib.Memory` instance as its cache: they are code
        or state of this machine, and are left out.

    See Also
    --------
    load : Read the file.

    Notes
    -----
    A loaded model predicts bit by bit what the saved one does, on the same machine and with the
    same versions of NumPy and torch. It can be fine-tuned by `partial_fit`; the state of the
    optimizer is not kept, neither here nor by the estimator itself.

    Nothing in a file names a module of this package that is private, so that files outlive its
    reorganizations.

    Transformers of scikit-learn that are known: ``StandardScaler``, ``MinMaxScaler``,
    ``MaxAbsScaler``, ``RobustScaler``, ``Normalizer``, ``PCA``, ``TruncatedSVD`` and
    ``VarianceThreshold``. Use joblib for models with other ones.

    A `numpy.random.RandomState` given as `random_state` is saved with its current state.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_dpvae import load, make_spatial_pipeline, save
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> model = make_spatial_pipeline(max_epochs=2, random_state=0)
    >>> model = model.fit(tissue.X, tissue.coords)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, Path(folder) / "tissue.dpvae")
    ...     loaded = load(Path(folder) / "tissue.dpvae")
    >>> bool((loaded.predict(tissue.X) == model.predict(tissue.X)).all())
    True
    """
    if not _is_model(model):
        raise TypeError(
            f"save keeps fitted estimators and SpatialModel, got {type(model).__name__}. Use "
            "numpy.savez or joblib.dump for other objects."
        )
    encoder = Encoder()
    tree = encoder.encode(model, type(model).__name__)
    members = {_MODEL: _to_json(tree), **encoder.members}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": {
            "sklearn_dpvae": __version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    with replacing(path) as scratch, zipfile.ZipFile(scratch, "x") as archive:
        for name, data in {_MANIFEST: _to_json(manifest), **members}.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)


def load(path: "str | os.PathLike[str]") -> Any:
    """Read a model that `save` wrote. No code from the file is run.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator
        The model, on the CPU, ready to predict.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another kind, holds no model, is damaged, was changed since it was
        written, has a format that is newer than this package, or holds a class that this version
        lacks.

    Warns
    -----
    InconsistentVersionWarning
        If the model holds estimators of scikit-learn, and was saved with another version of it.

    See Also
    --------
    save : Write the file.

    Notes
    -----
    The checksums find accidents and careless edits. They are no signature: who can write the
    file can write its checksums too. Such a person can make a model predict wrong positions,
    but cannot make `load` run anything: classes are looked up in a fixed list, and arrays are
    read without pickles.

    Examples
    --------
    See `save`.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            manifest, members = _read_members(archive, path)
    except zipfile.BadZipFile as error:
        raise ValueError(_not_readable(path, error)) from error
    try:
        tree = json.loads(members[_MODEL])
        decoder = Decoder(members)
        model = decoder.decode(tree)
    except _MALFORMED as error:
        raise ValueError(
            f"the model in {path} cannot be rebuilt ({error}). It was written by sklearn-dpvae "
            f"{_version(manifest, 'sklearn_dpvae')}; this is {__version__}."
        ) from error
    if not _is_model(model):
        raise ValueError(f"{path} holds no model, but an object of type {type(model).__name__}.")
    _warn_of_versions(decoder.foreign, manifest)
    return model


def _is_model(value: Any) -> bool:
    return hasattr(value, "fit") or hasattr(value, "predict")


def _not_readable(path: Path, error: Exception) -> str:
    with open(path, "rb") as file:
        head = file.read(4)
    if head[:2] == b"PK":
        return f"{path} is damaged or cut short ({error})."
    hint = " joblib.load reads what joblib.dump wrote." if head[:1] == b"\x80" else ""
    return f"{path} is not a model file that sklearn_dpvae.save wrote.{hint}"


def _read_members(archive: zipfile.ZipFile, path: Path) -> tuple[dict, dict[str, bytes]]:
    """All members, once the manifest vouches for each of them."""
    infos = {info.filename: info for info in archive.infolist()}
    if _MANIFEST not in infos or len(infos) != len(archive.infolist()):
        raise ValueError(f"{path} is not a model file that sklearn_dpvae.save wrote.")
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
        # Members of known size cannot unfold to more memory than the file takes on disk.
        raise ValueError(f"{path} was repacked with compression, which save does not do.")
    damaged = f"{path} is damaged, or was changed since it was written"
    members = {}
    for name in infos:
        try:
            members[name] = archive.read(name)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{damaged}: {name} cannot be read ({error}).") from error
    manifest = _check_manifest(members.pop(_MANIFEST), path)
    sums = manifest["sha256"]
    if sums.keys() != members.keys() or _MODEL not in members:
        odd = ", ".join(sorted(sums.keys() ^ members.keys())) or _MODEL
        raise ValueError(f"{damaged}: the manifest and the members differ in {odd}.")
    for name, data in members.items():
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise ValueError(f"{damaged}: the checksum of {name} does not match.")
    return manifest, members


def _check_manifest(data: bytes, path: Path) -> dict:
    try:
        manifest = json.loads(data)
        is_ours = manifest["format"] == FORMAT
        version = manifest["format_version"]
        well_formed = (
            isinstance(version, int)
            and isinstance(manifest["sha256"], dict)
            and isinstance(manifest["versions"], dict)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        is_ours = well_formed = False
    if not is_ours or not well_formed:
        raise ValueError(f"{path} is not a model file that sklearn_dpvae.save wrote.")
    if version < FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, which was never released and cannot be read. "
            "Fit the model again."
        )
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, but sklearn-dpvae {__version__} reads up to "
            f"version {FORMAT_VERSION}. It was written by sklearn-dpvae "
            f"{_version(manifest, 'sklearn_dpvae')}: update with "
            "'pip install --upgrade sklearn-dpvae'."
        )
    return manifest


def _version(manifest: dict, package: str) -> str:
    return str(manifest["versions"].get(package, "of unknown version"))


def _warn_of_versions(foreign: set[str], manifest: dict) -> None:
    """Say what scikit-learn says of its own pickles; our own format has a version for that."""
    saved = _version(manifest, "scikit-learn")
    if saved != sklearn.__version__:
        for name in sorted(foreign):
            warn(
                InconsistentVersionWarning(
                    estimator_name=name,
                    current_sklearn_version=sklearn.__version__,
                    original_sklearn_version=saved,
                )
            )


def _to_json(tree: Any) -> bytes:
    return json.dumps(tree, allow_nan=False, ensure_ascii=False, indent=1).encode()
