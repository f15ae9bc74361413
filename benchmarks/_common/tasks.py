"""Tasks: which cells are the reference and which are placed.

A task is written `SOURCES KIND` or `SOURCES > SOURCES`:

    embryo random            a random fifth of the cells is placed, for each seed another
    embryo block             each of 5 folds places 4 blocks of tissue
    embryo contiguous        each of 5 folds places one block, a fifth of the tissue
    brain loso               each section is placed by all others
    brain:Hippo1 > Hippo2    one section is placed by another
    brain:Hippo1+Hippo2 > Hippo3
    embryo spots             half of the cells, summed to spots, places the other half one by one

and can be made harder, by a draw that depends on the seed; several conditions are joined by "and":

    embryo random with 120 genes         of the 1,000 that have the most counts
    embryo random with 10% counts        each count is kept with this probability
    embryo random with 300 cells         to place the others by
    embryo spots with 20% query counts   of the cells to place only
    brain:a > b with half query          the part of it on one side of a line; or a quarter
    embryo spots with most frequent celltype query    the cells of one label in .obs["celltype"]

A source is the name of a file without `.h5ad`, for all its sections, or `file:section`. A name
that is no file is a section of the file named before it.
"""

import re
from dataclasses import dataclass

# Blocks of a section that a fold tests on. With several, test cells lie nearer to the reference
# and all parts of the tissue are in every fold; with one, a whole region is missing.
BLOCKS_PER_FOLD = {"block": 4, "contiguous": 1}
KINDS = ("random", *BLOCKS_PER_FOLD, "spots", "loso", "transfer")

# How often the query is cut in two.
CUTS = {"half": 1, "quarter": 2}

# What a task can be made harder by: field of `Task`, how it is written, and how it is read.
HARDER = {
    "n_genes": (r"(\d+) genes", int),
    "percent": (r"(\d+)% counts", int),
    "n_cells": (r"(\d+) cells", int),
    "query_percent": (r"(\d+)% query counts", int),
    "query_cuts": (r"(half|quarter) query", CUTS.get),
    "query_label": (r"most frequent (\w+) query", str),
}

_BRAIN = "mouse_brain_st2k"
# Nuclear and mitochondrial RNA that swamps the libraries of the brain's sections.
SWAMPING_GENES = ("Gm42418", "Rn18s-rs5", "mt-Rnr1", "mt-Rnr2")
PRESETS = {
    "ten": {
        "embryo random": ("mouse_embryo_visium random", ()),
        "embryo block": ("mouse_embryo_visium block", ()),
        "hippo1 random": (f"{_BRAIN}:Hippo1 random", SWAMPING_GENES),
        "hippo1>2": (f"{_BRAIN}:Hippo1 > Hippo2", SWAMPING_GENES),
        "hippo3>4": (f"{_BRAIN}:Hippo3 > Hippo4", SWAMPING_GENES),
        "seqFISH+ random": ("mouse_cortex_seqfishplus random", ()),
        "DBiT random": ("human_dbit random", ()),
        "synovium random": ("human_synovium_st:RA4_1 random", ()),
        "synovium 1>2": ("human_synovium_st:RA4_1 > RA4_2", ()),
        "bulb 1>2": ("mouse_olfactory_bulb_st2k:MOB1 > MOB2", ()),
    },
    "more": {
        "embryo contiguous": ("mouse_embryo_visium contiguous", ()),
        "hippo1 block": (f"{_BRAIN}:Hippo1 block", SWAMPING_GENES),
        "DBiT block": ("human_dbit block", ()),
        "brain loso": (f"{_BRAIN} loso", SWAMPING_GENES),
        "brain 1+3>2": (f"{_BRAIN}:Hippo1+Hippo3 > Hippo2", SWAMPING_GENES),
    },
}

# Small, and of each kind: what the forms of the model are compared on.
PRESETS["family"] = {
    "brain 1+3>2": PRESETS["more"]["brain 1+3>2"],
    "synovium 1+2 random": ("human_synovium_st:RA4_1+RA4_2 random", ()),
    "seqFISH+ random": PRESETS["ten"]["seqFISH+ random"],
}

# The same tissues under conditions that the defaults were not made for.
_TISSUES = (
    "embryo random",
    "hippo1 random",
    "hippo3>4",
    "seqFISH+ random",
    "DBiT random",
    "synovium 1>2",
)
PRESETS["harder"] = {
    f"{label} with {harder}": (
        f"{PRESETS['ten'][label][0]} with {harder}",
        PRESETS["ten"][label][1],
    )
    for harder in ("120 genes", "10% counts", "300 cells")
    for label in _TISSUES
}

# The queries that users have: single cells, of another depth, of a part of the tissue.
_EMBRYO = "mouse_embryo_seqfish"
_PARTS = ("half", "quarter")
PRESETS["cells"] = {
    "embryo cells random": (f"{_EMBRYO}:embryo2_part2 random", ()),
    "embryo cells 2>3": (f"{_EMBRYO}:embryo2_part2 > embryo2_part3", ()),
    "seqFISH+ random": PRESETS["ten"]["seqFISH+ random"],
    "osmFISH random": ("mouse_cortex_osmfish random", ()),
}
_SPOTS = {
    "embryo spots": (f"{_EMBRYO}:embryo2_part2 spots", ()),
    "seqFISH+ spots": ("mouse_cortex_seqfishplus spots", ()),
    "osmFISH spots": ("mouse_cortex_osmfish spots", ()),
}
PRESETS["spots"] = _SPOTS | {
    f"{label} with {percent}% query counts": (f"{text} with {percent}% query counts", dropped)
    for label, (text, dropped) in _SPOTS.items()
    for percent in (50, 20)
    # At a fifth, most of its cells have fewer than forty counts, of 33 genes.
    if label != "osmFISH spots" or percent == 50
}
_WHOLE = {
    "hippo3>4": PRESETS["ten"]["hippo3>4"],
    "embryo cells 2>3": PRESETS["cells"]["embryo cells 2>3"],
    "heart 5>6": ("human_heart_st:5_CN74_E1_HE > 6_CN74_E2_HE", ()),
}
PRESETS["part"] = (
    {
        "heart 5>6": _WHOLE["heart 5>6"],
    }
    | {
        f"{label} with {part} query": (f"{text} with {part} query", dropped)
        for label, (text, dropped) in _WHOLE.items()
        for part in _PARTS
    }
    | {
        "embryo spots with one cell type": (
            f"{_EMBRYO}:embryo2_part2 spots with most frequent celltype query",
            (),
        )
    }
)
PRESETS["depth"] = {
    f"{label} with 20% query counts": (
        f"{PRESETS['ten'][label][0]} with 20% query counts",
        PRESETS["ten"][label][1],
    )
    for label in ("embryo random", "hippo1 random", "hippo3>4", "DBiT random", "synovium 1>2")
}
PRESETS["panel"] = {
    f"{label} with 80 genes": (f"{text} with 80 genes", dropped)
    for label, (text, dropped) in {
        "embryo random": PRESETS["ten"]["embryo random"],
        "hippo3>4": PRESETS["ten"]["hippo3>4"],
        "embryo cells random": PRESETS["cells"]["embryo cells random"],
        "seqFISH+ spots": _SPOTS["seqFISH+ spots"],
    }.items()
}
PRESETS["blocks"] = {
    "embryo contiguous": PRESETS["more"]["embryo contiguous"],
    "hippo1 block": PRESETS["more"]["hippo1 block"],
    "DBiT block": PRESETS["more"]["DBiT block"],
    "embryo cells contiguous": (f"{_EMBRYO}:embryo2_part2 contiguous", ()),
}


@dataclass(frozen=True)
class Task:
    """What to place by what. Sources are (file, section) pairs; section None means all."""

    label: str
    kind: str
    reference: tuple
    query: tuple = ()
    dropped_genes: tuple = ()
    # Of the reference and the query; None for all of them.
    n_genes: int | None = None
    percent: int | None = None
    n_cells: int | None = None
    # Of the query alone.
    query_percent: int | None = None
    query_cuts: int | None = None
    query_label: str | None = None

    @property
    def split_depends_on_seed(self):
        drawn = [field for field in HARDER if field != "query_label"]
        harder = any(getattr(self, field) is not None for field in drawn)
        return harder or self.kind not in ("loso", "transfer")


def parse_task(text, label=None, dropped_genes=(), *, files=None):
    """Read a task in the notation of this module; `files` are the names that are files."""
    text = text.strip()
    label = label or text
    text, _, conditions = text.partition(" with ")
    harder = dict(_parse_condition(c.strip(), label) for c in conditions.split(" and ") if c)
    if ">" in text:
        kind = "transfer"
        left, right = (side.strip() for side in text.split(">", 1))
    else:
        left, _, kind = text.rpartition(" ")
        right = ""
        if kind not in KINDS[:-1]:
            raise ValueError(
                f"task {text!r} must end in one of {', '.join(KINDS[:-1])}, or contain '>'."
            )
    reference, last_file = _parse_sources(left, None, files, text)
    query, _ = _parse_sources(right, last_file, files, text) if right else ((), None)
    if kind == "transfer" and not query:
        raise ValueError(f"task {text!r} names nothing to place after '>'.")
    return Task(label, kind, reference, query, tuple(dropped_genes), **harder)


def _parse_condition(condition, label):
    """Field of `Task` and its value."""
    for field, (pattern, read) in HARDER.items():
        if found := re.fullmatch(pattern, condition):
            return field, read(found[1])
    raise ValueError(
        f"task {label!r} cannot be made harder with {condition!r}; write 'with N genes', "
        "'N% counts', 'N cells', 'N% query counts', 'half query', 'quarter query' or "
        "'most frequent LABEL query', several joined by 'and'."
    )


def _parse_sources(text, last_file, files, task):
    sources = []
    for term in filter(None, (t.strip() for t in text.split("+"))):
        if ":" in term:
            last_file, section = term.split(":", 1)
            sources.append((last_file, section))
        elif last_file is not None and (files is None or term not in files):
            sources.append((last_file, term))
        else:
            last_file = term
            sources.append((term, None))
    if not sources:
        raise ValueError(f"task {task!r} names no section.")
    return tuple(sources), last_file


def preset(name):
    """Tasks of a preset."""
    return [parse_task(text, label, dropped) for label, (text, dropped) in PRESETS[name].items()]


def find_tasks(texts, files):
    """Tasks by the names that presets give them, or in the notation of this module."""
    named = {task.label: task for name in PRESETS for task in preset(name)}
    return [named.get(text) or parse_task(text, files=files) for text in texts]
