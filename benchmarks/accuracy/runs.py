"""Running methods on a task."""

import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from .._common.arguments import log
from .._common.folder import Folder
from .methods import choose_methods
from .prepared import Prepared
from .scores import frame_error, mean_over_folds, pooled_disparity, score


def run(data_dir, task, seed, names):
    """Yield a record for each method on one task and seed."""
    # Here, and not only in the command, since this may be a process of its own.
    torch.set_num_threads(1)
    methods = choose_methods(names)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        splits = [Prepared(split) for split in Folder(data_dir).splits(task, seed)]
        for name in names:
            placed, folds = zip(*(_run_one(methods[name], s, seed) for s in splits), strict=True)
            scores = mean_over_folds(folds)
            if len(folds) > 1 and task.kind != "loso":
                scores["pooled_disparity"] = pooled_disparity(
                    [s.split.query_coords for s in splits],
                    placed,
                    [s.split.query_sections for s in splits],
                )
            log(f"{task.label} | seed {seed} | {name}: disparity {scores['disparity']:.3f}")
            yield {
                "task": task.label,
                "seed": seed,
                "method": name,
                "n_genes": int(splits[0].genes.support_.sum()),
                "scores": scores,
                "fold_disparities": [fold["disparity"] for fold in folds],
            }


def run_all(*job):
    """The records of `run` as a list, which a process can return."""
    return list(run(*job))


def _run_one(method, prepared, seed):
    split = prepared.split
    placed, fit_seconds, predict_seconds = method.run(prepared, seed)
    scores = score(split.query_coords, placed, split.query_sections, split.spacing)
    scores["frame_error"] = frame_error(split.places, placed, split.coords)
    return placed, scores | {"fit_seconds": fit_seconds, "predict_seconds": predict_seconds}
