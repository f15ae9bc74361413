"""The command that maps cells to locations. Imports the other commands' parts."""

from argparse import Namespace
from typing import Any

import numpy as np

from .. import anndata as dpa
from .._utils.warn import warn
from ._commands import (
    layer_asked_for,
    load_asked_for,
    naming_file,
    open_query,
    section_key_asked_for,
)
from ._files import check_output, write_h5ad
from ._output import report, result


def map(arguments: Namespace) -> None:
    """Map cells to locations and write the matrix, with labels where they are asked for."""
    files = (arguments.model, arguments.query, arguments.reference)
    output = check_output(arguments.output, (".h5ad",), files)
    capacity = _capacity(arguments)
    model = load_asked_for(arguments)
    adata, _ = open_query(arguments.query)
    if arguments.labels is not None and arguments.labels not in adata.obs:
        raise ValueError(
            f"--labels {arguments.labels}: {arguments.query} has no such column of obs; it has "
            f"{', '.join(adata.obs) or 'none'}"
        )
    reference = None
    if arguments.reference is not None:
        reference, _ = open_query(arguments.reference)
    report(arguments, f"mapping {adata.n_obs:,} cells")
    with naming_file(", ".join(filter(None, (arguments.query, arguments.reference)))):
        mapped = dpa.map(
            model,
            adata,
            reference,
            by=arguments.by,
            capacity=capacity,
            layer=layer_asked_for(arguments),
            section_key=section_key_asked_for(adata, model, arguments) or "auto",
            spatial_key=arguments.spatial_key,
            min_share=arguments.min_share,
        )
    if arguments.labels is not None:
        _project_labels(mapped, arguments.labels)
    write_h5ad(output, mapped)
    n_left = int((np.diff(mapped.X.indptr) == 0).sum())
    if n_left and capacity is not None:
        warn(
            f"--capacity {arguments.capacity} leaves no room for {n_left:,} cells; their rows "
            "are empty"
        )
    result(
        arguments,
        f"mapped {adata.n_obs - n_left:,} cells to {mapped.n_vars:,} locations; wrote {output}",
        output=str(output),
        n_cells=adata.n_obs,
        n_locations=mapped.n_vars,
        n_without_room=n_left,
    )


def _capacity(arguments: Namespace) -> int | str | None:
    """A number of cells, or the name of a column."""
    given = arguments.capacity
    if given is None:
        return None
    try:
        return int(given)
    except ValueError:
        pass
    if arguments.reference is None:
        raise ValueError(f"--capacity {given}: a column needs the file that has it, --reference")
    return str(given)


def _project_labels(mapped: Any, key: str) -> None:
    """Write shares of labels to the locations, which are columns here."""
    locations = mapped.T
    dpa.project_labels(mapped, locations, key)
    name = f"dpvae_{key}"
    mapped.var[name] = locations.obs[name]
    for full in (name, f"{name}_std"):
        mapped.varm[full] = locations.obsm[full]
