"""One cleaning for sections of every source, with a report.

Left out are features that are not genes, spots beside the tissue, and cells without counts. Names
of genes and cells are made unique. May import this folder's names of genes.
"""

import re
from collections import Counter
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ._gene_matching import quote
from ._genes import make_unique

GENE_EXPRESSION = "Gene Expression"

# Other kinds of features. Tables of genes have biotypes in a column of the same name, so that what
# is not in this list stays.
_NOT_GENES = {
    "antibody capture",
    "blank codeword",
    "crispr guide capture",
    "custom",
    "deprecated codeword",
    "genomic control",
    "multiplexing capture",
    "negative control codeword",
    "negative control probe",
    "peaks",
    "protein",
    "spike-in",
    "unassigned codeword",
}

# Controls of Xenium, CosMx, MERSCOPE and CytAssist, in files that do not say what a feature is.
_CONTROLS = re.compile(
    r"(NegControl(Probe|Codeword)|NegPrb|UnassignedCodeword|DeprecatedCodeword|Intergenic_Region"
    r"|SystemControl|FalseCode|antisense_|BLANK[-_]|Blank[-_]|Negative\d*$)"
)


def clean(section: Bunch, name: str) -> tuple[Bunch, list[str]]:
    """Keep genes and cells that can be learned from.

    Parameters
    ----------
    section : Bunch
        With X, genes and obs_names, and coords, sections, gene_ids, feature_types and in_tissue,
        each of which may be None.
    name : str
        What messages call it.

    Returns
    -------
    section : Bunch
        With X, coords, genes, gene_ids, sections, obs_names and report: what was left out or
        renamed, as a dict of numbers.
    notes : list of str
        The same in words.

    Raises
    ------
    ValueError
        If no gene or no cell is left.
    """
    report: dict[str, Any] = {}
    notes: list[str] = []
    _keep_genes(section, name, report, notes)
    _keep_cells(section, name, report, notes)
    _name_genes(section, report, notes)
    section.obs_names, repeated = make_unique(section.obs_names)
    if repeated:
        report["repeated names of cells"] = len(repeated)
        notes.append(
            f"{len(repeated)} names of cells occur more than once ({quote(repeated)}); -1, -2, "
            "... were appended"
        )
    kept = ("X", "coords", "genes", "gene_ids", "sections", "obs_names", "layer")
    return Bunch(**{key: section[key] for key in kept}, report=report), notes


def _keep_genes(section: Bunch, name: str, report: dict[str, Any], notes: list[str]) -> None:
    kinds = section.feature_types
    if kinds is None:
        kinds = np.full(len(section.genes), "")
    if (kinds == GENE_EXPRESSION).any():
        is_gene = kinds == GENE_EXPRESSION
    else:
        is_gene = np.array([kind.lower() not in _NOT_GENES for kind in kinds.tolist()])
    controls = np.array([_CONTROLS.match(gene) is not None for gene in section.genes.tolist()])
    is_control = is_gene & controls
    is_gene &= ~controls
    if not is_gene.any():
        raise ValueError(
            f"{name} has no feature of the type {GENE_EXPRESSION!r}: "
            f"{_listed(Counter(kinds[~controls].tolist()))}."
        )
    if is_gene.all():
        return
    of_kind = Counter(kinds[~is_gene & ~is_control].tolist())
    of_kind["control"] += int(is_control.sum())
    report["features that are not genes"] = {kind: n for kind, n in of_kind.items() if n}
    notes.append(
        f"{int((~is_gene).sum())} of {len(is_gene)} features that are not genes were left out "
        f"({_listed(of_kind)})"
    )
    section.X = section.X[:, np.flatnonzero(is_gene)]
    section.genes = section.genes[is_gene]
    if section.gene_ids is not None:
        section.gene_ids = section.gene_ids[is_gene]


def _keep_cells(section: Bunch, name: str, report: dict[str, Any], notes: list[str]) -> None:
    n_cells = section.X.shape[0]
    kept = np.ones(n_cells, dtype=bool)
    if section.in_tissue is not None and not section.in_tissue.all():
        kept = section.in_tissue
        n = int((~kept).sum())
        report["cells off the tissue"] = n
        notes.append(f"{n} of {n_cells} barcodes are not under tissue and were dropped")
    X = section.X
    if not X.data.all():
        X = X.copy()
        X.eliminate_zeros()
    filled = np.diff(X.indptr) > 0
    empty = kept & ~filled
    if empty.any():
        n = int(empty.sum())
        report["cells without counts"] = n
        some = quote(section.obs_names[empty])
        notes.append(f"{n} of {n_cells} cells without any count were dropped ({some})")
        kept = kept & filled
    if not kept.any():
        raise ValueError(f"{name} has no cell left: {'; '.join(notes)}.")
    if kept.all():
        return
    section.X = section.X[np.flatnonzero(kept)]
    for key in ("coords", "sections", "obs_names"):
        if section[key] is not None:
            section[key] = section[key][kept]


def _name_genes(section: Bunch, report: dict[str, Any], notes: list[str]) -> None:
    """Make names of genes unique: by the identifier where there is one, else by a number."""
    unique, repeated = make_unique(section.genes)
    if not repeated:
        return
    appended = "-1, -2, ... were appended"
    if section.gene_ids is not None:
        # A number would depend on the order of the file.
        is_repeated = np.isin(section.genes, repeated)
        named = np.where(
            is_repeated, np.char.add(np.char.add(section.genes, "_"), section.gene_ids), unique
        )
        if len(np.unique(named)) == len(named):
            unique, appended = named, "their identifiers were appended"
    section.genes = unique
    report["repeated names of genes"] = len(repeated)
    notes.append(
        f"{len(repeated)} names of genes occur more than once ({quote(repeated)}); {appended}"
    )


def _listed(counts: Counter) -> str:
    found = [f"{n} {kind or 'of no type'}" for kind, n in counts.most_common() if n]
    return ", ".join(found) or "none"
