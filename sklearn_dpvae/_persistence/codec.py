"""Objects as JSON and arrays, and back.

Imports the network and the list of classes that may be named.
"""

import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from .._network.dpvae import DPVAE
from .._network.places import PlaceNet
from .._network.random import own_generators
from .._utils.warn import warn
from .registry import class_of, is_attribute, is_foreign, name_of

# Kinds of dtypes that are plain numbers or text: bool, integers, floats, complex, str, bytes.
_ARRAY_KINDS = "biufcUS"

# Networks: rebuilt from their `config`, and given the weights.
_NETWORKS = (DPVAE, PlaceNet)

# Parameters that hold what cannot or should not travel, and are saved as None.
_LEFT_OUT = {
    "callbacks": "callbacks",
    "checkpoint": "a path of this machine",
    "memory": "a cache of this machine",
}


class Encoder:
    """Turns objects into JSON, with arrays set aside as members of the archive.

    Plain values stay as they are; everything else becomes an object of one key, which begins
    with a dollar sign and says what it is. An ``$object`` is the name of its class, the arguments
    that its constructor takes, and what it has learned since:

    * an estimator: its parameters, and its other attributes;
    * a dataclass: its fields;
    * a network: its `config`, and its state_dict.
    """

    def __init__(self) -> None:
        self.members: dict[str, bytes] = {}
        # Arrays that were set aside: kept, so that no other array can take over their id.
        self._seen: dict[int, tuple[Any, str]] = {}

    def encode(self, value: Any, where: str) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if type(value) is list:
            return [self.encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if type(value) is tuple:
            return {"$tuple": self.encode(list(value), where)}
        if type(value) is dict:
            return {"$dict": self._pairs(value, where)}
        if isinstance(value, np.generic):
            if value.dtype.kind not in _ARRAY_KINDS:
                self._refuse(value, where)
            return {"$scalar": self._array(np.asarray(value), where)}
        if type(value) is np.ndarray:
            return self._ndarray(value, where)
        if sp.issparse(value) and value.format == "csr":
            parts = [self._array(a, where) for a in (value.data, value.indices, value.indptr)]
            return {"$csr": [isinstance(value, sp.sparray), list(value.shape), *parts]}
        if isinstance(value, np.random.RandomState):
            return {"$random_state": self.encode(list(value.get_state()), where)}
        return self._object(value, where)

    def _pairs(self, mapping: dict, where: str) -> list:
        return [
            [self.encode(key, where), self.encode(item, f"{where}[{key!r}]")]
            for key, item in mapping.items()
        ]

    def _attributes(self, attributes: dict, where: str) -> dict:
        return {name: self.encode(item, f"{where}.{name}") for name, item in attributes.items()}

    def _ndarray(self, array: np.ndarray, where: str) -> dict:
        if array.dtype == object:
            # Names of genes come as objects from pandas.
            flat = array.ravel().tolist()
            if not all(type(item) is str for item in flat):
                self._refuse(array, where)
            return {"$strings": [list(array.shape), flat]}
        return {"$array": self._array(array, where)}

    def _array(self, array: np.ndarray, where: str) -> str:
        if array.dtype.kind not in _ARRAY_KINDS:
            self._refuse(array, where)
        if id(array) not in self._seen:
            # A view keeps the order of its axes, on which the last bits of a product depend.
            stored = array if array.flags.forc else array.copy(order="K")
            name = f"arrays/{len(self.members)}.npy"
            data = io.BytesIO()
            np.lib.format.write_array(data, stored, version=(1, 0), allow_pickle=False)
            self.members[name] = data.getvalue()
            self._seen[id(array)] = array, name
        return self._seen[id(array)][1]

    def _object(self, value: Any, where: str) -> dict:
        name = name_of(type(value))
        if name is None:
            self._refuse(value, where)
        given: dict[str, Any] = {}
        learned: dict[str, Any] = {}
        if isinstance(value, _NETWORKS):
            given = value.config
            learned = {key: item.detach().numpy() for key, item in value.state_dict().items()}
        elif isinstance(value, BaseEstimator):
            learned = dict(vars(value))
            given = {key: learned.pop(key) for key in value.get_params(deep=False)}
            self._leave_out(given, where)
        else:
            given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {
            "$object": [name, self._attributes(given, where), self._attributes(learned, where)]
        }

    def _leave_out(self, params: dict, where: str) -> None:
        """Set parameters to None that hold what cannot or should not travel."""
        for key, what in _LEFT_OUT.items():
            if params.get(key) is not None and not isinstance(params[key], str):
                if params[key] not in ([], ()):
                    warn(f"{where}.{key} holds {what} and is saved as None.")
                params[key] = None

    def _refuse(self, value: Any, where: str) -> NoReturn:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, np.ndarray):
            kind += f" of dtype {value.dtype}"
        raise TypeError(
            f"{where} is a {kind}, which this format cannot hold. Use joblib.dump for this "
            "model, and load it only where you trust the file."
        )


class Decoder:
    """Builds the objects that `Encoder` described."""

    def __init__(self, members: dict[str, bytes]):
        self.members = members
        # An array that two places shared is shared again.
        self._arrays: dict[str, np.ndarray] = {}
        # Names of the classes of scikit-learn that were built.
        self.foreign: set[str] = set()

    def decode(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.decode(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        ((tag, content),) = tree.items()
        build: dict[str, Callable[[Any], Any]] = {
            "$float": self._float,
            "$tuple": lambda items: tuple(self.decode(items)),
            "$dict": lambda pairs: {self.decode(k): self.decode(v) for k, v in pairs},
            "$scalar": lambda name: self._array(name)[()],
            "$array": self._array,
            "$strings": self._strings,
            "$csr": self._csr,
            "$random_state": self._random_state,
            "$object": self._object,
        }
        if tag not in build:
            raise ValueError(f"unknown tag {tag!r}")
        return build[tag](content)

    def _float(self, text: str) -> float:
        if text not in ("nan", "inf", "-inf"):
            raise ValueError(f"{text!r} is no float")
        return float(text)

    def _array(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = self._read_array(name)
        return self._arrays[name]

    def _read_array(self, name: str) -> np.ndarray:
        data = io.BytesIO(self.members[name])
        if np.lib.format.read_magic(data) != (1, 0):
            raise ValueError(f"{name} is of another version of the .npy format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(data)
        content = data.read()
        if dtype.kind not in _ARRAY_KINDS or dtype.itemsize * math.prod(shape) != len(content):
            raise ValueError(f"{name} is not of the size and type that it says")
        flat = np.frombuffer(content, dtype=dtype) if content else np.empty(0, dtype)
        return flat.copy().reshape(shape, order="F" if fortran else "C")

    def _strings(self, content: list) -> np.ndarray:
        shape, flat = content
        if not all(isinstance(item, str) for item in flat):
            raise ValueError("a name is not text")
        return np.array(flat, dtype=object).reshape(shape)

    def _csr(self, content: list) -> Any:
        is_array, shape, *parts = content
        build = sp.csr_array if is_array else sp.csr_matrix
        data, indices, indptr = map(self._array, parts)
        matrix = build((data, indices, indptr), shape=tuple(shape))
        matrix.check_format(full_check=True)
        return matrix

    def _random_state(self, state: list) -> np.random.RandomState:
        rng = np.random.RandomState()
        rng.set_state(tuple(self.decode(state)))
        return rng

    def _object(self, content: list) -> Any:
        name, given, learned = content
        cls: Any = class_of(name)
        if is_foreign(name) and cls is not Pipeline:  # which learns nothing itself
            self.foreign.add(cls.__name__)
        arguments = {key: self.decode(item) for key, item in given.items()}
        if cls in _NETWORKS:
            weights = {key: self.decode(item) for key, item in learned.items()}
            return _network(cls, arguments, weights)
        if issubclass(cls, BaseEstimator):
            known = set(cls._get_param_names())
        else:
            known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(arguments.keys() - known)
        if unknown:
            raise ValueError(f"{cls.__name__} has no parameter {', '.join(unknown)} any more")
        # Parameters that are newer than the file take their defaults.
        built = cls(**arguments)
        for key, item in learned.items():
            if not is_attribute(key):
                raise ValueError(f"no attribute may have the name {key!r}")
            vars(built)[key] = self.decode(item)
        return built


def _network(
    cls: type[DPVAE | PlaceNet], config: dict[str, Any], state: dict[str, np.ndarray]
) -> DPVAE | PlaceNet:
    """Networks, on the CPU and in evaluation mode."""
    # Weights drawn by the constructor are replaced: the caller's generator is left alone.
    with own_generators(0, "cpu"):
        # Without memory first: a small file cannot ask for a large network.
        with torch.device("meta"):
            expected = cls(**config).state_dict()
        if state.keys() != expected.keys():
            odd = ", ".join(sorted(state.keys() ^ expected.keys()))
            raise ValueError(f"the file and the network differ in the weights {odd}")
        tensors = {key: torch.from_numpy(array) for key, array in state.items()}
        for key, tensor in tensors.items():
            if (tensor.shape, tensor.dtype) != (expected[key].shape, expected[key].dtype):
                raise ValueError(f"the weights {key} have another shape or type than the network")
        module = cls(**config)
    module.load_state_dict(tensors)
    return module.eval()
