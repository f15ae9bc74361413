"""Tables of Markdown."""

import numpy as np


def table(head, rows):
    """A table of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def table_of(records, columns=None, formats=None):
    """A table of records, with a format for some columns; an empty cell where a value lacks."""
    columns = list(columns or dict.fromkeys(name for record in records for name in record))
    formats = formats or {}
    rows = [[written(r.get(name), formats.get(name)) for name in columns] for r in records]
    return table(columns, rows)


def written(value, form=None):
    """A value as text: numbers to three digits, a spread as median and quartiles."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
    if isinstance(value, str):
        return value
    if form is not None:
        return f"{value:{form}}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}"


def mean_and_spread(values):
    """Mean, standard deviation (0 for a single value) and number of values."""
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return [float(np.mean(values)), float(spread), len(values)]


def plus_minus(cell, digits=3):
    """Mean ± standard deviation, of what `mean_and_spread` gives."""
    return f"{cell[0]:.{digits}f} ± {cell[1]:.{digits}f}"


def table_over_seeds(records, label, digits=3):
    """Mean ± standard deviation over the seeds that were run, a row for each value of `label`.

    The field "measured" of a record has the values, by the headings of their columns.
    """
    groups = {}
    for record in records:
        groups.setdefault(record[label], []).append(record["measured"])
    head = list(dict.fromkeys(name for runs in groups.values() for run in runs for name in run))
    rows = []
    for group, runs in groups.items():
        values = [[run[name] for run in runs] for name in head]
        cells = [plus_minus([np.mean(v), np.std(v)], digits) for v in values]
        rows.append([group, *cells])
    return table([label, *head], rows)
