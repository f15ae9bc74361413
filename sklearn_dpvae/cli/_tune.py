"""The command that searches parameters by cross-validation."""

import json
import time
from argparse import Namespace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, ParameterSampler

from ..metrics import procrustes_disparity
from ._commands import as_model, described, full_name, new_pipeline, read_reference
from ._files import check_output, save_model
from ._folds import make_folds, place_each
from ._output import report

DEFAULT_GRID = {"genes__n_top_genes": [1000, 2000], "components__n_components": [20, 50]}


def tune(arguments: Namespace) -> None:
    """Try combinations of parameters on parts that are left out; fit the best on all cells."""
    output = check_output(arguments.output, inputs=arguments.reference)
    # Radii are not needed in the search.
    light = new_pipeline(arguments, n_calibration_folds=None)
    grid = {full_name(light, name, "--grid"): values for name, values in arguments.grid}
    candidates = _candidates(grid or DEFAULT_GRID, arguments)
    reference = read_reference(arguments, light)
    kind, folds = make_folds(reference, arguments)
    report(
        arguments,
        f"trying {len(candidates)} combinations on {described(reference)}, "
        f"leaving out {kind}, {len(folds)} folds",
    )
    pipelines = [_with(light, candidate) for candidate in candidates]
    found: dict[int, list[float]] = {i: [] for i in range(len(candidates))}
    seconds = dict.fromkeys(found, 0.0)
    start, n_fits = time.perf_counter(), len(pipelines) * len(folds)
    for done, (i, placed) in enumerate(
        place_each(pipelines, reference, folds, n_jobs=arguments.n_jobs), 1
    ):
        rows = placed.rows
        error = procrustes_disparity(
            reference.coords[rows], placed.coords, sections=reference.sections[rows]
        )
        found[i].append(float(error))
        seconds[i] += placed.seconds
        left = (time.perf_counter() - start) / done * (n_fits - done)
        report(
            arguments,
            f"[{done}/{n_fits}] {_said(candidates[i])}: disparity {error:.3f} "
            f"({placed.seconds:.0f} s, {left:.0f} s left)",
        )
    means = {i: float(np.mean(errors)) for i, errors in found.items()}
    order = sorted(means, key=lambda i: means[i])
    best = candidates[order[0]]
    pipeline = _with(new_pipeline(arguments), best)
    report(arguments, f"fitting the best on all cells: {_said(best)}")
    pipeline.fit(
        reference.X,
        reference.coords,
        sections=reference.sections,
        query_counts=reference.query_depths,
    )
    save_model(as_model(pipeline, reference, arguments), output)
    if arguments.json:
        rows_ = [
            {"params": candidates[i], "disparity": means[i], "by_fold": found[i],
             "seconds": seconds[i]}
            for i in order
        ]  # fmt: skip
        print(json.dumps({"output": str(output), "left_out": kind, "candidates": rows_}))
    elif not arguments.quiet:
        print(f"disparity (0 best, 1 worst) of {kind} that were left out:")
        for i in order:
            print(
                f"{means[i]:.3f} ± {np.std(found[i]):.3f}  {seconds[i]:6.0f} s  "
                f"{_said(candidates[i])}"
            )
        print(f"wrote {output}")


def _candidates(grid: dict[str, list[Any]], arguments: Namespace) -> list[dict[str, Any]]:
    """All combinations, or some that are drawn at random."""
    full = ParameterGrid(grid)
    if arguments.n_iter is None or arguments.n_iter >= len(full):
        return list(full)
    if arguments.n_iter < 1:
        raise ValueError(f"--n-iter {arguments.n_iter}: at least 1 is needed")
    return list(ParameterSampler(grid, arguments.n_iter, random_state=arguments.seed))


def _with(pipeline: Any, params: dict[str, Any]) -> Any:
    return clone(pipeline).set_params(**params)


def _said(params: dict[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('dpvae__')}={value}" for name, value in params.items())
