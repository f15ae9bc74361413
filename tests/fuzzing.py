"""One generator of calls, good and bad, and what every answer to one must be.

A call has valid arguments, of which some are replaced by odd ones. Its answer is a result without
NaN, or an error of the caller's kind that names an odd argument; and an estimator that could not
be fitted is as it was.
"""

import contextlib
import io
import json
import os
import pickle
import re
import signal
import tempfile
import warnings
import zipfile
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import strategies as st

import sklearn_dpvae
from sklearn_dpvae import DPVAESpatialRegressor, SpatialModel, make_spatial_pipeline, metrics
from sklearn_dpvae.datasets import align_genes, make_tissue, read_sections
from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.feature_selection import HighlyVariableGenes, SpatiallyVariableGenes
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler
from sklearn_dpvae.reconstruction import AnchoredMDS

N_CELLS, N_GENES = 24, 7
SECONDS = 20  # More than this is a hang.

# What a caller's mistake may raise.
EXPECTED = (ValueError, TypeError, OSError, ImportError, AttributeError, FloatingPointError)

TINY = {"n_estimators": 1, "hidden_layer_sizes": (3,), "max_epochs": 1, "random_state": 0}


@cache
def tissue():
    made = make_tissue(N_CELLS, N_GENES, n_sections=2, random_state=0)
    return made.X.toarray(), made.coords, made.sections


# ------------------------------------------------------------------------------ odd arguments


def matrices(X):
    """Other shapes, types, formats and containers of a matrix of counts; many are valid."""
    pandas = __import__("pandas")
    hole = X.astype(float)
    hole[3, -1] = np.nan
    endless = X.astype(float)
    endless[3, -1] = np.inf
    n, p = X.shape
    duplicates = sp.coo_matrix((np.ones(4), ([0, 0, 1, 1], [0, 0, 1, 1])), shape=X.shape)
    bad_index = sp.csr_matrix(X)
    bad_index.indices = bad_index.indices.copy()
    bad_index.indices[0] = p + 5
    wide = sp.csr_matrix(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    frozen = X.astype(np.float32)
    frozen.flags.writeable = False
    formats = [
        getattr(sp, f"{name}_{kind}")
        for name in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")
        for kind in ("matrix", "array")
    ]
    dtypes = (
        "bool int8 uint8 int16 uint32 int64 float16 float32 >f8 longdouble complex64 object str S5"
    )
    return [
        *[partial(make, X.astype(float)) for make in formats],
        *[lambda name=name: X.astype(name) for name in dtypes.split()],
        lambda: X.tolist(),
        lambda: tuple(map(tuple, X.tolist())),
        lambda: pandas.DataFrame(X),
        lambda: pandas.DataFrame(X, columns=[f"g{i}" for i in range(p)]),
        lambda: pandas.DataFrame(X, columns=["a", *range(1, p)]),
        lambda: pandas.DataFrame(X).astype("string"),
        lambda: pandas.DataFrame(X).astype("category"),
        lambda: pandas.DataFrame(X).round().astype("Int64"),
        lambda: pandas.DataFrame(X).astype(pandas.SparseDtype(float)),
        lambda: torch.as_tensor(X.astype(np.float32)),
        lambda: torch.as_tensor(X.astype(np.float32)).requires_grad_(),
        lambda: np.ma.masked_array(X, mask=X > 5),
        lambda: np.matrix(X),
        lambda: np.asfortranarray(X),
        lambda: X[::-1, ::-1],
        lambda: frozen,
        lambda: hole,
        lambda: sp.csr_matrix(hole),
        lambda: endless,
        lambda: -endless,
        lambda: np.full(X.shape, np.nan),
        lambda: -X,
        lambda: X + 0.5,
        lambda: X * 1e20,
        lambda: X * 1e300,
        lambda: X * 1e-300,
        lambda: np.zeros_like(X),
        lambda: np.ones_like(X),
        lambda: np.where(np.arange(n)[:, None] == 2, 0, X),
        lambda: X[:-1],
        lambda: X[:, :-1],
        lambda: X[:1],
        lambda: X[:2],
        lambda: X[:, :1],
        lambda: X[:0],
        lambda: X[:, :0],
        lambda: X[0],
        lambda: X[None],
        lambda: np.float64(3),
        lambda: duplicates,
        lambda: sp.csr_matrix(X.shape),
        lambda: bad_index,
        lambda: wide,
        lambda: None,
        lambda: "counts",
        lambda: {},
        lambda: {"a": X},
        lambda: [],
        lambda: [[1, 2], [3]],
        lambda: iter(X),
        lambda: object(),
        lambda: np.array([object()] * n, dtype=object),
        lambda: np.array(["2020-01-01"] * n, dtype="M8[D]"),
        lambda: np.zeros(n, dtype=[("a", float), ("b", int)]),
    ]


def positions(y):
    """Other shapes, types and values of positions."""
    hole = y.copy()
    hole[4] = np.nan
    half = y.copy()
    half[4, 0] = np.nan
    return [
        *matrices(y),
        lambda: y[:, 0],
        lambda: y[:, :1],
        lambda: np.hstack([y, y]),
        lambda: np.tile(y, 20),
        lambda: hole,
        lambda: half,
        lambda: y * 0,
        lambda: y * [1, 0],
        lambda: y + 1e18,
        lambda: np.repeat(y[:2], len(y) // 2, axis=0),
        lambda: np.arange(len(y)) % 2,
    ]


def labels(given):
    """Other labels of rows."""
    pandas = __import__("pandas")
    n = len(given)
    return [
        lambda: None,
        lambda: given.tolist(),
        lambda: pandas.Series(given, index=np.arange(n)[::-1]),
        lambda: pandas.Categorical(given),
        lambda: np.arange(n),
        lambda: np.arange(n) // 2,
        lambda: np.arange(n) % 3,
        lambda: np.arange(n) % 2 == 0,
        lambda: np.arange(n, dtype=float) % 2,
        lambda: np.where(np.arange(n) == 3, np.nan, 1.0),
        lambda: np.array([None, *given[1:]], dtype=object),
        lambda: np.array([float("nan"), *given[1:]], dtype=object),
        lambda: np.array([1, *given[1:]], dtype=object),
        lambda: np.array([(), *given[1:]], dtype=object),
        lambda: given.astype("S"),
        lambda: given[:-1],
        lambda: given[:, None],
        lambda: np.array([given, given]).T,
        lambda: [],
        lambda: "a",
        lambda: 3,
        lambda: {},
        lambda: object(),
        lambda: np.array(["2020-01-01"] * n, dtype="M8[D]"),
        lambda: np.full(n, 1 + 1j),
        lambda: np.array([""] * n),
    ]


def masks(n):
    """Masks of pairs."""
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 2, (n, n))

    def raises(X, coords):
        raise ZeroDivisionError("in the mask")

    return [
        lambda: "knn",
        lambda: "radius",
        lambda: "clusters",
        lambda: "none",
        lambda: whole,
        lambda: sp.csr_matrix(whole),
        lambda: whole.astype(bool).tolist(),
        lambda: -whole,
        lambda: np.where(whole, np.nan, 1.0),
        lambda: whole[:-1],
        lambda: whole[0],
        lambda: np.zeros((n, n)),
        lambda: np.eye(n),
        lambda: whole.astype(str),
        lambda: lambda X: np.ones((len(X), len(X))),
        lambda: lambda X, coords, more: np.ones((len(coords), len(coords))),
        lambda: lambda: None,
        lambda: lambda X, coords: None,
        lambda: lambda X, coords: 1,
        lambda: lambda X, coords: "knn",
        lambda: lambda X, coords: np.full((len(coords), len(coords)), np.nan),
        lambda: lambda X, coords: np.ones((len(coords), 2)),
        lambda: lambda X, coords: np.zeros((len(coords), len(coords))),
        lambda: lambda X, coords: np.ones((len(coords), len(coords))),
        lambda: raises,
        lambda: 3,
        lambda: object(),
        lambda: {},
    ]


def scalars():
    """Values of the wrong type, and numbers beyond all bounds."""
    return [
        lambda value=value: value
        for value in [
            None, -1, 0, 1, 2, 10**6, 1.5, 0.0, -0.5, float("nan"), float("inf"), -float("inf"),
            1e39, 1e-320, True, False, "a", "", b"a", [], (), {}, set(), object(), 1j, int, print,
            [1, 2], (3,), (0,), (-1,), (2.5,), ("a",), np.int64(2), np.float32(0.5), np.array(2),
            np.array([1, 2]), np.datetime64("2020-01-01"), "cpu", "cuda:99", "meta", "knn",
        ]
    ]  # fmt: skip


def seeds():
    return [
        *scalars(),
        lambda: np.random.RandomState(0),
        lambda: np.random.default_rng(0),
        lambda: np.random,
        lambda: 2**40,
    ]


def callback_lists():
    from skorch.callbacks import Callback, EarlyStopping

    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise ZeroDivisionError("in the callback")

    return [
        *scalars(),
        lambda: [EarlyStopping("loss")],
        lambda: [EarlyStopping],
        lambda: [1],
        lambda: ["a"],
        lambda: [None],
        lambda: [object()],
        lambda: [lambda net: None],
        lambda: [("name", EarlyStopping("loss"))],
        lambda: [("scale", EarlyStopping("loss"))],
        lambda: [Broken()],
    ]


def anchor_sets(y):
    n = len(y)
    known = np.full_like(y, np.nan)
    known[:6] = y[:6]
    half = known.copy()
    half[0, 0] = np.nan
    return [
        lambda: (np.arange(5), y[:5]),
        lambda: ([0, 7, 9, 12], y[[0, 7, 9, 12]].tolist()),
        lambda: known,
        lambda: half,
        lambda: known[:-1],
        lambda: np.full_like(y, np.nan),
        lambda: y,
        lambda: (np.arange(5), y[:4]),
        lambda: (np.arange(5), y[:5, 0]),
        lambda: (np.arange(5), y[:5] * np.nan),
        lambda: (np.arange(5), y[:5] * np.inf),
        lambda: ([0, 0, 1, 2], y[:4]),
        lambda: ([0, 1, 2, n], y[:4]),
        lambda: ([0, 1, 2, -1], y[:4]),
        lambda: ([0.5, 1, 2, 3], y[:4]),
        lambda: (["a", "b", "c", "d"], y[:4]),
        lambda: (np.arange(n) < 5, y[:5]),
        lambda: ([0], y[:1]),
        lambda: ([], y[:0]),
        lambda: ([0, 1, 2], np.zeros((3, 2))),
        lambda: (np.arange(5),),
        lambda: (np.arange(5), y[:5], 1),
        lambda: (None, None),
        lambda: {0: y[0], 1: y[1]},
        lambda: sp.csr_matrix(y),
        lambda: 3,
        lambda: "a",
        lambda: [],
        lambda: (np.arange(5), y[:5].astype(str)),
        lambda: (np.arange(5), y[:5] * 1e200),
        lambda: (np.arange(5), y[:5] + 1e18),
    ]


def gene_names(n):
    names = np.array([f"g{i}" for i in range(n)])
    return [
        lambda: names,
        lambda: names.tolist(),
        lambda: names[::-1],
        lambda: names.astype(object),
        lambda: np.array(["g0", *names[:-1]]),
        lambda: names[:-1],
        lambda: np.append(names, "extra"),
        lambda: np.arange(n),
        lambda: np.array([None] * n),
        lambda: np.array([f"other{i}" for i in range(n)]),
        lambda: names[:, None],
        lambda: np.full(n, np.nan),
        lambda: np.array([""] * n),
        lambda: None,
        lambda: "g0",
        lambda: 3,
        lambda: object(),
        lambda: {},
        lambda: [["g0"], *names[1:]],
        lambda: np.array([1 + 1j] * n),
    ]


# -------------------------------------------------------------------------------------- calls


@dataclass
class Call:
    """A call with its arguments, of which some are odd.

    Attributes
    ----------
    name : str
    run : callable
        Takes the arguments by name.
    arguments : dict
        Of functions that make them.
    odd : dict
        The arguments that were replaced, by name, with what messages may call them.
    untouched : callable
        Says after an error whether everything is as it was.
    """

    name: str
    run: Any
    arguments: dict[str, Any]
    odd: dict[str, tuple[str, ...]]
    untouched: Any = field(default=lambda: True)

    def __repr__(self):
        shown = {key: brief(self.arguments[key]()) for key in self.odd}
        return f"{self.name}: {shown}"


def brief(value):
    kind = f"{type(value).__name__} {getattr(value, 'dtype', '')} {getattr(value, 'shape', '')}"
    return f"{kind.strip()} {' '.join(repr(value).split())[:160]}"


# Other words for an argument in messages; its name is always one.
WORDS = {
    "X": ("features", "genes", "inconsistent numbers of samples"),
    "y": ("positions", "target", "inconsistent numbers of samples"),
    "coords": ("positions",),
    "counts": ("Counts",),
    "mask": ("mask",),
    "anchors": ("anchor", "Anchors"),
    "sections": ("section", "labels"),
    "batch": ("labels",),
    "genes": ("gene", "names"),
    "device": ("device",),
    "callbacks": ("callback",),
    "missing_genes": ("missing_genes",),
    "level": ("level",),
}


def estimators():
    """Estimators that take counts, and what `fit` takes beside them."""
    return {
        "regressor": (lambda **kw: DPVAESpatialRegressor(**TINY | kw), ("sections", "batch")),
        "counts": (
            lambda **kw: DPVAESpatialRegressor(**TINY | {"likelihood": "nb"} | kw),
            ("sections", "batch", "counts"),
        ),
        "pipeline": (
            lambda **kw: make_spatial_pipeline(
                **TINY | {"n_calibration_folds": None, "n_spatial_components": 3} | kw
            ),
            ("sections", "batch"),
        ),
        "normalizer": (LogNormalizer, ()),
        "scaler": (SectionScaler, ("sections",)),
        "variable": (
            lambda **kw: HighlyVariableGenes(**{"n_top_genes": 4, "flavor": "seurat_v3"} | kw),
            (),
        ),
        "spatial": (lambda **kw: SpatiallyVariableGenes(**{"n_top_genes": 4} | kw), ("sections",)),
        "components": (lambda **kw: SpatialPCA(**{"n_components": 3} | kw), ("sections",)),
    }


def learned(estimator):
    steps = [step for _, step in getattr(estimator, "steps", [])]
    return [
        (id(one), name, id(value))
        for one in [estimator, *steps]
        for name, value in vars(one).items()
        if name.endswith("_") and not name.startswith("_")
    ]


@st.composite
def fits(draw):
    """A fit with odd data or parameters."""
    kind = draw(st.sampled_from(sorted(estimators())))
    make, takes = estimators()[kind]
    X, y, sections = tissue()
    valid = {"X": lambda: X, "y": lambda: y}
    pools = {
        "X": matrices(X),
        "y": positions(y),
        "sections": labels(sections),
        "batch": labels(sections),
        "counts": matrices(X),
    }
    params = {
        name: scalars()
        for name in make().get_params(deep=False)
        if name not in ("steps", "memory")
    }
    if "n_thinned" in params:
        params["n_thinned"] = [make for make in scalars() if brief(make()) != brief(10**6)]
    if kind in ("regressor", "counts"):
        params |= {"mask": masks(len(X)), "callbacks": callback_lists()}
        # A good answer to these takes long, as it should.
        for name in (
            "n_estimators",
            "n_components",
            "max_epochs",
            "hidden_layer_sizes",
            "verbose",
        ):
            params[name] = [make for make in scalars() if brief(make()) != brief(10**6)]
        params["checkpoint"] = [make for make in scalars() if not isinstance(make(), str | bytes)]
    if "random_state" in params:
        params["random_state"] = seeds()
    names = draw(
        st.lists(
            st.sampled_from([*("X", "y", *takes) * 3, *params]),
            min_size=0,
            max_size=2,
            unique=True,
        )
    )
    arguments, odd = dict(valid), {}
    for name in names:
        arguments[name] = draw(st.sampled_from((pools | params)[name]))
        odd[name] = WORDS.get(name, ())
    data = {name for name in arguments if name in pools}
    state = {}

    def run(**given):
        own = {name: value for name, value in given.items() if name not in data}
        state["estimator"] = estimator = make(**own)
        keywords = {name: value for name, value in given.items() if name in data}
        X, y = keywords.pop("X"), keywords.pop("y")
        estimator.fit(X, y, **keywords)
        if hasattr(estimator, "predict"):
            return np.asarray(estimator.predict(X))
        return None

    def untouched():
        estimator = state.get("estimator")
        return estimator is None or kind == "pipeline" or not learned(estimator)

    return Call(f"{kind}.fit", run, arguments, odd, untouched)


@cache
def fitted(kind):
    make, takes = estimators()[kind]
    X, y, sections = tissue()
    given = {"sections": sections} if "sections" in takes else {}
    return pickle.dumps(make().fit(X, y, **given))


@st.composite
def queries(draw):
    """A question to a fitted estimator."""
    kind = draw(st.sampled_from(["regressor", "pipeline", "normalizer", "scaler", "components"]))
    X, y, sections = tissue()
    methods = {
        "predict": ("X", "sections", "anchors", "underdetermined"),
        "partial_fit": ("X", "y", "sections"),
        "calibrate": ("X", "y", "sections"),
        "predict_radius": ("X", "level"),
        "score": ("X", "y", "sections", "sample_weight"),
        "transform": ("X",),
        "inverse_transform": ("Z", "library_size"),
    }
    if kind == "pipeline":
        methods["predict"] = ("X", "sections", "anchors", "missing_genes")
        del methods["inverse_transform"]
    elif kind != "regressor":
        methods = {"transform": ("X", "sections") if kind == "scaler" else ("X",)}
    method = draw(st.sampled_from(sorted(methods)))
    pools = {
        "X": matrices(X),
        "Z": matrices(y),
        "y": positions(y),
        "sections": labels(sections),
        "anchors": anchor_sets(y),
        "underdetermined": scalars(),
        "level": scalars(),
        "sample_weight": [*labels(sections), *scalars(), lambda: np.ones(len(y))],
        "library_size": [*scalars(), lambda: np.ones(len(y))],
        "missing_genes": [*scalars(), lambda: np.zeros(N_GENES, bool), lambda: np.ones(3, bool)],
    }
    first = methods[method][:2] if "y" in methods[method] else methods[method][:1]
    valid = {"X": lambda: X, "Z": lambda: y, "y": lambda: y}
    arguments = {name: valid[name] for name in first}
    odd = {}
    for name in draw(
        st.lists(st.sampled_from(methods[method]), min_size=0, max_size=2, unique=True)
    ):
        arguments[name] = draw(st.sampled_from(pools[name]))
        odd[name] = (*WORDS.get(name, ()), *(("Z", "columns", "array") if name == "Z" else ()))
    estimator = pickle.loads(fitted(kind))
    before = learned(estimator)

    def run(**given):
        answer = getattr(estimator, method)(**given)
        return None if answer is estimator else answer

    return Call(f"{kind}.{method}", run, arguments, odd, lambda: learned(estimator) == before)


def moved_columns(X, genes, reference_genes):
    """Columns are moved with what is in them: NaN stays NaN, and is no answer to complain of."""
    align_genes(X, genes, reference_genes)


@st.composite
def functions(draw):
    """Functions of data: metrics, tables of genes, anchored maps."""
    X, y, sections = tissue()
    n = len(y)
    distances = np.linalg.norm(y[:, None] - y[None], axis=-1)
    calls = {
        "procrustes_disparity": (metrics.procrustes_disparity, ("y_true", "y_pred", "sections")),
        "median_position_error": (metrics.median_position_error, ("y_true", "y_pred")),
        "neighborhood_hits": (metrics.neighborhood_hits, ("y_true", "y_pred")),
        "procrustes_align": (metrics.procrustes_align, ("source", "target")),
        "stress": (metrics.stress, ("latents", "coords")),
        "distance_correlation": (metrics.distance_correlation, ("y_true", "y_pred")),
        "spot_spacing": (metrics.spot_spacing, ("coords", "sections")),
        "align_genes": (moved_columns, ("X", "genes", "reference_genes")),
        "SpatialModel": (SpatialModel, ("genes", "gene_ids")),
        "AnchoredMDS": (lambda X, anchors: AnchoredMDS().fit_transform(X, anchors=anchors), ()),
    }
    name = draw(st.sampled_from(sorted(calls)))
    function, takes = calls[name]
    names = np.array([f"g{i}" for i in range(N_GENES)])
    if name == "AnchoredMDS":
        valid = {"X": lambda: y, "anchors": lambda: (np.arange(5), y[:5])}
        pools = {"X": matrices(y), "anchors": anchor_sets(y)}
        del distances
    else:
        valid = {
            key: (lambda: X) if key == "X" else (lambda: names) if "gene" in key else (lambda: y)
            for key in takes
            if key not in ("sections", "gene_ids")
        }
        pools = {
            key: matrices(X)
            if key == "X"
            else gene_names(N_GENES)
            if "gene" in key
            else labels(sections)
            if key == "sections"
            else positions(y)
            for key in takes
        }
    arguments, odd = dict(valid), {}
    for key in draw(st.lists(st.sampled_from(sorted(pools)), min_size=0, max_size=2, unique=True)):
        arguments[key] = draw(st.sampled_from(pools[key]))
        odd[key] = WORDS.get(key, ()) + (("genes", "names") if "gene" in key else ())
        odd[key] += ("points", "rows", "samples") if n and key not in WORDS else ()
    if name == "SpatialModel":
        arguments["pipeline"] = partial(pickle.loads, fitted("pipeline"))
    signature = __import__("inspect").signature(function)
    known = {key: make for key, make in arguments.items() if key in signature.parameters}
    if known.keys() != arguments.keys():
        arguments = dict(zip(signature.parameters, arguments.values(), strict=False))
        odd = dict(zip(signature.parameters, odd.values(), strict=False))
    return Call(name, lambda **given: function(**given), arguments, odd)


# -------------------------------------------------------------------------------------- files


@cache
def model_file():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.dpvae"
        sklearn_dpvae.save(pickle.loads(fitted("regressor")), path)
        return path.read_bytes()


@cache
def members():
    with zipfile.ZipFile(io.BytesIO(model_file())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(parts, compression=zipfile.ZIP_STORED, *, sign=False):
    """An archive of these members; with a manifest that fits them, if `sign`."""
    if sign:
        import hashlib

        manifest = json.loads(parts["manifest.json"])
        key = next(k for k, v in manifest.items() if isinstance(v, dict) and "model.json" in v)
        manifest[key] = {
            name: hashlib.sha256(data).hexdigest()
            for name, data in parts.items()
            if name != "manifest.json"
        }
        parts = parts | {"manifest.json": json.dumps(manifest).encode()}
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, data in parts.items():
            archive.writestr(name, data)
    return out.getvalue()


@st.composite
def model_files(draw):
    """A model file that is damaged or hostile."""
    whole = model_file()
    parts = members()
    names = sorted(parts)
    arrays = [name for name in names if name.endswith(".npy")]

    def huge():
        header = np.lib.format.header_data_from_array_1_0(np.zeros(1)) | {"shape": (10**12,)}
        data = io.BytesIO()
        np.lib.format.write_array_header_1_0(data, header)
        return archive_of(parts | {arrays[0]: data.getvalue()}, sign=True)

    def pickled():
        data = io.BytesIO()
        np.save(data, np.array([print], dtype=object), allow_pickle=True)
        return archive_of(parts | {arrays[0]: data.getvalue()}, sign=True)

    def retold(change):
        return archive_of(
            parts | {"model.json": change(parts["model.json"].decode()).encode()}, sign=True
        )

    place, other = draw(st.integers(0, len(whole) - 1)), draw(st.sampled_from(arrays))
    way = draw(st.sampled_from(range(14)))
    content = [
        lambda: whole[:place],
        lambda: whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :],
        lambda: whole[:place] + bytes(100) + whole[place:],
        lambda: archive_of({k: v for k, v in parts.items() if k != other}),
        lambda: archive_of(parts | {arrays[0]: parts[other], other: parts[arrays[0]]}),
        lambda: archive_of(parts | {arrays[0]: parts[other], other: parts[arrays[0]]}, sign=True),
        lambda: archive_of(parts | {"../../evil.npy": b"x"}),
        lambda: archive_of(parts | {other: bytes(10**7)}, zipfile.ZIP_DEFLATED, sign=True),
        huge,
        pickled,
        lambda: retold(lambda text: text.replace("DPVAESpatialRegressor", "SpatialPCA", 1)),
        lambda: retold(lambda text: text[: place % len(text)]),
        lambda: retold(lambda text: re.sub(r"\d+", lambda m: str(int(m[0]) + 1), text, count=9)),
        lambda: pickle.dumps(DPVAESpatialRegressor()),
    ][way]

    def run(content):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.dpvae"
            path.write_bytes(content)
            model = sklearn_dpvae.load(path)
            X = tissue()[0]
            assert os.listdir(folder) == ["model.dpvae"]
            return model.predict(X) if hasattr(model, "fitted_") else None

    return Call(
        "load", run, {"content": content}, {"content": ("model.dpvae", "features", "model")}
    )


@cache
def section_file(kind):
    anndata = __import__("anndata")
    X, y, sections = tissue()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "s.h5ad"
        matrix = sp.csr_matrix(X.astype(np.float32))
        adata = anndata.AnnData(matrix, obs={"section": sections.astype(str)}, obsm={"spatial": y})
        adata.write_h5ad(path)
        return path.read_bytes()


@st.composite
def data_files(draw):
    """A file of a section, truncated, with flipped bits, or of another kind."""
    whole = section_file("h5ad")
    place = draw(st.integers(0, len(whole) - 1))
    name = draw(st.sampled_from(["s.h5ad", "s.h5", "s.csv", "s"]))
    flip = bytes([whole[place] ^ (1 << place % 8)])
    content = draw(
        st.sampled_from(
            [
                lambda: whole[:place],
                lambda: whole[:place] + flip + whole[place + 1 :],
                lambda: b"",
                lambda: b"barcode,x,y\na,1,2\n",
                lambda: b"\x89HDF\r\n\x1a\n" + bytes(200),
                lambda: model_file(),
                lambda: pickle.dumps([1]),
            ]
        )
    )

    def run(content):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            data = read_sections(path)
            return data.coords

    return Call("read_sections", run, {"content": content}, {"content": (name,)})


CALLS = st.one_of(fits(), fits(), queries(), queries(), functions(), model_files(), data_files())


# ------------------------------------------------------------------------------------ answers


class Unclear(AssertionError):
    """An answer that is neither a good result nor an error that helps."""


@contextlib.contextmanager
def limited(seconds):
    """Raise in a call that takes too long."""

    def late(*_):
        raise Unclear(f"no answer in {seconds} s")

    usual = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def names_one(message, odd):
    return any(
        re.search(rf"(?<![A-Za-z_]){re.escape(word)}(?![A-Za-z])", message)
        for name, words in odd.items()
        for word in (name, *words)
    )


def check(call):
    """Make a call, and complain about its answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = {name: make() for name, make in call.arguments.items()}
    try:
        with (
            warnings.catch_warnings(),
            limited(SECONDS),
            quiet(),
        ):
            warnings.simplefilter("ignore")
            answer = call.run(**arguments)
    except ZeroDivisionError as error:
        # What a caller's own function raises goes through.
        if "in the" not in str(error):
            raise Unclear(f"{call!r}: {error!r}") from error
    except EXPECTED as error:
        if not names_one(str(error), call.odd):
            raise Unclear(f"{call!r}: {type(error).__name__}: {error}") from error
        if not call.untouched():
            raise Unclear(f"{call!r}: half fitted after {error}") from error
    except Unclear as error:
        raise Unclear(f"{call!r}: {error}") from error
    except Exception as error:
        raise Unclear(f"{call!r}: {type(error).__name__}: {error}") from error
    else:
        values = answer if isinstance(answer, tuple) else (answer,)
        for value in values:
            number = isinstance(value, np.ndarray | float) and np.asarray(value).dtype.kind in "fc"
            if number and not np.isfinite(value).all():
                raise Unclear(f"{call!r}: an answer with NaN or infinity")
