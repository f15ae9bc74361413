"""Import of optional packages, with an error that names the extra to install.

Imports nothing of this package.
"""

import importlib
from types import ModuleType


def import_optional(name: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say what to install.

    Parameters
    ----------
    name : str
        Dotted name of the module, e.g. ``"anndata"``.
    extra : str
        The extra of this package that brings it.
    purpose : str
        What needs it, as the subject of a sentence: ``"reading .h5ad files"``.

    Returns
    -------
    module : module

    Raises
    ------
    ImportError
        If the package is not installed.

    Examples
    --------
    >>> from sklearn_dpvae._utils.optional import import_optional
    >>> import_optional("json", extra="anndata", purpose="reading").loads("[1]")
    [1]
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {name.partition('.')[0]}, which cannot be imported ({error}). "
            f'Install it with: pip install "sklearn-dpvae[{extra}]", or from a clone of the '
            f'repository: pip install ".[{extra}]"'
        ) from error
