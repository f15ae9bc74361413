"""How accurately are cells placed, compared with what scikit-learn does in five lines?

    python benchmarks/accuracy.py DATA_DIR -o results.json --preset ten
    python benchmarks/accuracy.py DATA_DIR -o results.json --tasks "hippo1>2" "file:s1 > s2"

DATA_DIR is a folder of .h5ad files with counts in .X, positions in .obsm["spatial"] and, where a
file holds several sections, their labels in .obs["section"]. Without --tasks or --preset, every
section gets a random and a block task, each section places the next one of its file, and files of
three or more sections get leave-one-section-out. The notation of tasks is explained in
benchmarks/_accuracy/tasks.py.

Each result is written as soon as it is there, and a run that was interrupted goes on where it
stopped. Results of other parameters than the present ones are computed anew; after a change of
code, name the methods to compute anew with --redo. Tables go to the standard output.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from _accuracy.files import write_whole  # noqa: E402
from _accuracy.methods import Prepared, choose_methods, fingerprint  # noqa: E402
from _accuracy.report import comparisons, markdown, summarize  # noqa: E402
from _accuracy.scores import mean_over_folds, score  # noqa: E402
from _accuracy.tasks import PRESETS, Folder, parse_task, preset  # noqa: E402

from sklearn_dpvae.metrics import procrustes_disparity  # noqa: E402


def main(argv=None):
    args = _parse(argv)
    folder = Folder(args.data_dir)
    tasks = [t for name in args.preset for t in preset(name)]
    named = {t.label: t for name in PRESETS for t in preset(name)}
    tasks += [named.get(text) or parse_task(text, files=folder.files) for text in args.tasks]
    tasks = tasks or folder.default_tasks()
    methods = choose_methods(args.methods)
    names = list(methods)
    results = Results(args.output, {name: fingerprint(m) for name, m in methods.items()})
    results.forget(args.redo)

    jobs = []
    for seed in range(args.seeds):
        for task in tasks:
            todo = [
                name
                for name in names
                # What depends neither on the split's seed nor on its own is run once.
                if (seed == 0 or task.split_depends_on_seed or not methods[name].deterministic)
                and not results.has(task.label, seed, name)
            ]
            if todo:
                jobs.append((folder.path, task, seed, todo))
    _log(f"{len(jobs)} jobs of {len(tasks)} tasks, {args.seeds} seeds, {len(names)} methods")
    if args.n_jobs == 1:
        for job in jobs:
            for record in run(*job):
                results.add(record)
    else:
        parallel = joblib.Parallel(args.n_jobs, return_as="generator_unordered")
        for records in parallel(joblib.delayed(_run_all)(*job) for job in jobs):
            for record in records:
                results.add(record)

    # Methods that were run before count too, so that they can be run in several goes.
    methods = choose_methods(None)
    results.configs |= {n: fingerprint(m) for n, m in methods.items() if n not in names}
    runs = results.current()
    summary = summarize(runs, [t.label for t in tasks], list(methods))
    compared = comparisons(summary, methods)
    tables = markdown(summary, compared)
    if args.summary:
        args.summary.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_rounded({"summary": summary, "compared": compared}, digits=4))
        # A line for each method.
        args.summary.write_text(text.replace("}, ", "},\n") + "\n", encoding="utf-8")
    if args.table:
        args.table.write_text(tables, encoding="utf-8")
    print(tables)
    return summary


def run(data_dir, task, seed, names):
    """Yield a record for each method on one task and seed."""
    torch.set_num_threads(1)
    methods = choose_methods(names)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        splits = [Prepared(split) for split in Folder(data_dir).splits(task, seed)]
        for name in names:
            folds = [_run_one(methods[name], prepared, seed) for prepared in splits]
            scores = mean_over_folds([fold_scores for fold_scores, _ in folds])
            if len(folds) > 1 and task.kind != "loso":
                scores["pooled_disparity"] = _pooled(splits, [placed for _, placed in folds])
            _log(f"{task.label} | seed {seed} | {name}: disparity {scores['disparity']:.3f}")
            yield {
                "task": task.label,
                "seed": seed,
                "method": name,
                "n_genes": int(splits[0].genes.support_.sum()),
                "scores": scores,
                "fold_disparities": [fold_scores["disparity"] for fold_scores, _ in folds],
            }


def _run_all(*job):
    return list(run(*job))


def _run_one(method, prepared, seed):
    split = prepared.split
    placed, fit_seconds, predict_seconds = method.run(prepared, seed)
    scores = score(split.query_coords, placed, split.query_sections, split.spacing)
    return scores | {"fit_seconds": fit_seconds, "predict_seconds": predict_seconds}, placed


def _pooled(splits, placed):
    """Disparity of all folds' predictions, which are all in the frame of their section.

    Where a block is the test set, this asks also whether the block is put into its place.
    """
    true = np.vstack([p.split.query_coords for p in splits])
    sections = np.concatenate([p.split.query_sections for p in splits])
    return procrustes_disparity(true, np.nan_to_num(np.vstack(placed)), sections=sections)


class Results:
    """Records in a JSON file, one for each task, seed and method."""

    def __init__(self, path, configs):
        self.path = path
        self.configs = configs
        self.records = {}
        if path.exists():
            for record in json.loads(path.read_text(encoding="utf-8"))["runs"]:
                self.records[self._key(record)] = record

    @staticmethod
    def _key(record):
        return record["task"], record["seed"], record["method"]

    def has(self, *key):
        record = self.records.get(key)
        return record is not None and record["config"] == self.configs[key[-1]]

    def forget(self, methods):
        self.records = {k: r for k, r in self.records.items() if k[-1] not in methods}

    def current(self):
        return [r for r in self.records.values() if self.configs.get(r["method"]) == r["config"]]

    def add(self, record):
        # The parameters as this process writes them: numpy's print options, which are in the
        # text of a parameter that is an array, may be others in a worker.
        self.records[self._key(record)] = record | {"config": self.configs[record["method"]]}
        lines = ",\n".join(json.dumps(_rounded(r)) for r in self.records.values())
        write_whole(self.path, f'{{"runs": [\n{lines}\n]}}\n')


def _rounded(value, digits=5):
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, digits) if isinstance(value, float) else value


def _log(text):
    print(text, file=sys.stderr, flush=True)


def _parse(argv):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("data_dir", type=Path, help="folder of .h5ad files")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON of all results")
    parser.add_argument(
        "--tasks", nargs="+", default=[], help="tasks of presets by name, or as above"
    )
    parser.add_argument("--preset", nargs="+", default=[], choices=sorted(PRESETS))
    parser.add_argument(
        "--methods",
        nargs="+",
        help="names, or the groups baselines (standard z-scores), plain (those of "
        "scikit-learn) and on_ours (z-scores of our pipeline); all that can run if not given",
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0 on")
    parser.add_argument("--n-jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--redo", nargs="+", default=[], metavar="METHOD")
    parser.add_argument("--summary", type=Path, help="JSON of means, spreads and ratios")
    parser.add_argument("--table", type=Path, help="markdown file of the tables")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
