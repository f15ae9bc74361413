"""The commands that work on files: fit, predict, evaluate."""

import json
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .. import anndata as dpa
from .._spatial_model import SpatialModel
from .._spatial_model.layers import (
    ignore_not_counts,
    layer_of_query,
    restrict_to_query,
    warn_of_logarithms,
)
from .._utils.optional import import_optional
from ..datasets import read_sections
from ..datasets._formats import ANNDATA_READERS, format_of
from ..datasets._gene_matching import quote
from ..datasets._positions import located_cells
from ..datasets._readers import SECTION_KEY, SPATIAL_KEY, open_source
from ..datasets._section_labels import warn_of_pieces
from ..datasets._sources import named_sources
from ..datasets._tables import read_table
from ..pipeline import SpatialPipeline, make_paper_pipeline, make_spatial_pipeline
from ..pipeline._steps import silence
from ._files import check_output, load_model, save_model, write_csv, write_h5ad
from ._output import in_words_of_the_command, report, result
from ._scores import as_json, print_scores, scores

# A column of labels and a key of positions that are taken away before results are written.
_BY_FILE = "dpvae_file"
_ANCHORS = "dpvae_anchors"


def fit(arguments: Namespace) -> None:
    """Fit a pipeline on one or several references and save it."""
    output = check_output(arguments.output, inputs=[*arguments.reference, arguments.for_query])
    pipeline = new_pipeline(
        arguments, checkpoint=arguments.checkpoint, verbose=0 if arguments.quiet else 1
    )
    reference = read_reference(arguments, pipeline)
    report(arguments, f"fitting {described(reference)}")
    start = time.perf_counter()
    pipeline.fit(
        reference.X,
        reference.coords,
        sections=reference.sections,
        query_counts=reference.query_depths,
    )
    save_model(as_model(pipeline, reference, arguments), output)
    seconds = time.perf_counter() - start
    result(
        arguments,
        f"fitted in {seconds:.0f} s; wrote {output}",
        output=str(output),
        seconds=seconds,
        n_cells=reference.X.shape[0],
        n_genes=reference.X.shape[1],
        cleaned=reference.report,
    )


def predict(arguments: Namespace) -> None:
    """Predict the positions of a query and write them beside its barcodes or into a copy."""
    to_stdout = arguments.output == "-"
    output = None
    if not to_stdout:
        output = check_output(
            arguments.output, (".csv", ".h5ad"), [arguments.model, arguments.anchors]
        )
    model = load_asked_for(arguments)
    adata, name = open_query(arguments.query)
    report(arguments, f"placing {adata.n_obs:,} cells")
    key = section_key_asked_for(adata, model, arguments)
    if key is None and name in known_labels(model):
        # A file without labels is one section, which goes by the name of the file.
        adata.obs[_BY_FILE] = name
        key = _BY_FILE
    anchors_key = _anchors(adata, arguments.anchors)
    with naming_file(arguments.query):
        dpa.predict(
            model,
            adata,
            layer=layer_asked_for(arguments),
            section_key=key,
            anchors_key=anchors_key,
            adapt="auto" if not arguments.no_adapt else False,
            min_share=arguments.min_share,
            verbose=not arguments.quiet,
        )
    adata.obs.drop(columns=_BY_FILE, errors="ignore", inplace=True)
    if anchors_key == _ANCHORS:
        del adata.obsm[_ANCHORS]
    if output is not None and output.suffix == ".h5ad":
        write_h5ad(output, adata)
    else:
        std = np.asarray(adata.obs["dpvae_std"]) if "dpvae_std" in adata.obs else None
        write_csv(output, adata.obs_names, adata.obsm["spatial_dpvae"], std)
    if not to_stdout:
        result(
            arguments,
            f"placed {adata.n_obs:,} cells; wrote {output}",
            output=str(output),
            n_cells=adata.n_obs,
            n_genes_missing=adata.uns["dpvae"]["n_genes_missing"],
        )


@contextmanager
def naming_file(path: Any) -> Iterator[None]:
    """Name the file in errors of what is done with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def layer_asked_for(arguments: Namespace) -> str | None:
    """The layer of a query that is asked for; X is what AnnData names None."""
    return None if arguments.layer == "X" else arguments.layer or "auto"


def check(arguments: Namespace) -> None:
    """Say what a query may expect of a model, without placing it."""
    model = load_asked_for(arguments)
    adata, _ = open_query(arguments.query)
    with naming_file(arguments.query):
        found = dpa.check(
            model,
            adata,
            layer=layer_asked_for(arguments),
            section_key=section_key_asked_for(adata, model, arguments),
            min_share=arguments.min_share,
        )
    print(json.dumps(found.to_dict()) if arguments.json else in_words_of_the_command(str(found)))


def evaluate(arguments: Namespace) -> None:
    """Score the predictions for a file whose positions are known."""
    model = load_asked_for(arguments)
    spatial_key = arguments.spatial_key or model.spatial_key or SPATIAL_KEY
    adata, name = open_query(arguments.file)
    layer = layer_asked_for(arguments)
    query = read_sections(
        {name: adata},
        layer=layer_of_query(adata, model) if layer == "auto" else layer,
        spatial_key=spatial_key,
        section_key=section_key_asked_for(adata, model, arguments),
    )
    if query.coords is None:
        raise ValueError(
            f"{arguments.file}: no positions in obsm[{spatial_key!r}] to compare with "
            "(see --spatial-key)"
        )
    query = located_cells(query, arguments.file, "scored")
    report(arguments, f"placing {len(query.coords):,} cells")
    labels = np.unique(query.sections)
    by_name = labels.tolist() == [name] and name not in known_labels(model)
    with naming_file(arguments.file):
        coords = model.predict(
            query.X,
            genes=query.genes,
            gene_ids=query.gene_ids,
            sections=None if by_name else query.sections,
            min_share=arguments.min_share,
        )
    rows = {}
    if len(labels) > 1:
        for label in labels.tolist():
            part = query.sections == label
            rows[label] = scores(query.coords[part], coords[part])
    rows["all"] = scores(query.coords, coords, query.sections)
    if arguments.json:
        print(json.dumps(as_json(rows)))
    else:
        print_scores(rows)


def read_reference(arguments: Namespace, pipeline: SpatialPipeline) -> Bunch:
    """Read what a pipeline learns from: located cells of one or several sections."""
    names = " ".join(arguments.reference)
    layer = None if arguments.layer == "X" else arguments.layer
    sources = named_sources(arguments.reference)
    if arguments.layer is None:
        sources = {name: _looked_at(path, name, pipeline) for name, path in sources.items()}
    reference = read_sections(
        sources,
        layer=layer,
        spatial_key=arguments.spatial_key,
        section_key=arguments.section_key,
    )
    if reference.coords is None:
        raise ValueError(
            f"{names}: no positions in obsm[{arguments.spatial_key!r}]; a reference needs them "
            "(see --spatial-key)"
        )
    reference = located_cells(reference, names, "fitted")
    reference.query_depths = None
    if arguments.for_query is not None:
        query, _ = open_query(arguments.for_query)
        reference.query_depths = restrict_to_query(reference, query)
    if len(np.unique(reference.sections)) == 1:
        warn_of_pieces(reference.coords, names)
    return reference


def _looked_at(path: Path, name: str, pipeline: SpatialPipeline) -> Any:
    """The AnnData of a file that holds one, with a warning if its .X is not what is wanted."""
    if format_of(path) not in ANNDATA_READERS:
        return path
    adata = open_source(path)
    if warn_of_logarithms(adata, pipeline, name, "--layer {}"):
        # The step that takes logarithms need not say it again.
        ignore_not_counts()
    return adata


def described(reference: Bunch) -> str:
    """Size of a reference, in words."""
    n_cells, n_genes = reference.X.shape
    n_sections = len(np.unique(reference.sections))
    return f"{n_cells:,} cells x {n_genes:,} genes, {n_sections} section(s)"


def new_pipeline(arguments: Namespace, **params: Any) -> SpatialPipeline:
    """The pipeline of a preset with what the arguments say of it."""
    params |= {"random_state": arguments.seed, "device": arguments.device}
    if arguments.n_top_genes is not None:
        params["n_top_genes"] = arguments.n_top_genes
    if arguments.preset == "recommended":
        pipeline = make_spatial_pipeline(query=arguments.query_kind or "auto", **params)
    elif arguments.query_kind is None:
        params.pop("n_calibration_folds", None)  # It has none.
        pipeline = make_paper_pipeline(**params)
    else:
        raise ValueError(
            f"--query {arguments.query_kind}: the pipeline of --preset paper does not z-score "
            "sections. Leave out one of the two."
        )
    apply_settings(pipeline, arguments.settings)
    return pipeline


def as_model(pipeline: Any, reference: Bunch, arguments: Namespace) -> SpatialModel:
    """A fitted pipeline with what it must know of its data."""
    # Whoever loads the model need not see a progress bar, have the same device, or write files.
    pipeline.set_params(dpvae__device="auto", dpvae__checkpoint=None)
    silence(pipeline)
    return SpatialModel.of(
        pipeline,
        reference.X,
        reference.genes,
        gene_ids=reference.gene_ids,
        unit=arguments.unit,
        layer=reference.layer,
        spatial_key=arguments.spatial_key,
        section_key=arguments.section_key,
    )


def apply_settings(pipeline: Any, settings: list[tuple[str, Any]]) -> None:
    """Set parameters of the regressor, or of a step as ``genes__n_top_genes``."""
    for name, value in settings:
        pipeline.set_params(**{full_name(pipeline, name, "--set"): value})


def full_name(pipeline: Any, name: str, option: str) -> str:
    """Name of a parameter of the pipeline; without a step it is one of the regressor."""
    full = name if "__" in name else f"dpvae__{name}"
    if full not in pipeline.get_params():
        known = pipeline.named_steps["dpvae"].get_params()
        raise ValueError(f"{option} {name}: no such parameter; there are {', '.join(known)}")
    return full


def load_asked_for(arguments: Namespace) -> SpatialModel:
    """The model, with the statistics by which the query is z-scored where they are chosen."""
    model = load_model(arguments.model)
    if arguments.query_kind is not None:
        chosen = [name for name in model.pipeline.get_params() if name.endswith("__query")]
        if not chosen:
            raise ValueError(f"--query: {arguments.model} has no step that z-scores sections")
        model.pipeline.set_params(**dict.fromkeys(chosen, arguments.query_kind))
    return model


def known_labels(model: SpatialModel) -> list[str]:
    """Labels of the model's sections, as text."""
    return [] if model.sections is None else [str(label) for label in model.sections]


def _anchors(adata: Any, given: str | None) -> str | None:
    """The key of .obsm with known positions: the one that is named, or of a table in a file."""
    if given is None or given in adata.obsm:
        return given
    if not Path(given).is_file():
        raise ValueError(
            f"--anchors {given}: neither a key of .obsm ({', '.join(adata.obsm) or 'none'}) nor "
            "a file"
        )
    places = _read_places(given)
    unknown = [name for name in places if name not in adata.obs_names]
    if unknown:
        what = f"{len(unknown)} barcodes are not in the query ({quote(unknown)})"
        raise ValueError(f"--anchors {given}: {what}")
    nowhere = [np.nan] * len(next(iter(places.values())))
    adata.obsm[_ANCHORS] = np.array([places.get(name, nowhere) for name in adata.obs_names])
    return _ANCHORS


def _read_places(given: str) -> dict[str, list[float]]:
    """A table of barcode, x, y (z), such as 'predict' writes; blank cells are not known."""
    lines = read_table(Path(given))
    if len(lines) < 2:
        raise ValueError(f"--anchors {given}: no line below the header of barcode, x, y")
    header, *rows = lines
    axes = {name.strip().lower(): i for i, name in enumerate(header) if i > 0}
    columns = [axes[name] for name in "xyz" if name in axes]
    if not {"x", "y"} <= axes.keys():
        columns = list(range(1, len(header)))
    if not columns or any(len(row) != len(header) for row in rows):
        raise ValueError(
            f"--anchors {given}: not a table of barcode, x, y (lines of unequal length)"
        )
    places: dict[str, list[float]] = {}
    for row in rows:
        try:
            place = [float(row[i]) if row[i].strip() else np.nan for i in columns]
        except ValueError as error:
            what = f"not a table of barcode, x, y ({error})"
            raise ValueError(f"--anchors {given}: {what}") from error
        if not np.array_equal(places.setdefault(row[0], place), place, equal_nan=True):
            raise ValueError(f"--anchors {given}: two places for {row[0]}; keep one line of it")
    return places


def open_query(path: str) -> tuple[Any, str]:
    """A query as an AnnData, whole where its file holds one, and the name of the file."""
    sources = named_sources(path)
    if len(sources) > 1:
        raise ValueError(f"{path} fits {len(sources)} files. Pass one at a time.")
    ((name, source),) = sources.items()
    found = open_source(source)
    return (
        _as_anndata(read_sections({name: source})) if isinstance(found, Bunch) else found
    ), name


def section_key_asked_for(adata: Any, model: SpatialModel, arguments: Namespace) -> str | None:
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
