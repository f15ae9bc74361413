"""Data that several tests share and none of them may change."""

import numpy as np
import scipy.sparse as sp


def read_only(*values):
    """The same arrays and matrices; whoever writes to them from now on gets an error.

    Fitted estimators are no data: a fixture gives each test a copy of its own.
    """
    for value in values:
        parts = (value.data, value.indices, value.indptr) if sp.issparse(value) else (value,)
        for part in parts:
            if isinstance(part, np.ndarray):
                part.setflags(write=False)
    return values
