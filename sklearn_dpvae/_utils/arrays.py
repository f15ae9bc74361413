"""scikit-learn's check of arrays, with errors that say which argument is meant.

Imports nothing of this package.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import sklearn.utils
from scipy import sparse


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of an argument before errors of a block that do not say it.

    What numpy, scipy and torch raise for something that is no array tells of a conversion only.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> from sklearn_dpvae._utils.arrays import naming
    >>> with naming("y"):
    ...     float("far away")
    Traceback (most recent call last):
        ...
    ValueError: y: could not convert string to float: 'far away'
    """
    try:
        yield
    except (TypeError, ValueError, RuntimeError, IndexError, OverflowError) as error:
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def check_array(array: Any, *, input_name: str, **options: Any) -> Any:
    """`sklearn.utils.check_array`, with the name of the argument in every error.

    It also looks at what `check_container` does.

    Parameters
    ----------
    array : object
    input_name : str
        What messages call the argument.
    **options : dict
        Others of `sklearn.utils.check_array`.

    Returns
    -------
    {ndarray, sparse matrix}

    Raises
    ------
    TypeError, ValueError
        If it is not what is asked for.
    """
    with naming(input_name):
        check_container(array)
        return sklearn.utils.check_array(array, input_name=input_name, **options)


def check_container(matrix: Any) -> None:
    """Raise for what would be read wrongly, without an error.

    Values that a masked array hides would be taken for measured ones. An index of a sparse matrix
    that points outside of it would let compiled code read and write other memory.

    Parameters
    ----------
    matrix : object
        Anything; only masked arrays, and sparse matrices in CSR, CSC and BSR, are looked at.

    Raises
    ------
    ValueError
        If a value is masked, or an index is out of bounds.
    """
    if isinstance(matrix, np.ma.MaskedArray) and (hidden := np.ma.count_masked(matrix)):
        raise ValueError(
            f"{hidden} value(s) of the masked array are hidden, and would be taken for measured "
            "ones. Replace them by its method filled, or drop their rows."
        )
    if not sparse.issparse(matrix) or matrix.format not in ("csr", "csc", "bsr"):
        return
    matrix.check_format(full_check=False)
    indices, ends = matrix.indices, matrix.indptr
    n_minor = matrix.shape[0 if matrix.format == "csc" else 1]
    if matrix.format == "bsr":
        n_minor //= matrix.blocksize[1]
    if len(indices) and (indices.min() < 0 or indices.max() >= n_minor):
        raise ValueError("the sparse matrix is damaged: an index is out of bounds.")
    if np.any(ends[1:] < ends[:-1]):
        raise ValueError("the sparse matrix is damaged: its rows overlap.")
