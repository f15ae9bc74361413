"""Where an AnnData keeps its expression: .X, layers and .raw, and which of them are counts.

May import `_utils`.
"""

from collections.abc import Iterator
from typing import Any

from scipy import sparse

from .._utils.counts import kind_of_values
from .._utils.matrix import in_memory
from .._utils.warn import warn

_CELLS_TO_LOOK_AT = 200


def gene_table(adata: Any, layer: str | None) -> Any:
    """The table of the genes that a layer has.

    Parameters
    ----------
    adata : AnnData
    layer : str or None
        See `find_expression`.

    Returns
    -------
    DataFrame
    """
    from_raw = layer == "raw" and layer not in adata.layers and adata.raw is not None
    return adata.raw.var if from_raw else adata.var


def find_expression(adata: Any, name: str, layer: str | None) -> tuple[Any, Any]:
    """The matrix that `layer` names, as stored in the AnnData, and the names of its columns.

    Parameters
    ----------
    adata : AnnData
    name : str
        What messages call the AnnData.
    layer : str or None
        None means ``.X``. ``"raw"`` means ``.raw.X``, unless a layer has this name.

    Returns
    -------
    X : array, sparse matrix, or backed dataset, of shape (n_cells, n_genes)
    genes : Index of shape (n_genes,)

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    if layer == "raw" and layer not in adata.layers and adata.raw is not None:
        X, genes = adata.raw.X, adata.raw.var_names
    elif layer is None:
        X, genes = adata.X, adata.var_names
    elif layer in adata.layers:
        X, genes = adata.layers[layer], adata.var_names
    else:
        raise ValueError(
            f"{name} has no layer={layer!r}; it has {quote_all(adata.layers)}. Pass one of these, "
            "or None for .X."
        )
    if X is None:
        raise ValueError(
            f"{name} has no .X. Pass layer= to use one of its layers: {quote_all(adata.layers)}."
        )
    return X, genes


def places_of_counts(adata: Any) -> list[str | None]:
    """Where counts are, as a rule: .X, the layer "counts" and .raw, those that there are.

    Parameters
    ----------
    adata : AnnData

    Returns
    -------
    list of str or None
        As `find_expression` takes them.
    """
    raw = ["raw"] if adata.raw is not None else []
    return [None, *(["counts"] if "counts" in adata.layers else []), *raw]


def kind_of_layer(adata: Any, layer: str | None) -> str:
    """What the first cells of a layer hold, see `kind_of_values`.

    Parameters
    ----------
    adata : AnnData
    layer : str or None

    Returns
    -------
    {"counts", "logarithms", "fractions"}
        "fractions" also where there is no such layer, or values are negative.
    """
    try:
        X, _ = find_expression(adata, "adata", layer)
    except ValueError:
        return "fractions"
    X = sparse.csr_matrix(in_memory(X[:_CELLS_TO_LOOK_AT]))
    if not X.shape[0] or X.data.min(initial=0) < 0:
        return "fractions"
    return kind_of_values(X)


def places_holding_counts(adata: Any) -> Iterator[str | None]:
    """Those of `places_of_counts` whose first cells are whole numbers, read one by one."""
    return (layer for layer in places_of_counts(adata) if kind_of_layer(adata, layer) == "counts")


def layer_of_counts(adata: Any, name: str) -> str | None:
    """The first place that holds whole numbers.

    Parameters
    ----------
    adata : AnnData
    name : str
        What messages call it.

    Returns
    -------
    str or None

    Raises
    ------
    ValueError
        If none does.

    Warns
    -----
    UserWarning
        If it is not ``.X``.
    """
    for layer in places_holding_counts(adata):
        if layer is not None:
            say_layer(f".X of {name} does not hold whole numbers", layer)
        return layer
    raise ValueError(
        f'layer="auto" found no whole numbers in .X, the layer "counts" or .raw of {name}. Name '
        f"the layer that holds the counts; there are {quote_all(adata.layers)}."
    )


def say_layer(why: str, layer: str | None) -> None:
    """Warn that a layer is taken that was not named."""
    warn(
        f"{why}, so {'.X' if layer is None else f'layer={layer!r}'} is taken. Name a layer, or "
        "None for .X, to choose another."
    )


def quote_all(names: Any) -> str:
    """All names for a message, or ``none``."""
    return ", ".join(repr(str(name)) for name in names) or "none"
