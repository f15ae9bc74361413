"""Count matrices of 10x Genomics: .h5 of all versions, Matrix Market, and matrices of probes.

The formats are described at https://www.10xgenomics.com/support/software/space-ranger, under
"outputs". May import `_utils`.
"""

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy import io, sparse
from sklearn.utils import Bunch

from .._utils.optional import import_optional
from ._cleaning import GENE_EXPRESSION
from ._gene_matching import quote
from ._section import raw_section, reason
from ._tables import read_table

# GENE|0a1b2c3, or ENSG00000000003|GENE|0a1b2c3.
_PROBE = re.compile(r"(?:ENS\w+\|)?([^|]+)\|[0-9a-f]{7}")


def read_tenx_h5(path: Path) -> Bunch:
    """Read a feature-barcode matrix in HDF5: compressed columns, one per barcode.

    Parameters
    ----------
    path : Path
        Written by Cell Ranger 2 or later, Space Ranger, Xenium, or DropletUtils.

    Returns
    -------
    Bunch
        See `raw_section`.

    Raises
    ------
    ValueError
        If it cannot be read, or holds several genomes (Cell Ranger 2).
    """
    h5py = import_optional("h5py", extra="anndata", purpose="reading 10x .h5 files")
    try:
        with h5py.File(path, "r") as file:
            group = file["matrix"] if "matrix" in file else _genome(file)
            # Written from R, whole numbers may be floats.
            n_features, n_barcodes = np.asarray(group["shape"][()]).astype(np.int64)
            index = [np.asarray(group[key][()]).astype(np.int64) for key in ("indices", "indptr")]
            # Compressed columns of the transpose are compressed rows.
            X = sparse.csr_matrix((group["data"][()], *index), shape=(n_barcodes, n_features))
            X.check_format(full_check=True)
            names = {key: _texts(group[key]) for key in ("barcodes", "gene_names", "genes")
                     if key in group}  # fmt: skip
            if "features" in group:
                features = group["features"]
                for key in ("name", "id", "feature_type", "gene_name", "filtered_probes"):
                    if key in features:
                        names[key] = _texts(features[key])
            genes = names.get("name", names.get("gene_names"))
            section = raw_section(
                X,
                genes,
                names["barcodes"],
                gene_ids=names.get("id", names.get("genes")),
                feature_types=names.get("feature_type"),
            )
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a readable 10x feature-barcode matrix ({reason(error)}). It may be "
            "damaged or cut short, or of another format."
        ) from error
    _check_names(path, section)
    return _genes_of_probes(section, names)


def read_mtx(folder: Path) -> Bunch:
    """Read a matrix in the Matrix Market format, with its two tables of names.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Bunch
        See `raw_section`.

    Raises
    ------
    FileNotFoundError
        If a table is missing.
    ValueError
        If a file cannot be read, or they do not belong together.
    """
    matrix = _existing(folder, "matrix.mtx")
    features = read_table(_existing(folder, "features.tsv", "genes.tsv"), "\t")
    barcodes = read_table(_existing(folder, "barcodes.tsv"), "\t")
    try:
        X = sparse.csr_matrix(io.mmread(matrix).T)
    except (OSError, ValueError, TypeError, EOFError, zlib.error) as error:
        raise ValueError(f"{matrix} is not a readable .mtx file ({reason(error)}).") from error
    if X.shape != (len(barcodes), len(features)):
        raise ValueError(
            f"{matrix} has {X.shape[1]} features and {X.shape[0]} barcodes, but the tables "
            f"beside it name {len(features)} and {len(barcodes)}."
        )
    section = raw_section(
        X,
        [row[1] if len(row) > 1 else row[0] for row in features],
        [row[0] for row in barcodes],
        gene_ids=[row[0] for row in features],
        feature_types=[row[2] if len(row) > 2 else GENE_EXPRESSION for row in features],
    )
    return _genes_of_probes(section, {})


def _genome(file: Any) -> Any:
    """The one group of a file of Cell Ranger 2, which has a matrix for each genome."""
    found = [key for key in file if "barcodes" in file[key]]
    if len(found) != 1:
        raise KeyError(f"no group 'matrix', and {len(found)} genomes: {', '.join(found)}")
    return file[found[0]]


def _texts(dataset: Any) -> np.ndarray:
    return np.asarray(dataset[()]).astype(str)


def _check_names(path: Path, section: Bunch) -> None:
    n_cells, n_features = section.X.shape
    of_features = [section.genes, section.gene_ids, section.feature_types]
    if len(section.obs_names) != n_cells or any(
        names is not None and len(names) != n_features for names in of_features
    ):
        raise ValueError(f"the names in {path} do not match the {section.X.shape} of its matrix.")


def _genes_of_probes(section: Bunch, names: dict[str, np.ndarray]) -> Bunch:
    """Sum the probes of each gene; a matrix of genes stays as it is."""
    matches = [_PROBE.fullmatch(gene) for gene in section.genes.tolist()]
    if not matches or not all(matches):
        return section
    of = names.get("gene_name", np.array([match.group(1) for match in matches if match]))
    kept = names.get("filtered_probes", np.full(len(of), "True")) != "False"
    genes, gene_of = np.unique(of[kept], return_inverse=True)
    probes = np.flatnonzero(kept)
    sums = sparse.csr_matrix(
        (np.ones(len(probes), dtype=section.X.dtype), (np.arange(len(probes)), gene_of))
    )
    note = (
        f"it is a matrix of probes: {len(probes)} of {len(kept)} were summed to {len(genes)} "
        f"genes ({quote(section.genes)})"
    )
    return raw_section(
        section.X[:, probes] @ sums, genes, section.obs_names, notes=[*section.notes, note]
    )


def _existing(folder: Path, *names: str) -> Path:
    for name in names:
        for end in (".gz", ""):
            if (folder / (name + end)).exists():
                return folder / (name + end)
    raise FileNotFoundError(f"no {' or '.join(names)} (or .gz) in {folder}.")
