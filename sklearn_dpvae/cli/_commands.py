"""The commands that work on files: fit, predict, evaluate."""

import sys
import time
from argparse import Namespace
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .. import anndata as dpa
from .._spatial_model import SpatialModel
from .._utils.files import replacing
from .._utils.optional import import_optional
from ..datasets import read_sections
from ..datasets._positions import located_cells
from ..datasets._readers import SECTION_KEY, SPATIAL_KEY, open_source
from ..datasets._section_labels import warn_of_pieces
from ..datasets._sources import named_sources
from ..pipeline import make_spatial_pipeline
from ._files import check_output, load_model, save_model, write_csv
from ._scores import print_scores, scores

# Column of labels that is taken away again before results are written.
_BY_FILE = "dpvae_file"


def fit(arguments: Namespace) -> None:
    """Fit the recommended pipeline on one or several references and save it."""
    output = check_output(arguments.output)
    keys = {name: getattr(arguments, name) for name in ("layer", "spatial_key", "section_key")}
    reference = read_sections(arguments.reference, **keys)
    if reference.coords is None:
        raise ValueError(
            f"{' '.join(arguments.reference)}: no positions in obsm[{arguments.spatial_key!r}]; "
            "a reference needs them (see --spatial-key)"
        )
    reference = located_cells(reference, " ".join(arguments.reference), "fitted")
    labels = np.unique(reference.sections)
    if len(labels) == 1:
        warn_of_pieces(reference.coords, " ".join(arguments.reference))
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
    model = SpatialModel.of(
        pipeline,
        reference.X,
        reference.genes,
        gene_ids=reference.gene_ids,
        unit=arguments.unit,
        **keys,
    )
    save_model(model, output)
    print(f"fitted in {time.perf_counter() - start:.0f} s; wrote {output}")


def predict(arguments: Namespace) -> None:
    """Predict the positions of a query and write them beside its barcodes or into a copy."""
    output = check_output(arguments.output, (".csv", ".h5ad"))
    model = _load_model(arguments)
    adata, name = _open_query(arguments.query)
    _report(arguments, f"placing {adata.n_obs:,} cells")
    key = _section_key(adata, model, arguments)
    if key is None:
        # A file without labels is one section, which goes by the name of the file.
        adata.obs[_BY_FILE] = name
    layer = None if arguments.layer == "X" else arguments.layer or "auto"
    dpa.predict(
        model, adata, layer=layer, section_key=key or _BY_FILE, min_share=arguments.min_share
    )
    adata.obs.drop(columns=_BY_FILE, errors="ignore", inplace=True)
    if output.suffix == ".csv":
        std = np.asarray(adata.obs["dpvae_std"]) if "dpvae_std" in adata.obs else None
        write_csv(output, adata.obs_names, adata.obsm["spatial_dpvae"], std)
    else:
        with replacing(output) as scratch:
            adata.write_h5ad(scratch)
    print(f"placed {adata.n_obs:,} cells; wrote {output}")


def evaluate(arguments: Namespace) -> None:
    """Score the predictions for a file whose positions are known."""
    model = _load_model(arguments)
    spatial_key = arguments.spatial_key or model.spatial_key or SPATIAL_KEY
    adata, name = _open_query(arguments.file)
    layer = model.layer if arguments.layer is None else arguments.layer
    query = read_sections(
        {name: adata},
        layer=None if layer == "X" else layer,
        spatial_key=spatial_key,
        section_key=_section_key(adata, model, arguments),
    )
    if query.coords is None:
        raise ValueError(
            f"{arguments.file}: no positions in obsm[{spatial_key!r}] to compare with "
            "(see --spatial-key)"
        )
    query = located_cells(query, arguments.file, "scored")
    _report(arguments, f"placing {len(query.coords):,} cells")
    coords = model.predict(
        query.X,
        genes=query.genes,
        gene_ids=query.gene_ids,
        sections=query.sections,
        min_share=arguments.min_share,
    )
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


def _open_query(path: str) -> tuple[Any, str]:
    """A query as an AnnData, whole where its file holds one, and the name of the file."""
    sources = named_sources(path)
    if len(sources) > 1:
        raise ValueError(f"{path} fits {len(sources)} files. Pass one at a time.")
    ((name, source),) = sources.items()
    found = open_source(source)
    return (
        _as_anndata(read_sections({name: source})) if isinstance(found, Bunch) else found
    ), name


def _section_key(adata: Any, model: SpatialModel, arguments: Namespace) -> str | None:
    """The column asked for, else the one of the fit where the query has it."""
    if arguments.section_key is not None:
        return str(arguments.section_key)
    return model.section_key if model.section_key in adata.obs else None


def _as_anndata(query: Bunch) -> Any:
    """An AnnData of what was read from other files."""
    anndata = import_optional("anndata", extra="anndata", purpose="predicting positions")
    pandas = import_optional("pandas", extra="anndata", purpose="predicting positions")
    var = pandas.DataFrame(index=query.genes)
    if query.gene_ids is not None:
        var["gene_ids"] = query.gene_ids
    adata = anndata.AnnData(
        query.X,
        obs=pandas.DataFrame({SECTION_KEY: query.sections}, index=query.obs_names),
        var=var,
    )
    if query.coords is not None:
        adata.obsm["spatial"] = query.coords
    return adata


def _report(arguments: Namespace, message: str) -> None:
    if not arguments.quiet:
        print(message, file=sys.stderr, flush=True)
