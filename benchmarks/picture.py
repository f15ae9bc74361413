"""The picture of the guide's page on Visium: cells of a slide, and where they are placed.

    python -m benchmarks.picture [DATA] [-o visium_embryo.png]

A fifth of the spots of a Visium slide stands for the query: their counts are thinned to three
tenths, and their places hidden. Three maps show where they were, where their expression places
them, in the same colors, and the radius around each that holds 80 %.
"""

import argparse
from pathlib import Path

import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae._utils.counts import library_sizes
from sklearn_dpvae.pipeline._thinning import thin
from sklearn_dpvae.plotting._common import as_map, position_colors

from ._common.arguments import add_data
from ._common.folder import Folder
from ._common.machine import threads
from ._common.tasks import find_tasks

TASK = "embryo random"
KEPT, LEVEL = 0.3, 0.8
GRAY = "0.88"


def draw(split):
    """The three maps."""
    import matplotlib.pyplot as plt

    true = split.query_coords
    counts = thin(split.query_X, np.full(len(true), KEPT), np.random.default_rng(0))
    model = make_spatial_pipeline(random_state=0)
    model.fit(split.X, split.coords, query_counts=library_sizes(counts))
    placed = model.predict(counts)
    radius = model.predict_radius(counts, level=LEVEL)
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 4.4), layout="constrained")
    colors = position_colors(true)
    for axis, points, color, title in zip(
        axes,
        (true, placed, placed),
        (colors, colors, radius),
        ("where the cells were", "where their expression places them", "how sure each place is"),
        strict=True,
    ):
        axis.scatter(*split.coords.T, s=3, c=GRAY)
        drawn = axis.scatter(*points.T, s=9, c=color)
        as_map(axis, title, unit="px")
    drawn.set_cmap("viridis_r")
    figure.colorbar(drawn, ax=axes[2], label=f"radius that holds {LEVEL:.0%} (px)", shrink=0.7)
    return figure


@threads(1)
def main(argv=None):
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.picture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data(arguments)
    arguments.add_argument(
        "-o", "--output", type=Path, default=Path("visium_embryo.png"), help="picture to write"
    )
    arguments.add_argument("--task", default=TASK, help="what to draw instead")
    args = arguments.parse_args(argv)
    folder = Folder(args.data)
    [task] = find_tasks([args.task], folder.files)
    split = next(iter(folder.splits(task, 0)))
    draw(split).savefig(args.output, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
