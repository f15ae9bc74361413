"""What an experiment is given, and what it finds. Imports the sections and the fits."""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import joblib

from .._utils.files import replacing
from ._fits import NO_POSITIONS, RECIPES, default_weight, fit_and_place
from ._sections import Section


@dataclass(frozen=True)
class Settings:
    """How large the experiments are.

    Attributes
    ----------
    n_seeds : int
        Splits, and fits, of the comparison of models.
    weights : dict of tuples of float
        lambda over decades, for each recipe; 0 and the recipe's default are among them.
    epochs : dict
        Passes over the cells, for each recipe.
    count_epochs : dict
        The same where the likelihood is that of counts, as in scVI, which takes up to ten times
        as long.
    n_sections : int or None
        Models are fitted on so many sections of each file; None means all.
    n_curve_sections : int or None
        lambda is varied on so many of them.
    n_permutations : int
        Of Mantel's test.
    n_starts : int
        Of the reconstruction from exact distances.
    shares : tuple of float
        Shares of located cells of a new section.
    """

    n_seeds: int
    weights: dict[str, tuple[float, ...]]
    epochs: dict[str, int | str]
    count_epochs: dict[str, int | str]
    n_sections: int | None = None
    n_curve_sections: int | None = None
    n_permutations: int = 999
    n_starts: int = 10
    shares: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)


FULL = Settings(
    n_seeds=5,
    weights={
        "paper": (0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0),
        "package": (0.0, 0.01, 0.1, 1.0, 10.0, 100.0),
    },
    epochs={"paper": 1000, "package": "auto"},
    count_epochs={"paper": 1000, "package": "auto"},
)

# What takes the time without changing a verdict is left out: the spread between sections is far
# larger than that between seeds.
DEFAULT = replace(
    FULL,
    n_seeds=1,
    weights=FULL.weights | {"package": (0.0, 0.1, 1.0, 10.0, 100.0)},
    count_epochs={"paper": 300, "package": 30},
    n_sections=2,
    n_curve_sections=1,
    n_starts=5,
)

QUICK = Settings(
    n_seeds=1,
    weights={"paper": (0.0, 100.0, 1000.0), "package": (0.0, 1.0, 10.0)},
    epochs={"paper": 60, "package": 10},
    count_epochs={"paper": 60, "package": 10},
    n_permutations=99,
    n_starts=3,
    shares=(0.05, 0.1),
)


@dataclass
class Finding:
    """What came out of an experiment.

    Attributes
    ----------
    key : str
        Of its numbers, and of its place on the page.
    title : str
    shown_in : str
        Where the paper has it.
    claim : str
        What the paper says.
    found : list of str
        What was measured, a sentence each.
    numbers : dict
        All of it; lists, dictionaries, numbers and texts.
    tables : list of tuples (caption, head, rows)
    figures : dict
        Figures of matplotlib by name.
    pictures : dict
        The same once they are drawn, as PNG in base 64.
    """

    key: str
    title: str
    shown_in: str
    claim: str
    found: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A call of a function that takes long: its name for the log, and what it is called with."""

    name: str
    function: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]

    def run(self, kept: Path) -> dict[str, Any]:
        """The result, which is also kept in a file."""
        result = self.function(*self.arguments)
        with replacing(kept) as scratch:
            joblib.dump(result, scratch)
        return result

    def key(self) -> str:
        """Of the function, its parameters and its data."""
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        key: str = joblib.hash((name, self.arguments))
        return key


class Study:
    """Sections, settings, and calls whose results are kept.

    Parameters
    ----------
    sections : list of Section
    settings : Settings
    cache : Path
        Folder of results, by function, parameters and data: a run that was cut off goes on where
        it stopped.
    n_jobs : int
        Number of processes.
    verbose : bool, default=True
        Whether each call is reported on the standard error output.
    """

    def __init__(
        self,
        sections: list[Section],
        settings: Settings,
        cache: Path,
        *,
        n_jobs: int,
        verbose: bool = True,
    ):
        self.sections = sections
        self.settings = settings
        self.cache = cache
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.seconds: dict[str, float] = {}

    def run(self, jobs: Iterable[Job]) -> list[dict[str, Any]]:
        """Results of jobs in their order, computed or read."""
        jobs = list(jobs)
        self.cache.mkdir(parents=True, exist_ok=True)
        # Keys are made here and not in the processes, which are given arrays as maps of files:
        # these have other hashes.
        files = [self.cache / f"{job.key()}.joblib" for job in jobs]
        missing = [k for k, file in enumerate(files) if not file.exists()]
        results = {k: joblib.load(file) for k, file in enumerate(files) if k not in missing}
        start = time.perf_counter()
        # Several threads in each process would fight over the cores.
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            calls = (joblib.delayed(jobs[k].run)(files[k]) for k in missing)
            done = joblib.Parallel(n_jobs=self.n_jobs, return_as="generator")(calls)
            for number, (k, result) in enumerate(zip(missing, done, strict=True), 1):
                results[k] = result
                if self.verbose:
                    passed = time.perf_counter() - start
                    print(
                        f"{number}/{len(missing)} {jobs[k].name} ({passed:.0f} s)",
                        file=sys.stderr,
                        flush=True,
                    )
        for k, file in enumerate(files):
            self.seconds[file.stem] = results[k]["seconds"]
        return [results[k] for k in range(len(jobs))]

    def params(self, recipe: str, seed: int, **params: Any) -> dict[str, Any]:
        """Parameters of a recipe's pipeline."""
        counts = "likelihood" in params
        epochs = self.settings.count_epochs if counts else self.settings.epochs
        return {"max_epochs": epochs[recipe], "random_state": seed, **params}

    def job(self, section: Section, recipe: str, seed: int, **params: Any) -> Job:
        """Fit on the part of a section that a seed leaves, and place all of it."""
        fitted, held_out = section.split(seed)
        written = " ".join(f"{name}={value}" for name, value in params.items())
        return Job(
            f"{section.name}, {RECIPES[recipe]}, {written or 'default'}, seed {seed}",
            fit_and_place,
            (
                recipe,
                self.params(recipe, seed, **params),
                section.counts(fitted),
                section.coords[fitted],
                section.counts(held_out),
            ),
        )

    def models(self, recipe: str) -> dict[str, dict[str, Any]]:
        """Parameters of the plain VAE and of the dp-VAE of a recipe."""
        return {
            "VAE": dict(NO_POSITIONS[recipe]),
            "dp-VAE": {"distance_weight": default_weight(recipe)},
        }

    def by_file(self, n_sections: int | None = None) -> dict[str, list[Section]]:
        """The sections that models are fitted on, at most so many of each file."""
        files: dict[str, list[Section]] = {}
        for section in self.sections:
            files.setdefault(section.file, []).append(section)
        return {
            file: of_file[: self.settings.n_sections][:n_sections]
            for file, of_file in files.items()
        }

    def fitted_sections(self, n_sections: int | None = None) -> list[Section]:
        """The same in one list."""
        return list(chain.from_iterable(self.by_file(n_sections).values()))
