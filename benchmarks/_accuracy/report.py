"""Summary of runs and its tables."""

import numpy as np

from .methods import ON_OURS
from .scores import SCORES

OURS = "dpvae"


def summarize(runs, tasks, methods):
    """Mean, standard deviation and number of seeds of each score of each task and method.

    Parameters
    ----------
    runs : list of dict
        Records with "task", "seed", "method", "scores" and perhaps "pooled_disparity".
    tasks, methods : list of str
        Names, in the order of the tables.

    Returns
    -------
    dict
        ``summary[task][method][score] = [mean, sd, n_seeds]``.
    """
    summary = {}
    for task in tasks:
        for method in methods:
            found = [r for r in runs if r["task"] == task and r["method"] == method]
            cell = {}
            for name in (*SCORES, "pooled_disparity"):
                values = [r["scores"].get(name) for r in found]
                values = [v for v in values if v is not None]
                if values:
                    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
                    cell[name] = [float(np.mean(values)), float(spread), len(values)]
            if cell:
                summary.setdefault(task, {})[method] = cell
    return summary


def compare(summary, ours, baselines):
    """Ours against the best of the baselines, task by task and over all tasks.

    The ratio is that of mean disparities, to the baseline that has the lowest; Spearman and
    hits are compared with the highest that any baseline has, which may be another one.
    """
    tasks = {}
    for task, cells in summary.items():
        rivals = [b for b in baselines if b in cells]
        if ours not in cells or not rivals:
            continue
        best = min(rivals, key=lambda b: cells[b]["disparity"][0])
        row = {
            "best": best,
            "best_disparity": cells[best]["disparity"],
            "disparity": cells[ours]["disparity"],
            "ratio": cells[ours]["disparity"][0] / cells[best]["disparity"][0],
        }
        for name in ("spearman", "hits20"):
            if name in cells[ours]:
                top = max((b for b in rivals if name in cells[b]), key=lambda b: cells[b][name][0])
                row[name] = cells[ours][name]
                row[f"best_{name}"] = [top, cells[top][name][0]]
                row[f"{name}_of_best"] = cells[best][name][0]
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
        overall[f"{name}_not_worse"] = sum(r[name][0] >= r[f"best_{name}"][1] for r in rows)
        overall[f"{name}_not_worse_than_best_disparity"] = sum(
            r[name][0] >= r[f"{name}_of_best"] for r in rows
        )
    return {"tasks": tasks, "overall": overall}


def comparisons(summary, methods):
    """`compare` with all baselines, and with those on z-scores of scanpy's kind."""
    baselines = [name for name, method in methods.items() if method.is_baseline]
    return {
        "all": compare(summary, OURS, baselines),
        "standard": compare(summary, OURS, [b for b in baselines if not b.endswith(ON_OURS)]),
    }


def markdown(summary, compared):
    """The tables, in markdown."""
    parts = []
    if compared["all"]["tasks"]:
        parts += [_main_table(summary, compared), _overall(compared)]
    parts.append(_disparity_table(summary))
    pooled = _pooled_table(summary)
    return "\n\n".join(parts + pooled) + "\n"


def _main_table(summary, compared):
    head = [
        "task", "ours: disparity", "best baseline", "ratio", "ratio, standard z-scores",
        "Spearman (best)", "hits@10", "hits@20 (best)", "median error (best)", "coverage",
        "fit s (best)", "predict s",
    ]  # fmt: skip
    rows = []
    for task, row in compared["all"]["tasks"].items():
        cells = summary[task]
        ours, best = cells[OURS], cells[row["best"]]
        plain = compared["standard"]["tasks"].get(task)
        rows.append(
            [
                task,
                _pm(row["disparity"]),
                f"{_pm(row['best_disparity'])} {row['best']}",
                f"**{row['ratio']:.3f}**",
                f"{plain['ratio']:.3f} ({plain['best']})" if plain else "",
                f"{_pm(row['spearman'])} ({row['best_spearman'][1]:.3f})",
                f"{ours['hits10'][0]:.3f}" if "hits10" in ours else "",
                f"{_pm(row['hits20'])} ({row['best_hits20'][1]:.3f})" if "hits20" in row else "",
                f"{ours['median_error'][0]:.2f} ({best['median_error'][0]:.2f})",
                f"{ours['coverage'][0]:.0%}",
                f"{ours['fit_seconds'][0]:.1f} ({best['fit_seconds'][0]:.1f})",
                f"{ours['predict_seconds'][0]:.2f}",
            ]
        )
    return _table(head, rows)


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
    return _table(head, rows)


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
    return _table(["disparity", *summary], rows)


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
    return [_table(["disparity of all folds in one frame", *tasks], rows)]


def _pm(cell):
    return f"{cell[0]:.3f} ± {cell[1]:.3f}"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
