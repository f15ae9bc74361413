"""Speed, scale and worth of anchored multidimensional scaling.

    python -m benchmarks.reconstruction speed            # against scikit-learn's SMACOF
    python -m benchmarks.reconstruction scale            # cost against the number of rows
    python -m benchmarks.reconstruction anchors DATA     # error by the number of known positions
    python -m benchmarks.reconstruction placement DATA   # error by where these lie
    python -m benchmarks.reconstruction dimensions DATA  # what latents of more dimensions hold

`speed` and `scale` run on one thread by default and need no data; ratios are of times measured
side by side in one run. The other three read real sections from the folder DATA of .h5ad files.
Each prints a table, and with --output keeps its results, so that it goes on where it stopped.
"""

from pathlib import Path

from sklearn_dpvae import make_spatial_pipeline

from .._common.arguments import add_data, log, parser
from .._common.folder import Folder
from .._common.machine import machine, threads
from .._common.store import Store, fingerprint
from .._common.tables import table_of
from .anchors import anchors, placement
from .dimensions import dimensions
from .real import PROBLEMS
from .simulated import scale, speed

# Function, and its usual numbers of rows.
SIMULATED = {
    "speed": (speed, [500, 1000, 2000]),
    "scale": (scale, [2000, 5000, 10_000, 20_000, 50_000, 100_000]),
}
REAL = {"anchors": anchors, "placement": placement, "dimensions": dimensions}
# Of columns that three digits do not suit.
FORMATS = {"error": ".4f", "exact: error": ".4f", "stress over the exact one's": ".5f"}


KEY = ("table", "problem", "size", "seed")


def measure_simulated(args):
    """Rows of `speed` or `scale`."""
    function, sizes = SIMULATED[args.table]
    anchors = args.anchors if args.table == "scale" else None
    config = fingerprint(machine(), args.device, anchors)
    results = Store(args.output, key=KEY, config=lambda _: config)
    wanted = [
        {"table": args.table, "problem": "simulated", "size": n, "seed": seed}
        for n in args.sizes or sizes
        for seed in range(args.seeds)
    ]
    for key in results.missing(wanted, args.redo):
        row = function(key["size"], key["seed"], args)
        log(f"{key} {row}")
        results.add(key | {"measured": [row]})
    return [
        {"rows": r["size"], "seed": r["seed"]} | row
        for r in results
        if r["table"] == args.table
        for row in r["measured"]
    ]


def measure_real(args):
    """Rows of a table of real sections."""
    config = fingerprint(make_spatial_pipeline())
    results = Store(args.output, key=KEY, config=lambda _: config)
    dims = [2] if args.table == "placement" else args.dims
    # One model, of a seed, gives all rows of a problem and a number of latents.
    wanted = [
        {"table": args.table, "problem": problem, "size": d, "seed": 0}
        for problem in args.problems
        for d in dims
    ]
    missing = results.missing(wanted, args.redo)
    folder = Folder(args.data) if missing else None
    for key in missing:
        rows = list(REAL[args.table](folder, key["problem"], key["size"]))
        log(f"{key} {rows}")
        results.add(key | {"measured": rows})
    return [
        {"problem": r["problem"], "d": r["size"]} | row
        for r in results
        if r["table"] == args.table
        for row in r["measured"]
    ]


def main(argv=None):
    arguments = parser("reconstruction", __doc__, data=False, seeds=3)
    arguments.add_argument("table", choices=[*SIMULATED, *REAL])
    add_data(arguments, required=False)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--device", help="for the package's side, such as cuda")
    arguments.add_argument("--sizes", type=int, nargs="+", help="numbers of rows")
    arguments.add_argument("--anchors", type=int, default=500, help="of `scale`")
    arguments.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    arguments.add_argument(
        "--dims", type=int, nargs="+", default=[2, 5, 10, 30], help="of latents"
    )
    arguments.add_argument("--figure", type=Path, help="figure of `anchors`")
    args = arguments.parse_args(argv)
    if args.table in REAL and args.data is None:
        arguments.error("name a folder of .h5ad files, or set SKLEARN_DPVAE_DATA")
    with threads(args.threads):
        rows = measure_simulated(args) if args.table in SIMULATED else measure_real(args)
    if args.figure is not None:
        from .figure import draw

        draw(rows, args.figure)
    print(table_of(rows, formats=FORMATS))
    return rows


if __name__ == "__main__":
    main()
