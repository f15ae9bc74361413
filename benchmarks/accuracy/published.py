"""Published tools, each run where it is installed."""

import importlib.util
import io
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
from sklearn.neighbors import KNeighborsRegressor

from .prepared import default_steps


class ScviNeighbors:
    """scVI latents of reference and query together, sections as batches, and kNN on them."""

    deterministic = False
    sees = "standard"

    def config(self):
        return "scVI defaults, kNN 15", *default_steps()[:2]

    def run(self, prepared, seed):
        import anndata
        import scvi
        from scipy.sparse import vstack

        split = prepared.split
        scvi.settings.seed = seed
        start = time.process_time()
        adata = anndata.AnnData(vstack(prepared.counts).tocsr().astype(np.float32))
        adata.obs["section"] = np.r_[split.sections, split.query_sections]
        scvi.model.SCVI.setup_anndata(adata, batch_key="section")
        model = scvi.model.SCVI(adata)
        model.train(accelerator="cpu", enable_progress_bar=False, logger=None)
        latents = model.get_latent_representation()
        n_reference = len(split.coords)
        knn = KNeighborsRegressor(15).fit(latents[:n_reference], prepared.targets)
        middle = time.process_time()
        placed = prepared.in_tissue_units(knn.predict(latents[n_reference:]))
        return placed, middle - start, time.process_time() - middle


class Celery:
    """CeLEry's regression of coordinates, at its defaults, on the z-scores."""

    deterministic = False
    sees = "standard"

    def config(self):
        return "CeLEry Fit_cord", *default_steps()[:3]

    def run(self, prepared, seed):
        import anndata
        import CeLEry
        import pandas as pd

        reference, query, *seconds = prepared.standard
        targets = prepared.targets
        # It maps each axis, widened by 1 on both sides, to the range of its sigmoid, and says
        # where in that range a cell lies. The tissue is to be wide against 1.
        grid = 100 * (targets - targets.min(axis=0)) / np.ptp(targets, axis=0).max()
        location = pd.DataFrame(grid, columns=["x", "y"])
        # It prints a line and draws a bar for every epoch.
        quiet = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_stdout(quiet),
            redirect_stderr(quiet),
        ):
            start = time.process_time()
            CeLEry.Fit_cord(
                anndata.AnnData(reference),
                location,
                path=folder,
                filename="model",
                num_workers=0,
                seednum=seed,
            )
            middle = time.process_time()
            placed = CeLEry.Predict_cord(anndata.AnnData(query), folder, "model")
            end = time.process_time()
        placed = placed * (grid.max(axis=0) + 2) - 1
        placed = placed * np.ptp(targets, axis=0).max() / 100 + targets.min(axis=0)
        placed = prepared.in_tissue_units(placed)
        return placed, seconds[0] + middle - start, seconds[1] + end - middle


def installed():
    """The tools that are installed, by name."""
    tools = {"scvi_knn15": ("scvi", ScviNeighbors), "celery": ("CeLEry", Celery)}
    return {name: tool() for name, (module, tool) in tools.items() if _found(module)}


def _found(module):
    return importlib.util.find_spec(module) is not None
