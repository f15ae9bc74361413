"""The commands that work on files: fit, predict, evaluate."""

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._utils.files import replacing
from .._utils.optional import import_optional
from ..datasets import align_genes, read_sections
from ..datasets._readers import read_h5ad
from ..pipeline import make_spatial_pipeline
from ._files import check_output, load_model, save_model, write_csv
from ._scores import print_scores, scores


def fit(arguments: Namespace) -> None:
    """Fit the recommended pipeline on one or several references and save it."""
    output = check_output(arguments.output)
    reference = read_sections(arguments.reference, **_keys(arguments))
    if reference.coords is None:
        raise ValueError(
            f"{' '.join(arguments.reference)}: no positions in obsm[{arguments.spatial_key!r}]; "
            "a reference needs them (see --spatial-key)"
        )
    labels = np.unique(reference.sections)
    n_cells, n_genes = reference.X.shape
    _report(arguments, f"fitting {n_cells:,} cells x {n_genes:,} genes, {len(labels)} section(s)")

    start = time.perf_counter()
    pipeline = make_spatial_pipeline(
        query=arguments.query_kind,
        n_top_genes=arguments.n_top_genes,
        random_state=arguments.seed,
        verbose=0 if arguments.quiet else 1,
    )
    apply_settings(pipeline, arguments.settings)
    pipeline.fit(reference.X, reference.coords, sections=reference.sections)
    # Whoever loads the model need not see a progress bar.
    pipeline.set_params(dpvae__verbose=0)
    save_model(output, pipeline, reference.genes)
    print(f"fitted in {time.perf_counter() - start:.0f} s; wrote {output}")


def predict(arguments: Namespace) -> None:
    """Predict the positions of a query and write them beside its barcodes or into a copy."""
    output = check_output(arguments.output, (".csv", ".h5ad"))
    model = load_model(arguments.model)
    query, adata = _read_query(arguments.query, arguments)
    coords, std = _predict(model, query, arguments, return_std=True)
    if output.suffix == ".csv":
        write_csv(output, query.obs_names, coords, std)
    else:
        adata = _as_anndata(query) if adata is None else adata
        adata.obsm["spatial_dpvae"] = coords
        adata.obs["dpvae_std"] = std
        with replacing(output) as scratch:
            adata.write_h5ad(scratch)
    print(f"placed {len(coords):,} cells; wrote {output}")


def evaluate(arguments: Namespace) -> None:
    """Score the predictions for a file whose positions are known."""
    model = load_model(arguments.model)
    query, _ = _read_query(arguments.file, arguments)
    if query.coords is None:
        raise ValueError(
            f"{arguments.file}: no positions in obsm[{arguments.spatial_key!r}] to compare with "
            "(see --spatial-key)"
        )
    coords = _predict(model, query, arguments)
    rows = {}
    labels = np.unique(query.sections)
    if len(labels) > 1:
        for label in labels.tolist():
            part = query.sections == label
            rows[label] = scores(query.coords[part], coords[part])
    rows["all"] = scores(query.coords, coords, query.sections)
    print_scores(rows)


def apply_settings(pipeline: Any, settings: list[tuple[str, Any]]) -> None:
    """Set parameters of the regressor, or of a step as ``genes__n_top_genes``."""
    for name, value in settings:
        full = name if "__" in name else f"dpvae__{name}"
        if full not in pipeline.get_params():
            known = pipeline.named_steps["dpvae"].get_params()
            raise ValueError(f"--set {name}: no such parameter; there are {', '.join(known)}")
        pipeline.set_params(**{full: value})


def _keys(arguments: Namespace) -> dict[str, Any]:
    return {
        "layer": arguments.layer,
        "spatial_key": arguments.spatial_key,
        "section_key": arguments.section_key,
    }


def _read_query(path: str, arguments: Namespace) -> tuple[Bunch, Any]:
    """Read a query; also its AnnData where it is one, to write the positions into."""
    source = Path(path)
    if source.is_file() and source.suffix != ".h5":
        adata = read_h5ad(source)
        return read_sections({source.stem: adata}, **_keys(arguments)), adata
    return read_sections(source, **_keys(arguments)), None


def _predict(model: dict[str, Any], query: Bunch, arguments: Namespace, **kwargs: Any) -> Any:
    """Align the genes of a query by name and predict its positions."""
    pipeline = model["pipeline"]
    if arguments.query_kind is not None:
        pipeline.set_params(scale__query=arguments.query_kind)
    X = align_genes(query.X, query.genes, model["genes"])
    missing = ~np.isin(model["genes"], query.genes)
    _report(arguments, f"placing {X.shape[0]:,} cells")
    return pipeline.predict(X, sections=query.sections, missing_genes=missing, **kwargs)


def _as_anndata(query: Bunch) -> Any:
    """An AnnData of what was read from other files."""
    anndata = import_optional("anndata", extra="anndata", purpose="writing .h5ad files")
    pandas = import_optional("pandas", extra="anndata", purpose="writing .h5ad files")
    adata = anndata.AnnData(
        query.X,
        obs=pandas.DataFrame(index=query.obs_names),
        var=pandas.DataFrame(index=query.genes),
    )
    if query.coords is not None:
        adata.obsm["spatial"] = query.coords
    return adata


def _report(arguments: Namespace, message: str) -> None:
    if not arguments.quiet:
        print(message, file=sys.stderr, flush=True)
