"""How accurately are cells placed, compared with what scikit-learn does in five lines?

    python -m benchmarks.accuracy DATA -o results.json --preset ten
    python -m benchmarks.accuracy DATA -o results.json --tasks "hippo1>2" "file:s1 > s2"

DATA is a folder of .h5ad files with counts in .X, positions in .obsm["spatial"] and, where a file
holds several sections, their labels in .obs["section"]. Without --tasks or --preset, every
section gets a random and a block task, each section places the next one of its file, and files of
three or more sections get leave-one-section-out. The notation of tasks is explained in
benchmarks/_common/tasks.py.

Each result is written at once, and a run that was interrupted goes on where it stopped. Results
of other parameters than the present ones are computed anew; after a change of code, use --redo.
Tables of all results, whichever --methods are run now, go to the standard output.
"""

from pathlib import Path

import joblib

from .._common.arguments import log, parser
from .._common.folder import Folder
from .._common.machine import threads
from .._common.store import Store, fingerprint, rounded, write
from .._common.tasks import PRESETS, find_tasks, preset
from .methods import choose_methods
from .report import markdown, means
from .runs import run, run_all


@threads(1)
def main(argv=None):
    args = _parse(argv)
    folder = Folder(args.data)
    tasks = [t for name in args.preset for t in preset(name)]
    tasks += find_tasks(args.tasks, folder.files)
    tasks = tasks or folder.default_tasks()
    methods = choose_methods(args.methods)
    # Methods that were run before count too, so that they can be run in several goes.
    everything = choose_methods(None)
    configs = {name: fingerprint(*method.config()) for name, method in everything.items()}
    results = Store(
        args.output,
        key=("task", "seed", "method"),
        # None is the fingerprint of no record: of tools that are not installed here.
        config=lambda record: configs.get(record["method"]),
    )

    jobs = []
    for seed in range(args.seeds):
        for task in tasks:
            wanted = [
                {"task": task.label, "seed": seed, "method": name}
                for name, method in methods.items()
                # What depends neither on the split's seed nor on its own is run once.
                if seed == 0 or task.split_depends_on_seed or not method.deterministic
            ]
            if todo := [key["method"] for key in results.missing(wanted, args.redo)]:
                jobs.append((folder.path, task, seed, todo))
    log(f"{len(jobs)} jobs of {len(tasks)} tasks, {args.seeds} seeds, {len(methods)} methods")
    if args.n_jobs == 1:
        for job in jobs:
            for record in run(*job):
                results.add(record)
    else:
        parallel = joblib.Parallel(args.n_jobs, return_as="generator_unordered")
        for records in parallel(joblib.delayed(run_all)(*job) for job in jobs):
            for record in records:
                results.add(record)

    summary = means(results, [t.label for t in tasks], list(everything))
    if args.summary:
        write(args.summary, rounded(summary))
    print(markdown(summary))
    return summary


def _parse(argv):
    arguments = parser("accuracy", __doc__, seeds=5)
    arguments.add_argument(
        "--tasks", nargs="+", default=[], help="tasks of presets by name, or as above"
    )
    arguments.add_argument("--preset", nargs="+", default=[], choices=sorted(PRESETS))
    arguments.add_argument(
        "--methods",
        nargs="+",
        help="names, or the groups baselines, plain (those of scikit-learn), and of these "
        "standard, ours and components, by what they see; all that can run if not given",
    )
    arguments.add_argument("--n-jobs", type=int, default=1, help="processes, one thread each")
    arguments.add_argument("--summary", type=Path, help="JSON of means and spreads")
    return arguments.parse_args(argv)


if __name__ == "__main__":
    main()
