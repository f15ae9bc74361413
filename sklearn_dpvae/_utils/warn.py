"""Warnings that point at the line of the caller.

Imports nothing of this package.
"""

import sys
import warnings

# Who stands between a user's line and a warning of this package: the package itself, those that
# call its estimators, and decorators.
_BETWEEN = frozenset(
    {"contextlib", "functools", "joblib", "sklearn", "sklearn_dpvae", "skorch", "torch"}
)


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither ours nor that of a library that called us.

    A fixed `stacklevel` would be right for one way into the package, and name a line of the
    package for every other: the same check runs for an array, a pipeline in a search, an AnnData
    and the command.

    Parameters
    ----------
    message : str or Warning
        A Warning is of its own category.
    category : type of Warning, default=UserWarning

    Examples
    --------
    >>> import warnings
    >>> from sklearn_dpvae._utils.warn import warn
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     warn("The query has few genes.")
    >>> str(seen[0].message)
    'The query has few genes.'
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _BETWEEN:
            break
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
