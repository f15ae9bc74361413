"""Which column of a query is which gene of a reference, whatever each of them calls it.

Imports nothing of this package.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = 3  # How many names a message quotes.

# Cell Ranger puts the genome before the names where a reference has several.
_GENOME = re.compile(r"^(GRC[a-z]\d+|hg\d+|mm\d+|rn\d+)[-_]+")
_ENSEMBL = re.compile(r"^(ENS[A-Z]*[GTP]\d{11})\.\d+$")
_NUMBERED = re.compile(r"^(.+)[-.]\d+$")
_DATE = re.compile(r"^\d{1,2}-(Mar|Sep|Sept|Dec|Oct|Nov|Apr|Feb)$", re.IGNORECASE)


@dataclass(frozen=True)
class Match:
    """Where each gene of a reference is in a query.

    Attributes
    ----------
    columns : ndarray of shape (n_reference_genes,)
        Column of the query; -1 where it lacks the gene.
    notes : tuple of str
        What is worth a warning, as sentences without a period.
    """

    columns: NDArray[np.intp]
    notes: tuple[str, ...]


def match_genes(
    genes: NDArray[np.str_],
    reference: NDArray[np.str_],
    gene_ids: NDArray[np.str_] | None = None,
    reference_ids: NDArray[np.str_] | None = None,
) -> Match:
    """Match genes by what both have: identifiers, names, then names that are spelled differently.

    Names such as X-1, which tools make up for a gene that is called X like another one, depend on
    the order of a file. They are matched only where both lists are the same.

    Parameters
    ----------
    genes, reference : ndarray of str
        Names, each without duplicates.
    gene_ids, reference_ids : ndarray of str, optional
        Other names, such as identifiers of Ensembl; empty where there is none.

    Returns
    -------
    Match

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.datasets._gene_matching import match_genes
    >>> match_genes(np.array(["MBP", "Sst"]), np.array(["Sst", "Mbp", "Gad1"]))
    Match(columns=array([ 1,  0, -1]), notes=('1 gene is spelled differently (Mbp is MBP)',))
    """
    notes: list[str] = []
    same = np.array_equal(genes, reference)
    with_ids = False
    if gene_ids is not None and reference_ids is not None:
        with_ids = True
        same = same and np.array_equal(gene_ids, reference_ids)
    if same:
        _note_made_up(notes, made_up(reference), matched=True, with_ids=with_ids)
        return Match(np.arange(len(reference)), tuple(notes))

    columns = np.full(len(reference), -1, dtype=np.intp)
    theirs = [("names", genes), ("identifiers", gene_ids)]
    ours = [("names", reference), ("identifiers", reference_ids)]
    pairs = [
        (kind_ours, kind_theirs, a, b)
        for kind_ours, a in ours
        for kind_theirs, b in theirs
        if a is not None and b is not None
    ]
    # Identifiers first where they serve: two genes may share a symbol, but no identifier.
    n_common = [len(set(a.tolist()) & set(b.tolist())) for _, _, a, b in pairs]
    weight = [1 + (tuple(kinds) == ("identifiers", "identifiers")) for *kinds, _, _ in pairs]
    order = np.argsort(-np.multiply(n_common, weight), kind="stable")
    unsure = made_up(reference) | made_up(genes)
    for kind_ours, kind_theirs, a, b in (pairs[i] for i in order):
        left_out = unsure if kind_ours == kind_theirs == "names" else set()
        found = _fill(columns, a, b, lambda name: name, left_out)
        if len(found) and kind_ours != kind_theirs:
            row = found[0]
            notes.append(
                f"{_genes(len(found))} matched by the {kind_theirs} of the query as the "
                f"{kind_ours} of the reference ({a[row]})"
            )
    respelled: list[str] = []
    for key in (_plain, _dashed, _folded):
        for _, _, a, b in (pairs[i] for i in order):
            for row in _fill(columns, a, b, key, unsure):
                respelled.append(f"{a[row]} is {b[columns[row]]}")
    if respelled:
        is_are = "gene is" if len(respelled) == 1 else "genes are"
        notes.append(f"{len(respelled)} {is_are} spelled differently ({quote(respelled)})")
    lost = set(reference[columns < 0].tolist()) & unsure
    _note_made_up(notes, lost, matched=False, with_ids=with_ids)
    dates = [name for name in genes.tolist() if _DATE.match(name)]
    if dates:
        notes.append(
            f"{len(dates)} names of the query look like dates that a spreadsheet made of genes "
            f"({quote(dates)})"
        )
    return Match(columns, tuple(notes))


def made_up(names: NDArray[np.str_]) -> set[str]:
    """Names with a number at the end whose beginning is a name, too, and these.

    Parameters
    ----------
    names : ndarray of str

    Returns
    -------
    set of str

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.datasets._gene_matching import made_up
    >>> sorted(made_up(np.array(["TBCE", "TBCE-1", "NKX2-1", "HLA-A"])))
    ['TBCE', 'TBCE-1']
    """
    known = set(names.tolist())
    found: set[str] = set()
    for name in known:
        match = _NUMBERED.match(name)
        if match and match.group(1) in known:
            found |= {name, match.group(1)}
    return found


def quote(names: Any) -> str:
    """The first few names, for a message."""
    names = [str(name) for name in names]
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _fill(
    columns: NDArray[np.intp],
    ours: NDArray[np.str_],
    theirs: NDArray[np.str_],
    key: Callable[[str], str],
    left_out: set[str],
) -> list[int]:
    """Find genes that have no column yet; returns which. Keys that occur twice match nothing."""
    if (columns >= 0).all():
        return []
    # A name is as ambiguous where its namesake is found already.
    key_of_theirs = list(map(key, theirs.tolist()))
    key_of_ours = list(map(key, ours.tolist()))
    often = {k for keys in (key_of_theirs, key_of_ours) for k, n in Counter(keys).items() if n > 1}
    taken = set(columns[columns >= 0].tolist())
    place = {
        k: i
        for i, (k, name) in enumerate(zip(key_of_theirs, theirs.tolist(), strict=True))
        if k and k not in often and i not in taken and name not in left_out
    }
    found = []
    for row in np.flatnonzero(columns < 0).tolist():
        column = place.get(key_of_ours[row], -1)
        if column >= 0 and str(ours[row]) not in left_out:
            columns[row] = column
            found.append(row)
    return found


def _plain(name: str) -> str:
    """A name without blanks around it, the genome before it, or a version of Ensembl after it."""
    name = _GENOME.sub("", name.strip())
    match = _ENSEMBL.match(name)
    return match.group(1) if match else name


def _dashed(name: str) -> str:
    return re.sub(r"[-_. ]+", "-", _plain(name))


def _folded(name: str) -> str:
    return _dashed(name).casefold()


def _genes(n: int) -> str:
    return "1 gene was" if n == 1 else f"{n} genes were"


def _note_made_up(notes: list[str], names: set[str], *, matched: bool, with_ids: bool) -> None:
    if not names or with_ids:
        return
    what = "were matched by their place in the list" if matched else "were not matched"
    notes.append(
        f"{len(names)} names stand for genes that share a symbol, numbered in the order of a file "
        f"({quote(sorted(names))}), and {what}: give identifiers of the genes (gene_ids) for both"
    )
