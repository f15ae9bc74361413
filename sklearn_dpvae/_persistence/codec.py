"""Objects as JSON and arrays, and back.

Stands on the net and on the list of classes that may be named.
"""

import io
import math
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from torch import nn

from .registry import class_of, is_name, name_of

# Kinds of dtypes that are plain numbers or text: bool, integers, floats, complex, str, bytes.
_ARRAY_KINDS = "biufcUS"

# Parameters that hold what cannot or should not travel, and are saved as None.
_LEFT_OUT = {"callbacks": "callbacks", "memory": "a cache of this machine"}

_MODULE_BASICS = set(vars(nn.Module()))


class Encoder:
    """Turns objects into JSON, with arrays set aside as members of the archive.

    Plain values stay as they are; everything else becomes an object of one key, which begins
    with a dollar sign and says what it is.
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

    def _tensor(self, tensor: "torch.Tensor | None", where: str) -> "str | None":
        return None if tensor is None else self._array(tensor.detach().cpu().numpy(), where)

    def _object(self, value: Any, where: str) -> dict:
        name = name_of(type(value))
        if name is None:
            self._refuse(value, where)
        if isinstance(value, nn.Module):
            return {"$module": [name, self._module(value, where)]}
        attributes = dict(vars(value))
        params: dict = {}
        if isinstance(value, BaseEstimator):
            params = {key: attributes.pop(key) for key in value.get_params(deep=False)}
            for key, what in _LEFT_OUT.items():
                if params.get(key) is not None and not isinstance(params[key], str):
                    if params[key] not in ([], ()):
                        warnings.warn(
                            f"{where}.{key} holds {what} and is saved as None.",
                            UserWarning,
                            stacklevel=2,
                        )
                    params[key] = None
        return {
            "$object": [
                name,
                self._attributes(params, where),
                self._attributes(attributes, where),
            ]
        }

    def _module(self, module: nn.Module, where: str) -> dict:
        plain = {k: v for k, v in vars(module).items() if k not in _MODULE_BASICS}
        return {
            "attributes": self._attributes({**plain, "training": module.training}, where),
            "parameters": {k: self._tensor(v, where) for k, v in module._parameters.items()},
            "buffers": {k: self._tensor(v, where) for k, v in module._buffers.items()},
            "transient": sorted(module._non_persistent_buffers_set),
            "children": self._attributes(module._modules, where),
        }

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
            "$module": self._module,
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

    def _class(self, name: str, kind: type = object) -> Any:
        cls, foreign = class_of(name)
        if not issubclass(cls, kind):
            raise ValueError(f"{name} is not a {kind.__name__}")
        if foreign and cls is not Pipeline:  # which learns nothing itself
            self.foreign.add(cls.__name__)
        return cls

    def _object(self, content: list) -> Any:
        name, params, attributes = content
        cls = self._class(name)
        if issubclass(cls, nn.Module):
            raise ValueError(f"{name} is a module")
        if issubclass(cls, BaseEstimator):
            unknown = params.keys() - set(cls._get_param_names())
            if unknown:
                raise ValueError(
                    f"{cls.__name__} has no parameter {', '.join(sorted(unknown))} any more"
                )
            # Parameters that are newer than the file take their defaults.
            built = cls(**{key: self.decode(item) for key, item in params.items()})
        else:
            built = cls.__new__(cls)
        built.__dict__.update(self._attributes(attributes))
        return built

    def _attributes(self, attributes: dict) -> dict:
        for name in attributes:
            if not is_name(name):
                raise ValueError(f"{name!r} is no name of an attribute")
        return {name: self.decode(item) for name, item in attributes.items()}

    def _tensor(self, name: "str | None") -> "torch.Tensor | None":
        return None if name is None else torch.from_numpy(self._array(name))

    def _module(self, content: list) -> nn.Module:
        name, parts = content
        cls = self._class(name, nn.Module)
        module = cls.__new__(cls)
        nn.Module.__init__(module)
        for key, item in parts["parameters"].items():
            tensor = self._tensor(item)
            module.register_parameter(key, None if tensor is None else nn.Parameter(tensor))
        for key, item in parts["buffers"].items():
            persistent = key not in parts["transient"]
            module.register_buffer(key, self._tensor(item), persistent=persistent)
        for key, item in parts["children"].items():
            module.add_module(key, self.decode(item))
        attributes = self._attributes(parts["attributes"])
        if attributes.keys() & (_MODULE_BASICS - {"training"}):
            raise ValueError(f"{name} has an attribute that torch keeps for itself")
        module.__dict__.update(attributes)
        return module
