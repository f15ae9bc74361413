"""The commands that work on files: fit, predict, evaluate."""

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .. import anndata as dpa
from .._spatial_model import SpatialModel
from .._utils.files import replacing
from .._utils.optional import import_optional
from ..datasets import read_sections
from ..datasets._positions import located_cells
from ..datasets._readers import SPATIAL_KEY, read_h5ad
from ..pipeline import SpatialPipeline, make_paper_pipeline, make_spatial_pipeline
from ._files import check_output, load_model, save_model, write_csv
from ._scores import print_scores, scores

# Column of labels that is taken away again before results are written.
_BY_FILE = "dpvae_file"


def fit(arguments: Namespace) -> None:
    """Fit a pipeline on one or several references and save it."""
    output = check_output(arguments.output)
    pipeline = _make_pipeline(arguments)
    keys = {name: getattr(arguments, name) for name in ("layer", "spatial_key", "section_key")}
    reference = read_sections(arguments.reference, **keys)
    if reference.coords is None:
        raise ValueError(
            f"{' '.join(arguments.reference)}: no positions in obsm[{arguments.spatial_key!r}]; "
            "a reference needs them (see --spatial-key)"
        )
    reference = located_cells(reference, " ".join(arguments.reference), "fitted")
    labels = np.unique(reference.sections)
    n_cells, n_genes = reference.X.shape
    _report(arguments, f"fitting {n_cells:,} cells x {n_genes:,} genes, {len(labels)} section(s)")

    start = time.perf_counter()
    pipeline.fit(reference.X, reference.coords, sections=reference.sections)
    # Whoever loads the model need not see a progress bar.
    pipeline.set_params(dpvae__verbose=0)
    model = SpatialModel.of(pipeline, reference.X, reference.genes, unit=arguments.unit, **keys)
    save_model(model, output)
    print(f"fitted in {time.perf_counter() - start:.0f} s; wrote {output}")


def _make_pipeline(arguments: Namespace) -> SpatialPipeline:
    """The pipeline of a preset, with the parameters that are given."""
    params: dict[str, Any] = {
        "random_state": arguments.seed,
        "verbose": 0 if arguments.quiet else 1,
    }
    if arguments.n_top_genes is not None:
        params["n_top_genes"] = arguments.n_top_genes
    if arguments.preset == "recommended":
        query = arguments.query_kind or "same_section"
        pipeline = make_spatial_pipeline(query=query, **params)
    elif arguments.query_kind is None:
        pipeline = make_paper_pipeline(**params)
    else:
        raise ValueError(
            f"--query {arguments.query_kind}: the pipeline of --preset paper does not z-score "
            "sections. Leave out one of the two."
        )
    apply_settings(pipeline, arguments.settings)
    return pipeline


def predict(arguments: Namespace) -> None:
    """Predict the positions of a query and write them beside its barcodes or into a copy."""
    output = check_output(arguments.output, (".csv", ".h5ad"))
    model = _load_model(arguments)
    query, adata, key = _read_query(arguments.query, model, arguments)
    _report(arguments, f"placing {len(query.obs_names):,} cells")
    adata = _as_anndata(query) if adata is None else adata
    if key is None:
        # A file without labels is one section, which goes by the name of the file.
        adata.obs[_BY_FILE] = query.sections
    layer = None if arguments.layer == "X" else arguments.layer or "auto"
    dpa.predict(model, adata, layer=layer, section_key=key or _BY_FILE)
    adata.obs.drop(columns=_BY_FILE, errors="ignore", inplace=True)
    if output.suffix == ".csv":
        std = np.asarray(adata.obs["dpvae_std"]) if "dpvae_std" in adata.obs else None
        write_csv(output, query.obs_names, adata.obsm["spatial_dpvae"], std)
    else:
        with replacing(output) as scratch:
            adata.write_h5ad(scratch)
    print(f"placed {adata.n_obs:,} cells; wrote {output}")


def evaluate(arguments: Namespace) -> None:
    """Score the predictions for a file whose positions are known."""
    model = _load_model(arguments)
    spatial_key = arguments.spatial_key or model.spatial_key or SPATIAL_KEY
    query, _, _ = _read_query(arguments.file, model, arguments, spatial_key)
    if query.coords is None:
        raise ValueError(
            f"{arguments.file}: no positions in obsm[{spatial_key!r}] to compare with "
            "(see --spatial-key)"
        )
    query = located_cells(query, arguments.file, "scored")
    _report(arguments, f"placing {len(query.coords):,} cells")
    coords = model.predict(query.X, genes=query.genes, sections=query.sections)
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


def _load_model(arguments: Namespace) -> SpatialModel:
    """The model, with the statistics by which the query is z-scored where they are chosen."""
    model = load_model(arguments.model)
    if arguments.query_kind is not None:
        chosen = [name for name in model.pipeline.get_params() if name.endswith("__query")]
        if not chosen:
            raise ValueError(f"--query: {arguments.model} has no step that z-scores sections")
        model.pipeline.set_params(**dict.fromkeys(chosen, arguments.query_kind))
    return model


def _read_query(
    path: str, model: SpatialModel, arguments: Namespace, spatial_key: str | None = None
) -> tuple[Bunch, Any, str | None]:
    """Read a query by the layer and the column asked for, else by those of the fit.

    Also returned: its AnnData, where it is one, to write the positions into; and the column with
    the labels, where it has one.
    """
    source = Path(path)
    layer, key = arguments.layer, arguments.section_key
    if source.is_file() and source.suffix != ".h5":
        adata = read_h5ad(source)
        layer = model.layer if layer is None else layer
        if key is None and model.section_key in adata.obs:
            key = model.section_key
        found: Any = {source.stem: adata}
    else:
        adata, key, found = None, None, source
    query = read_sections(
        found,
        layer=None if layer == "X" else layer,
        spatial_key=spatial_key,
        section_key=key,
    )
    return query, adata, key


def _as_anndata(query: Bunch) -> Any:
    """An AnnData of what was read from other files."""
    anndata = import_optional("anndata", extra="anndata", purpose="predicting positions")
    pandas = import_optional("pandas", extra="anndata", purpose="predicting positions")
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
