"""The figure of the table `anchors`."""

from matplotlib.figure import Figure


def draw(rows, path):
    """One panel a problem: error of each method against the anchors, at the smallest d."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    d = min(row["d"] for row in rows)
    # Colors of Okabe and Ito, which color-blind readers tell apart; markers say the same.
    styles = {
        "kNN": ("#E69F00", "^:", "kNN on latents"),
        "KNNImputer": ("#CC79A7", "v:", "KNNImputer on latents and positions"),
        "ridge, components": ("#56B4E9", "x:", "ridge on components"),
        "ridge": ("#D55E00", "D--", "ridge on latents"),
        "similarity": ("#009E73", "s--", "similarity only"),
        "predict": ("#000000", "o-", "predict(anchors=...)"),
    }
    n_columns = -(-(len(problems) + 1) // 2)
    figure = Figure(figsize=(3 * n_columns, 6))
    axes = figure.subplots(2, n_columns, squeeze=False)
    for axis in axes.flat[len(problems) :]:
        axis.set_axis_off()
    for axis, problem in zip(axes.flat, problems, strict=False):
        here = [row for row in rows if (row["problem"], row["d"]) == (problem, d)]
        for method, (color, line, label) in styles.items():
            points = {r["n_anchors"]: r[method] for r in here if r["n_anchors"]}
            axis.plot(*zip(*sorted(points.items()), strict=True), line, color=color, label=label)
        free = [r["predict"] for r in here if not r["n_anchors"]]
        axis.axhline(free[0], color="0.5", linewidth=0.8, label="no anchors, best similarity")
        axis.set_xscale("log")
        axis.set(title=problem, xlim=(2.5, 350), ylim=(0, 2), xlabel="anchors")
        axis.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"], minor=False)
        axis.minorticks_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("error (mean position: 1)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes.flat[len(problems)].legend(handles[::-1], labels[::-1], loc="center", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
