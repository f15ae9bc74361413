"""Means of runs, and the tables of the README made of them."""

import numpy as np

from .._common.tables import mean_and_spread, plus_minus, table
from .scores import SCORES

OURS = "dpvae"
# Ends of the names of baselines, by what they see.
ENDINGS = {"standard": "", "ours": "+ours", "components": "+components"}


def means(runs, tasks, methods):
    """Mean, standard deviation and number of seeds of each score of each task and method.

    Parameters
    ----------
    runs : iterable of dict
        Records with "task", "method" and "scores", one for each seed.
    tasks, methods : list of str
        Names, in the order of the tables.

    Returns
    -------
    list of dict
        A record for each task and method, ``{"task": ..., "method": ..., score: [mean, sd, n]}``.
    """
    found = {}
    for run in runs:
        found.setdefault((run["task"], run["method"]), []).append(run["scores"])
    records = []
    for task in tasks:
        for method in methods:
            seeds = found.get((task, method), [])
            cell = {}
            for name in SCORES:
                values = [scores[name] for scores in seeds if scores.get(name) is not None]
                if values:
                    cell[name] = mean_and_spread(values)
            if cell:
                records.append({"task": task, "method": method} | cell)
    return records


def by_task(records):
    """``{task: {method: record}}`` of the records of `means`."""
    nested = {}
    for record in records:
        nested.setdefault(record["task"], {})[record["method"]] = record
    return nested


def compare(cells, rivals, by="disparity"):
    """Ours against the best of the baselines, task by task and over all tasks.

    The ratio is that of the mean errors, "disparity" or "frame_error", to the baseline that has
    the lowest; Spearman and hits are compared with the highest that any baseline has, which may
    be another one. Tasks without this error are left out.
    """
    tasks = {}
    for task, found in cells.items():
        others = [name for name in rivals if by in found.get(name, {})]
        if by not in found.get(OURS, {}) or not others:
            continue
        ours = found[OURS]
        best = min(others, key=lambda b: found[b][by][0])
        row = {
            "best": best,
            f"best_{by}": found[best][by],
            by: ours[by],
            "ratio": ours[by][0] / found[best][by][0],
        }
        for name in ("spearman", "hits20"):
            if name in ours:
                top = max((b for b in others if name in found[b]), key=lambda b: found[b][name][0])
                row[name] = ours[name]
                row[f"best_{name}"] = found[top][name][0]
        tasks[task] = row
    if not tasks:
        return {"tasks": {}}
    ratios = np.array([row["ratio"] for row in tasks.values()])
    overall = {
        "geometric_mean": float(np.exp(np.log(ratios).mean())),
        "worst": float(ratios.max()),
        "n_tasks": len(tasks),
    }
    for name in ("spearman", "hits20"):
        rows = [row for row in tasks.values() if name in row]
        overall[f"{name}_not_worse"] = sum(r[name][0] >= r[f"best_{name}"] for r in rows)
    return {"tasks": tasks, "overall": overall}


def comparisons(cells):
    """`compare` with all other methods, and with those on z-scores of scanpy's kind.

    By disparity, and, where tasks have it, by the error in the frame of the reference.
    """
    rivals = list(dict.fromkeys(m for methods in cells.values() for m in methods if m != OURS))
    return {
        "all": compare(cells, rivals),
        "standard": compare(cells, [m for m in rivals if "+" not in m]),
        "frame": compare(cells, rivals, by="frame_error"),
    }


def markdown(records):
    """The tables of the records of `means`, in Markdown."""
    cells = by_task(records)
    compared = comparisons(cells)
    parts = []
    if compared["all"]["tasks"]:
        parts += [_main_table(cells, compared), _overall(compared)]
    if compared["frame"]["tasks"]:
        parts.append(_frame_table(compared["frame"]))
    parts.append(_disparity_table(cells))
    return "\n".join(parts + _pooled_table(cells))


def _main_table(cells, compared):
    head = [
        "task", "ours: disparity", "best baseline", "ratio", "ratio, standard z-scores",
        "Spearman (best)", "hits@10", "hits@20 (best)", "median error (best)", "coverage",
        "fit s (best)", "predict s",
    ]  # fmt: skip
    rows = []
    for task, row in compared["all"]["tasks"].items():
        ours, best = cells[task][OURS], cells[task][row["best"]]
        plain = compared["standard"]["tasks"].get(task)
        rows.append(
            [
                task,
                plus_minus(row["disparity"]),
                f"{plus_minus(row['best_disparity'])} {row['best']}",
                f"**{row['ratio']:.3f}**",
                f"{plain['ratio']:.3f} ({plain['best']})" if plain else "",
                f"{plus_minus(row['spearman'])} ({row['best_spearman']:.3f})",
                f"{ours['hits10'][0]:.3f}" if "hits10" in ours else "",
                f"{plus_minus(row['hits20'])} ({row['best_hits20']:.3f})"
                if "hits20" in row
                else "",
                f"{ours['median_error'][0]:.2f} ({best['median_error'][0]:.2f})",
                f"{ours['coverage'][0]:.0%}",
                f"{ours['fit_seconds'][0]:.1f} ({best['fit_seconds'][0]:.1f})",
                f"{ours['predict_seconds'][0]:.2f}",
            ]
        )
    return table(head, rows)


def _overall(compared):
    head = ["baselines", "geometric mean of ratios", "worst", "Spearman not worse",
            "hits@20 not worse"]  # fmt: skip
    rows = []
    for name, label in {"all": "all", "standard": "standard z-scores"}.items():
        total = compared[name].get("overall")
        if total:
            n = total["n_tasks"]
            rows.append(
                [
                    label,
                    f"{total['geometric_mean']:.3f}",
                    f"{total['worst']:.3f}",
                    f"{total['spearman_not_worse']} of {n}",
                    f"{total['hits20_not_worse']} of {n}",
                ]
            )
    return table(head, rows)


def _frame_table(compared):
    """Errors over the diameter of the tissue, which no alignment hides."""
    head = ["error in the frame of the reference / diameter", "ours", "best baseline", "ratio"]
    rows = [
        [
            task,
            plus_minus(row["frame_error"], 4),
            f"{plus_minus(row['best_frame_error'], 4)} {row['best']}",
            f"**{row['ratio']:.3f}**",
        ]
        for task, row in compared["tasks"].items()
    ]
    overall = compared["overall"]
    rows.append(["geometric mean", "", "", f"**{overall['geometric_mean']:.3f}**"])
    rows.append(["worst", "", "", f"{overall['worst']:.3f}"])
    return table(head, rows)


def _disparity_table(summary):
    methods = list(dict.fromkeys(m for cells in summary.values() for m in cells))
    rows = []
    for method in methods:
        row = [method]
        for cells in summary.values():
            if method not in cells:
                row.append("")
                continue
            text = f"{cells[method]['disparity'][0]:.3f}"
            lowest = min(c["disparity"][0] for c in cells.values())
            row.append(f"**{text}**" if cells[method]["disparity"][0] == lowest else text)
        rows.append(row)
    return table(["disparity", *summary], rows)


def _pooled_table(summary):
    tasks = [
        t for t, cells in summary.items() if any("pooled_disparity" in c for c in cells.values())
    ]
    if not tasks:
        return []
    methods = list(dict.fromkeys(m for t in tasks for m in summary[t]))
    rows = [
        [m]
        + [
            f"{summary[t][m]['pooled_disparity'][0]:.3f}"
            if "pooled_disparity" in summary[t].get(m, {})
            else ""
            for t in tasks
        ]
        for m in methods
    ]
    return [table(["disparity of all folds in one frame", *tasks], rows)]
