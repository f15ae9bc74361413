"""The results of a benchmark: records in a JSON file, one a line."""

import hashlib
import json
import os
from pathlib import Path

from sklearn.base import BaseEstimator


class Store:
    """The records of one benchmark, kept in a file so that an interrupted run can go on.

    Parameters
    ----------
    path : path-like or None
        JSON file of the records, read where it exists; None keeps them in memory only.
    key : tuple of str
        The fields of a record that tell what it measured, such as its task and its seed.
    config : callable
        From a record, or the fields of its key, to a fingerprint of the parameters that it is
        measured with. A record in the file with another fingerprint does not count, and is
        replaced once there is a new one.
    """

    def __init__(self, path, *, key, config):
        self.path = None if path is None else Path(path)
        self.key = key
        self.config = config
        found = read(self.path) if self.path is not None and self.path.exists() else []
        if any(name not in record for record in found for name in key):
            raise ValueError(f"{path} holds results of another benchmark. Name another file.")
        self._records = {self._place(record): record for record in found}

    def _place(self, record):
        return tuple(record[name] for name in self.key)

    def __iter__(self):
        """The records of the present parameters."""
        for record in self._records.values():
            if "config" in record and record["config"] == self.config(record):
                yield record

    def missing(self, wanted, redo=False):
        """Those keys that have no record yet; with `redo`, all of them, whose records go."""
        if redo:
            for key in wanted:
                self._records.pop(self._place(key), None)
        done = {self._place(record) for record in self}
        return [key for key in wanted if self._place(key) not in done]

    def add(self, record):
        """Add a record, or replace the one of the same key, and write the file."""
        self._records[self._place(record)] = rounded(record) | {"config": self.config(record)}
        if self.path is not None:
            write(self.path, self._records.values())


def read(path):
    """The records of a file."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "records" not in content:
        raise ValueError(f"{path} holds no results of a benchmark. Name another file.")
    return content["records"]


def write(path, records):
    """Write records such that at no moment there is half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    lines = ",\n".join(json.dumps(record) for record in records)
    partial.write_text(f'{{"records": [\n{lines}\n]}}\n', encoding="utf-8")
    os.replace(partial, path)


def rounded(value, digits=6):
    """Numbers to significant digits, in lists and dictionaries too."""
    if isinstance(value, dict):
        return {name: rounded(v, digits) for name, v in value.items()}
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def fingerprint(*parts):
    """Short hash of parameters; of an estimator, all that it has count, the defaults too."""
    text = repr([_described(part) for part in parts])
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:10]


def _described(part):
    if isinstance(part, BaseEstimator):
        params = sorted((name, repr(value)) for name, value in part.get_params().items())
        return type(part).__name__, params
    return part
