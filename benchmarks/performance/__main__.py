"""What training and prediction cost, and where the time goes.

    python -m benchmarks.performance                    # everything that needs no large memory
    python -m benchmarks.performance overhead profile   # some parts
    python -m benchmarks.performance scaling pipeline --large   # up to a million cells
    python -m benchmarks.performance -o benchmarks/results/performance.json

Parts: `overhead` (a fit against a loop written by hand), `profile` (where the time goes),
`kernels` (parts of a step against torch's), `scaling` (cost of an epoch), `memory` (peaks, each
in a process of its own), `pipeline` (counts to positions, likewise), `predict` (against one
matrix product of the shape), `search` (GridSearchCV with one and two jobs), `latency` (one row
through a pipeline), `start` (imports, and the command's help, each in a process of its own).
Ratios are of costs measured in turns in one process, on one thread, in time of the processor;
`search` alone looks at the wall clock. Prints Markdown. With --output, parts that were measured
before on the same machine are not measured again but with --redo. What a GPU does is measured by
benchmarks.device.
"""

from .._common.arguments import parser
from .._common.machine import machine, threads
from .._common.store import Store, fingerprint
from .._common.tables import table_of
from .kernels import measure_kernels
from .processes import measure_memory, measure_pipeline
from .training import measure_overhead, measure_profile, measure_scaling
from .use import measure_latency, measure_predict, measure_search, measure_start

PARTS = {
    "overhead": measure_overhead,
    "profile": measure_profile,
    "kernels": measure_kernels,
    "scaling": measure_scaling,
    "memory": measure_memory,
    "pipeline": measure_pipeline,
    "predict": measure_predict,
    "search": measure_search,
    "latency": measure_latency,
    "start": measure_start,
}


@threads(1)
def main(argv=None):
    arguments = parser("performance", __doc__, data=False)
    arguments.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument(
        "--large", action="store_true", help="scaling and pipeline to a million cells"
    )
    args = arguments.parse_args(argv)
    if unknown := set(args.parts) - set(PARTS):
        arguments.error(
            f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}"
        )
    here = machine()
    config = fingerprint(here, args.repeats, args.large)
    results = Store(args.output, key=("part",), config=lambda _: config)
    parts = args.parts or list(PARTS)
    for key in results.missing([{"part": part} for part in parts], args.redo):
        rows = list(PARTS[key["part"]](args))
        results.add(key | {"machine": here, "rows": rows})
    found = {record["part"]: record for record in results}
    print(in_markdown(found[part] for part in parts))
    return found


def in_markdown(records):
    """A table for each part."""
    return "\n".join(f"### {r['part']}\n\n{table_of(r['rows'])}" for r in records)


if __name__ == "__main__":
    main()
