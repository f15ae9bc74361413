"""The command that writes a page on a reference, with all pictures in it."""

import base64
import html
import io
import time
from argparse import Namespace
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .. import __version__
from .._utils.counts import kind_of_values, library_sizes
from .._utils.files import replacing
from .._utils.optional import import_optional
from ..metrics import procrustes_align
from ..plotting import ReconstructionDisplay
from ._commands import described, new_pipeline, read_reference
from ._files import check_output
from ._folds import LEVELS, Placed, make_folds, place_each
from ._output import report as say
from ._output import result
from ._scores import as_json, scores

N_GENES = 30
N_MAPS = 6

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; } th { text-align: left; }
td, th { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; } p.note { color: #555; }
"""


def report(arguments: Namespace) -> None:
    """Fit without each part of a reference in turn, and write what comes of it on a page."""
    output = check_output(arguments.output, (".html", ".htm"))
    matplotlib = import_optional("matplotlib", extra="plot", purpose="drawing the report")
    matplotlib.use("Agg")
    start = time.perf_counter()
    pipeline = new_pipeline(arguments)
    reference = read_reference(arguments, pipeline)
    kind, folds = make_folds(reference, arguments)
    say(arguments, f"{described(reference)}; leaving out {kind}, {len(folds)} folds")
    parts: list[Placed] = []
    for _, placed in place_each([pipeline], reference, folds, in_full=True):
        parts.append(placed)
        say(arguments, f"[{len(parts)}/{len(folds)}] {placed.seconds:.0f} s")
    say(arguments, "fitting the genes on all cells")
    genes = _gene_table(pipeline, reference)
    unit = arguments.unit or "units of the positions"
    rows = _errors(reference, parts)
    page = _page(
        "Report on " + ", ".join(map(str, arguments.reference)),
        [
            ("What was read", _what_was_read(reference)),
            ("Before the fit", _before(reference, unit)),
            (f"Errors on {kind} that were left out", _table_of_errors(rows, unit, len(folds))),
            ("Maps", _maps(reference, parts, arguments.unit)),
            ("Radii", _table_of_radii(reference, parts, unit, kind)),
            ("Genes", genes),
        ],
    )
    with replacing(output) as scratch:
        scratch.write_text(page, encoding="utf-8")
    seconds = time.perf_counter() - start
    result(
        arguments,
        f"wrote {output} in {seconds:.0f} s",
        output=str(output),
        left_out=kind,
        errors=rows,
    )


def _what_was_read(reference: Bunch) -> str:
    labels, sizes = np.unique(reference.sections, return_counts=True)
    sections = _table(
        ["section", "cells"], [[label, f"{n:,}"] for label, n in zip(labels, sizes, strict=True)]
    )
    found = reference.report
    nested = any(isinstance(v, dict) and k in labels for k, v in found.items())
    by_source = found if nested else {"": found}
    left_out = [
        [source, what, ", ".join(f"{n:,} {k}" for k, n in n.items()) if isinstance(n, dict) else n]
        for source, items in by_source.items()
        for what, n in items.items()
    ]
    cleaned = (
        _table(["source", "left out or renamed", "number"], left_out)
        if left_out
        else "<p>Nothing was left out or renamed.</p>"
    )
    layer = (
        "" if reference.layer is None else f" Expression is that of the layer {reference.layer}."
    )
    return f"<p>{_text(described(reference))}.{_text(layer)}</p>{sections}{cleaned}"


def _before(reference: Bunch, unit: str) -> str:
    """What can be seen of the data before anything is fitted."""
    X = reference.X
    negative = X.data.min(initial=0) < 0
    kind = "negative numbers" if negative else kind_of_values(X)
    said = {
        "counts": "Whole numbers, as the pipeline takes them.",
        "logarithms": "Logarithms, not counts: name the layer with the counts by --layer.",
        "fractions": "Fractions, such as corrected counts.",
        "negative numbers": "Negative numbers: name the layer with the counts by --layer.",
    }[kind]
    low, median, high = np.quantile(library_sizes(X), [0.05, 0.5, 0.95])
    n_expressed = np.diff(X.indptr)
    n_seen = int((np.bincount(X.indices, minlength=X.shape[1]) >= 0.01 * X.shape[0]).sum())
    extents = [
        np.ptp(reference.coords[reference.sections == label], axis=0)
        for label in np.unique(reference.sections)
    ]
    size = " and ".join(f"{a:,.4g} × {b:,.4g}" for a, b in (e[:2] for e in extents[:3]))
    return _table(
        ["", ""],
        [
            ["values", said],
            [
                "counts per cell",
                f"{median:,.0f} (5 to 95 %: {low:,.0f} to {high:,.0f})",
            ],
            ["genes per cell", f"{np.median(n_expressed):,.0f}"],
            ["genes in at least 1 % of the cells", f"{n_seen:,}"],
            ["extent", f"{size} {unit}"],
        ],
    )


def _errors(reference: Bunch, parts: list[Placed]) -> dict[str, dict[str, Any]]:
    """Scores of the pipeline and of the baseline, over all parts."""
    found: dict[str, dict[str, Any]] = {}
    for name, key in (("DPVAE", "coords"), ("kNN(15) on 30 PCs", "baseline")):
        tables, distances = [], []
        for part in parts:
            truth, labels = reference.coords[part.rows], reference.sections[part.rows]
            placed = getattr(part, key)
            tables.append(as_json({"": scores(truth, placed, labels)})[""])
            distances.append(_distances(truth, placed, labels))
        keys = [k for k in tables[0] if k not in ("n_cells", "notes")]
        found[name] = {
            k: _mean([table[k] for table in tables if table[k] is not None]) for k in keys
        } | {"median_error": float(np.median(np.concatenate(distances)))}
    return found


def _distances(truth: np.ndarray, placed: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Distance of each cell from its place, after the best similarity of its section."""
    distances: np.ndarray = np.linalg.norm(_aligned(truth, placed, labels) - truth, axis=1)
    return distances


def _aligned(truth: np.ndarray, placed: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Move what was placed by the best similarity of each section."""
    moved = placed.copy()
    for label in np.unique(labels):
        rows = labels == label
        if rows.sum() > 3:
            moved[rows] = procrustes_align(moved[rows], truth[rows]).transform(moved[rows])
    return moved


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _table_of_errors(rows: dict[str, dict[str, Any]], unit: str, n_folds: int) -> str:
    header = [
        "",
        "disparity",
        "correlation of distances",
        "neighbors kept",
        f"median error ({unit})",
    ]
    keys = ["disparity", "distance_correlation", "neighborhood_hits_10", "median_error"]
    body = [
        [name, *("-" if row[key] is None else f"{row[key]:.4g}" for key in keys)]
        for name, row in rows.items()
    ]
    return _table(header, body) + (
        f'<p class="note">Means over {n_folds} folds. The pipeline was fitted anew without each '
        "part. Disparity is Procrustes, 0 best, 1 worst. Errors are distances after the best "
        "similarity of each section in a fold. The baseline gets the same z-scores.</p>"
    )


def _maps(reference: Bunch, parts: list[Placed], unit: str | None) -> str:
    """Where the cells are and where they were placed, each by a fit without them."""
    placed = np.full(reference.coords.shape, np.nan)
    for part in parts:
        rows = part.rows
        placed[rows] = _aligned(reference.coords[rows], part.coords, reference.sections[rows])
    pictures = []
    for label in np.unique(reference.sections)[:N_MAPS]:
        rows = (reference.sections == label) & np.isfinite(placed).all(axis=1)
        display = ReconstructionDisplay.from_predictions(
            reference.coords[rows], placed[rows], align=False, marked=(), unit=unit
        )
        alt = (
            f"Section {label}: left, its {rows.sum()} cells where they are, colored by position; "
            "right, the same cells in the same colors where they were placed."
        )
        pictures.append(_picture(display.figure_, alt, str(label)))
    return "".join(pictures)


def _table_of_radii(reference: Bunch, parts: list[Placed], unit: str, kind: str) -> str:
    """How many of the cells lie within the radius that is said to hold them."""
    if kind == "whole sections":
        return (
            "<p>A section that was left out has a frame that the fit does not know. --folds "
            "blocks or random tell how much radii hold.</p>"
        )
    radii = np.concatenate([part.radii for part in parts if part.radii is not None])
    away = np.concatenate(
        [np.linalg.norm(part.coords - reference.coords[part.rows], axis=1) for part in parts]
    )
    body = [
        [f"{level:.0%}", f"{(away <= radii[:, i]).mean():.0%}", f"{np.median(radii[:, i]):,.4g}"]
        for i, level in enumerate(LEVELS)
    ]
    return _table(["should hold", "holds", f"median radius ({unit})"], body) + (
        '<p class="note">Radii are calibrated for new cells of the same sections. Of a part of '
        "the tissue that the model has not seen, they hold less.</p>"
    )


def _gene_table(pipeline: Any, reference: Bunch) -> str:
    """The genes with the most spatial autocorrelation."""
    steps = [step for _, step in pipeline.steps[:2]]
    normalize, select = steps
    X = normalize.fit_transform(reference.X)
    select.fit(X, reference.coords, sections=reference.sections)
    order = np.argsort(-select.scores_, kind="stable")[:N_GENES]
    ids = reference.gene_ids
    seen = np.bincount(reference.X.indices, minlength=reference.X.shape[1]) / reference.X.shape[0]
    body = [
        [
            reference.genes[i],
            "" if ids is None else ids[i],
            f"{select.scores_[i]:.3f}",
            f"{seen[i]:.0%}",
        ]
        for i in order
    ]
    n = int(select.get_support().sum())
    return (
        f"<p>{n:,} of {len(reference.genes):,} genes are selected. Those with the highest "
        "Moran's I, in standard deviations of a gene without structure:</p>"
        + _table(["gene", "identifier", "z of Moran's I", "cells that have it"], body)
    )


def _picture(figure: Any, alt: str, title: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    import_optional("matplotlib.pyplot", extra="plot", purpose="drawing the report").close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<h3>{_text(title)}</h3><img alt="{_text(alt)}" src="data:image/png;base64,{data}">'


def _table(header: list[Any], rows: list[list[Any]]) -> str:
    def cell(value: Any, tag: str) -> str:
        text = str(value)
        number = tag == "td" and text[:1].isdigit() and len(text) < 12
        css = ' class="n"' if number else ""
        return f"<{tag}{css}>{_text(text)}</{tag}>"

    head = "".join(cell(value, "th") for value in header)
    body = "".join(f"<tr>{''.join(cell(v, 'td') for v in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _page(title: str, sections: list[tuple[str, str]]) -> str:
    body = "".join(f"<h2>{_text(name)}</h2>{content}" for name, content in sections)
    made = f"sklearn_dpvae {__version__}, {time.strftime('%Y-%m-%d %H:%M')}"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>"
        f'<p class="note">{made}</p>{body}</body></html>'
    )


def _text(value: Any) -> str:
    return html.escape(str(value))
