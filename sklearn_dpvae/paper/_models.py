"""Experiments with fitted models: errors, losses, stages of training, latents, new sections.

Imports the study, the fits, metrics and figures.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from ..metrics import (
    distance_correlation,
    distortion_bounds,
    gearys_c,
    morans_i,
    procrustes_disparity,
)
from ..plotting import (
    DistanceDisplay,
    ErrorMapDisplay,
    GeneMapDisplay,
    LossCurvesDisplay,
    ReconstructionDisplay,
    TransferMatrixDisplay,
    WeightCurveDisplay,
)
from ..plotting._common import PALETTE, as_map, get_axes
from ._fits import RECIPES, fit_and_mark, fit_and_transfer
from ._sections import Section
from ._study import Finding, Job, Study

_PARTS = {"held out": 1, "fitted": 0}


def _disparity(section: Section, seed: int, result: dict[str, Any], part: str) -> float:
    """Error of the cells that a fit has seen, or of those that it has not."""
    rows = section.split(seed)[_PARTS[part]]
    placed = result["held_out" if part == "held out" else "fitted"]
    return float(procrustes_disparity(section.coords[rows], placed))


def weights(study: Study) -> Finding:
    """Figures 9 and 10: the error against lambda over decades."""
    finding = Finding(
        key="weights",
        title="Error against λ",
        shown_in="Figures 9 and 10",
        claim="The error falls about linearly with log λ.",
        found=["Our defaults keep their alignment term, which λ = 0 does not take away."],
    )
    sections = study.fitted_sections(study.settings.n_curve_sections)
    axes = get_axes(None, 4, n_columns=2, size=(4.6, 3.4)).reshape(2, 2)
    for (recipe, title), row in zip(RECIPES.items(), axes, strict=True):
        grid = study.settings.weights[recipe]
        jobs = [
            study.job(s, recipe, 0, distance_weight=weight) for s in sections for weight in grid
        ]
        results = np.array(study.run(jobs)).reshape(len(sections), len(grid))
        numbers: dict[str, Any] = {"lambda": list(grid)}
        for ax, part in zip(row, _PARTS, strict=True):
            errors = np.array(
                [
                    [_disparity(s, 0, result, part) for result in of_section]
                    for s, of_section in zip(sections, results, strict=True)
                ]
            )
            display = WeightCurveDisplay(grid, errors.T, name="λ").plot(ax)
            ax.set(
                title=f"{title}, cells {part}\nlowest at λ = {display.best_weight_:g}",
                ylim=(-0.02, 1.02),
            )
            numbers[part] = {
                "sections": {s.name: e.tolist() for s, e in zip(sections, errors, strict=True)},
                "mean": errors.mean(axis=0).tolist(),
                "best": display.best_weight_,
            }
        finding.numbers[recipe] = numbers
        finding.found.append(
            f"By {title}, the mean disparity of held-out cells is lowest at λ = "
            f"{numbers['held out']['best']:g}; that of fitted cells at "
            f"{numbers['fitted']['best']:g}."
        )
        finding.tables.append(
            (
                f"Mean disparity over {len(sections)} sections, {title}",
                ["λ", *(f"{weight:g}" for weight in grid)],
                [[part, *(f"{e:.3f}" for e in numbers[part]["mean"])] for part in _PARTS],
            )
        )
    finding.figures["weights"] = axes[0, 0].figure
    return finding


def _shares_of_first(values: NDArray[np.float64], n_points: int) -> NDArray[np.float64]:
    """A loss at equal steps from the first epoch to the last, as a share of its first value."""
    at = np.linspace(0, len(values) - 1, n_points)
    shares: NDArray[np.float64] = np.interp(at, np.arange(len(values)), values)
    return shares / max(abs(values[0]), 1e-12)


def losses(study: Study) -> Finding:
    """Figure 7: does the training converge for every lambda?"""
    finding = Finding(
        key="losses",
        title="Convergence for every λ",
        shown_in="Figure 7",
        claim="Training converges for every λ over decades.",
    )
    sections = study.fitted_sections(study.settings.n_curve_sections)
    for recipe, title in RECIPES.items():
        grid = study.settings.weights[recipe]
        curves = {}
        still_falling = {}
        for weight in grid:
            jobs = [study.job(s, recipe, 0, distance_weight=weight) for s in sections]
            histories = [result["history"] for result in study.run(jobs)]
            terms = [name for name in histories[0] if name not in ("scale", "valid_stress")]
            # Of different sections and lambda, each as a share of its first value, and over the
            # share of the epochs that are done: "auto" gives sections different numbers of them.
            lengths = {len(h["loss"]) for h in histories}
            n_epochs = min(lengths)
            mean = {
                term: np.mean([_shares_of_first(h[term], n_epochs) for h in histories], axis=0)
                for term in terms
            }
            curves[weight] = [
                {term: float(mean[term][epoch]) for term in terms} for epoch in range(n_epochs)
            ]
            last = max(n_epochs // 10, 1)
            fall = np.mean(mean["loss"][-2 * last : -last]) - np.mean(mean["loss"][-last:])
            still_falling[weight] = float(fall)
        display = LossCurvesDisplay(
            curves, terms=["loss", "reconstruction", "distance"], label="λ"
        ).plot()
        for ax in display.ax_:
            ax.set(yscale="log", ylabel="share of the first epoch's")
            if len(lengths) > 1:
                ax.set(xlabel="epoch, of sections with the fewest")
        # On the logarithmic scale the corner above the curves is free.
        display.ax_[0].set_ylim(top=4)
        display.ax_[0].legend(
            title="λ", frameon=False, fontsize="small", ncols=3, loc="upper right"
        )
        display.figure_.suptitle(title)
        finding.figures[f"losses_{recipe}"] = display.figure_
        finding.numbers[recipe] = {
            "lambda": list(grid),
            "last_share_of_first_loss": [curves[weight][-1]["loss"] for weight in grid],
            "fall_in_the_last_tenth": [still_falling[weight] for weight in grid],
            "last_share_of_first_distance": [curves[weight][-1]["distance"] for weight in grid],
        }
        finding.found.append(
            f"By {title}, the loss ends at "
            + ", ".join(f"{curves[w][-1]['loss']:.2g} (λ = {w:g})" for w in grid)
            + " of its first value; in the last tenth of the epochs it changes by at most "
            f"{max(abs(f) for f in still_falling.values()):.2g}."
        )
    return finding


def _beside_truth(
    truth: NDArray[np.float64], placed: NDArray[np.float64], of_truth: Any, ax: Any, title: str
) -> None:
    """A map beside the true one, which several maps share."""
    of_truth.clear()
    ReconstructionDisplay.from_predictions(truth, placed, ax=[of_truth, ax])
    as_map(ax, title)


def stages(study: Study) -> Finding:
    """Figure 5: the map while the model is trained."""
    section = study.sections[0]
    rows, _ = section.split(0)
    truth = section.coords[rows]
    finding = Finding(
        key="stages",
        title="The map at stages of training",
        shown_in="Figure 5",
        claim="The latents of a dp-VAE unfold into the tissue, those of a VAE do not.",
        found=[
            f"Cells of {section.name} that the models are fitted on. The triangle joins the same "
            "three cells in every map."
        ],
    )
    for recipe, title in RECIPES.items():
        whole = study.settings.epochs[recipe]
        # What "auto" stands for here: 600 steps on batches of 128 of four fifths of the cells.
        whole = whole if isinstance(whole, int) else max(600 // -(-len(rows) * 4 // 5 // 128), 10)
        epochs = sorted({max(1, whole // 100), max(1, whole // 10), whole})
        models = study.models(recipe)
        jobs = [
            study.job(section, recipe, 0, **params, max_epochs=n)
            for params in models.values()
            for n in epochs
        ]
        results = iter(study.run(jobs))
        n_columns = 1 + len(epochs)
        axes = get_axes(None, 2 * n_columns, n_columns=n_columns, size=(2.8, 3.0))
        axes = axes.reshape(2, -1)
        finding.numbers[recipe] = {"epochs": epochs}
        for row, name in zip(axes, models, strict=True):
            errors = []
            for n, ax in zip(epochs, row[1:], strict=True):
                placed = next(results)["fitted"]
                errors.append(float(procrustes_disparity(truth, placed)))
                _beside_truth(
                    truth, placed, row[0], ax, f"{name}, epoch {n}\ndisparity {errors[-1]:.2f}"
                )
            finding.numbers[recipe][name] = errors
        axes[0, 0].figure.suptitle(title)
        finding.figures[f"stages_{recipe}"] = axes[0, 0].figure
        last = {name: finding.numbers[recipe][name][-1] for name in models}
        finding.found.append(
            f"By {title}, the disparity at the end is {last['VAE']:.3f} for the VAE and "
            f"{last['dp-VAE']:.3f} for the dp-VAE."
        )
    return finding


def out_of_sample(study: Study) -> Finding:
    """Figures 6 and 9: held-out cells, VAE against dp-VAE."""
    finding = Finding(
        key="out_of_sample",
        title="Held-out cells: VAE against dp-VAE",
        shown_in="Figures 6 and 9",
        claim="The dp-VAE reconstructs held-out cells better than the VAE.",
    )
    seeds = range(study.settings.n_seeds)
    axes = get_axes(None, 2, n_columns=2, size=(4.2, 4.2))
    for ax, (recipe, title) in zip(axes, RECIPES.items(), strict=True):
        models = study.models(recipe)
        keys = [
            (s, seed, name) for s in study.fitted_sections() for seed in seeds for name in models
        ]
        results = study.run(study.job(s, recipe, seed, **models[name]) for s, seed, name in keys)
        errors: dict[str, dict[str, list[float]]] = {}
        for (s, seed, name), result in zip(keys, results, strict=True):
            of_section = errors.setdefault(s.name, {})
            of_section.setdefault(name, []).append(_disparity(s, seed, result, "held out"))
        means = np.array([[np.mean(e[name]) for name in models] for e in errors.values()])
        wins = int(np.sum(means[:, 1] < means[:, 0]))
        # With two sections there is nothing to test.
        p = float(wilcoxon(*means.T).pvalue) if len(means) > 2 else float("nan")
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
        ax.plot(*means.T, "o", color=PALETTE[0])
        ax.set(xlabel="disparity of the VAE", ylabel="disparity of the dp-VAE", aspect="equal")
        ax.set(xlim=(0, 1), ylim=(0, 1), title=title)
        finding.numbers[recipe] = {
            "sections": errors,
            "mean": dict(zip(models, means.mean(axis=0).tolist(), strict=True)),
            "wins_of_dp_vae": wins,
            "n_sections": len(means),
            "wilcoxon_p": p,
        }
        finding.found.append(
            f"By {title}, the dp-VAE is better in {wins} of {len(means)} sections (Wilcoxon's "
            f"p = {p:.2g}); mean disparity {means[:, 1].mean():.3f} against "
            f"{means[:, 0].mean():.3f}."
        )
        finding.tables.append(
            (
                f"Disparity of held-out cells, mean of {len(seeds)} seed(s), {title}",
                ["section", *models],
                [
                    [name, *(f"{value:.3f}" for value in row)]
                    for name, row in zip(errors, means, strict=True)
                ],
            )
        )
    finding.figures["out_of_sample"] = axes[0].figure
    section = study.sections[0]
    rows = section.split(0)[1]
    for recipe, title in RECIPES.items():
        models = study.models(recipe)
        results = study.run(study.job(section, recipe, 0, **p) for p in models.values())
        axes = get_axes(None, 1 + len(models), n_columns=3, size=(3.0, 3.2))
        for ax, name, result in zip(axes[1:], models, results, strict=True):
            _beside_truth(section.coords[rows], result["held_out"], axes[0], ax, name)
        axes[0].figure.suptitle(f"Held-out cells of {section.name}, {title}")
        finding.figures[f"held_out_{recipe}"] = axes[0].figure
    return finding


def transfer(study: Study) -> Finding | None:
    """Figures 8 and 11: a model of one section places another, as it is and fine-tuned."""
    files = study.by_file()
    files = {file: of_file for file, of_file in files.items() if len(of_file) > 1}
    if not files:
        return None
    finding = Finding(
        key="transfer",
        title="From section to section",
        shown_in="Figures 8 and 11",
        claim="Transfer without fine-tuning is limited and asymmetric; a few located cells of the "
        "new section mend it.",
    )
    shares = study.settings.shares
    for recipe, title in RECIPES.items():
        pairs = [(file, k) for file, of_file in files.items() for k in range(len(of_file))]
        jobs = []
        for file, k in pairs:
            source, *others = files[file][k:] + files[file][:k]
            jobs.append(
                Job(
                    f"from {source.name}, {title}",
                    fit_and_transfer,
                    (
                        recipe,
                        study.params(recipe, 0, **study.models(recipe)["dp-VAE"]),
                        source.X,
                        source.coords,
                        {other.name: (other.X, other.coords) for other in others},
                        # Fine-tuned is the next section only, which saves time.
                        {others[0].name: shares},
                    ),
                )
            )
        results = dict(zip(pairs, study.run(jobs), strict=True))
        numbers: dict[str, Any] = {"matrices": {}}
        asymmetry = []
        axes = get_axes(None, len(files), n_columns=2, size=(5.2, 4.2))
        for ax, (file, of_file) in zip(axes, files.items(), strict=True):
            names = [s.name.rpartition(":")[2] for s in of_file]
            matrix = np.full((len(of_file), len(of_file)), np.nan)
            for row in range(len(of_file)):
                for column, query in enumerate(of_file):
                    if row != column:
                        placed = results[file, row]["placed"][query.name]
                        matrix[row, column] = procrustes_disparity(query.coords, placed)
            upper = np.triu_indices(len(of_file), 1)
            asymmetry += np.abs(matrix - matrix.T)[upper].tolist()
            numbers["matrices"][file] = {
                "sections": names,
                "disparity": [[None if np.isnan(v) else float(v) for v in r] for r in matrix],
            }
            TransferMatrixDisplay(matrix, names).plot(ax)
            ax.set_title(file)
        axes[0].figure.suptitle(title)
        finding.figures[f"transfer_{recipe}"] = axes[0].figure
        tuned = np.array(
            [list(next(iter(r["tuned"].values())).values()) for r in results.values()]
        )
        before = np.array(
            [list(next(iter(r["untuned"].values())).values()) for r in results.values()]
        )
        numbers |= {
            "mean_asymmetry": float(np.mean(asymmetry)),
            "shares": list(shares),
            "fine_tuned": tuned.mean(axis=0).tolist(),
            "not_fine_tuned": before.mean(axis=0).tolist(),
        }
        finding.numbers[recipe] = numbers
        finding.tables.append(
            (
                f"Mean disparity of the cells that are not located, {len(pairs)} pairs of "
                f"sections, {title}",
                ["located cells", *(f"{share:.0%}" for share in shares)],
                [
                    ["before fine-tuning", *(f"{e:.3f}" for e in before.mean(axis=0))],
                    ["after it", *(f"{e:.3f}" for e in tuned.mean(axis=0))],
                ],
            )
        )
        finding.found.append(
            f"By {title}, A → B and B → A differ by {np.mean(asymmetry):.3f} on average. With "
            f"{shares[-1]:.0%} of the cells located the disparity goes from "
            f"{before[:, -1].mean():.3f} to {tuned[:, -1].mean():.3f}."
        )
        (file, k), result = next(iter(results.items()))
        query = (files[file][k:] + files[file][:k])[1]
        error_axes = get_axes(None, 1, n_columns=1, size=(4.2, 3.6))
        ErrorMapDisplay.from_predictions(
            query.coords, result["placed"][query.name], align=True, ax=error_axes[0]
        )
        error_axes[0].set_title(f"{files[file][k].name} → {query.name}\n{title}")
        finding.figures[f"error_map_{recipe}"] = error_axes[0].figure
    return finding


def autocorrelation(study: Study) -> Finding:
    """Table I: are latents of neighbors alike, with and without the distance term?"""
    finding = Finding(
        key="autocorrelation",
        title="Spatial autocorrelation of latents",
        shown_in="Table I",
        claim="With the distance term Moran's I of the latents rises and Geary's C falls, for VAE "
        "and scVI.",
    )
    sections, seeds = study.fitted_sections(1), range(study.settings.n_seeds)
    for recipe, title in RECIPES.items():
        models = {
            f"{prefix}{name}": {**params, **likelihood}
            for prefix, likelihood in (("", {}), ("scVI, ", {"likelihood": "nb"}))
            for name, params in study.models(recipe).items()
        }
        keys = [(s, seed, name) for name in models for s in sections for seed in seeds]
        results = study.run(study.job(s, recipe, seed, **models[name]) for s, seed, name in keys)
        # By model and part: Moran's I and Geary's C of each section and seed.
        scores = {
            name: {part: np.empty((len(sections), len(seeds), 2)) for part in _PARTS}
            for name in models
        }
        for (s, seed, name), result in zip(keys, results, strict=True):
            for part, index in _PARTS.items():
                latents = result[f"{part.replace(' ', '_')}_latents"]
                coords = s.coords[s.split(seed)[index]]
                scores[name][part][sections.index(s), seeds.index(seed)] = [
                    float(f(latents, coords).mean()) for f in (morans_i, gearys_c)
                ]
        numbers: dict[str, Any] = {
            name: {
                part: {
                    "morans_i": values[..., 0].tolist(),
                    "gearys_c": values[..., 1].tolist(),
                    "mean": values.mean(axis=(0, 1)).tolist(),
                    # Of the means over sections.
                    "sd_over_seeds": values.mean(axis=0).std(axis=0).tolist(),
                }
                for part, values in by_part.items()
            }
            for name, by_part in scores.items()
        }
        finding.numbers[recipe] = {"sections": [s.name for s in sections], "models": numbers}
        several = len(seeds) > 1
        rows = []
        for name, by_part in numbers.items():
            cells = [
                f"{mean:.3f} ± {sd:.3f}" if several else f"{mean:.3f}"
                for of_part in by_part.values()
                for mean, sd in zip(of_part["mean"], of_part["sd_over_seeds"], strict=True)
            ]
            rows.append([name, *cells])
        spread = f" ± standard deviation over {len(seeds)} seeds" if several else ""
        finding.tables.append(
            (
                f"Mean over {len(sections)} sections{spread}, {title}",
                ["model", *(f"{score}, {part}" for part in _PARTS for score in ("I", "C"))],
                rows,
            )
        )
        for prefix, likelihood in (("", "a Gaussian likelihood"), ("scVI, ", "counts as in scVI")):
            without, with_term = (
                scores[f"{prefix}{name}"]["held out"].mean(axis=1) for name in ("VAE", "dp-VAE")
            )
            rises = int(np.sum(with_term[:, 0] > without[:, 0]))
            falls = int(np.sum(with_term[:, 1] < without[:, 1]))
            finding.numbers[recipe][f"{prefix}sections where"] = {
                "I rises": rises,
                "C falls": falls,
            }
            finding.found.append(
                f"By {title} with {likelihood}, Moran's I of held-out cells goes from "
                f"{without[:, 0].mean():.3f} to {with_term[:, 0].mean():.3f} and rises in {rises} "
                f"of {len(sections)} sections; Geary's C goes from {without[:, 1].mean():.3f} to "
                f"{with_term[:, 1].mean():.3f} and falls in {falls}."
            )
    return finding


def markers(study: Study) -> Finding:
    """Figure 12: marker genes on the true and on the reconstructed tissue."""
    section = study.sections[0]
    n_markers = 3
    jobs = [
        Job(
            f"markers, {title}",
            fit_and_mark,
            (
                recipe,
                study.params(recipe, 0, **study.models(recipe)["dp-VAE"]),
                section.X,
                section.coords,
                section.genes,
                n_markers,
            ),
        )
        for recipe, title in RECIPES.items()
    ]
    results = dict(zip(RECIPES, study.run(jobs), strict=True))
    finding = Finding(
        key="markers",
        title="Marker genes on the reconstructed tissue",
        shown_in="Figure 12",
        claim="Expression of marker genes keeps its pattern on the reconstructed map.",
    )
    logs = np.log1p(section.X.toarray())
    for recipe, title in RECIPES.items():
        result = results[recipe]
        show = result["markers"]
        axes = get_axes(None, 2 * len(show), n_columns=len(show), size=(3.2, 2.9))
        rows = axes.reshape(2, -1)
        for row, coords in zip(rows, (section.coords, result["fitted"]), strict=True):
            GeneMapDisplay.from_predictions(coords, section.X, section.genes, show=show, ax=row)
        for where, row in zip(("true", "reconstructed"), rows, strict=True):
            for ax, gene in zip(row, show, strict=True):
                ax.set_title(f"{gene}, {where}")
        axes[0].figure.suptitle(f"{section.name}, {title}")
        finding.figures[f"markers_{recipe}"] = axes[0].figure
        columns = [section.genes.tolist().index(gene) for gene in show]
        on = {
            where: morans_i(logs[:, columns], coords).tolist()
            for where, coords in (("true", section.coords), ("reconstructed", result["fitted"]))
        }
        finding.numbers[recipe] = {"section": section.name, "markers": show, "morans_i": on}
        finding.found.append(
            f"By {title}, the genes that matter most are {', '.join(show)}; their mean Moran's I "
            f"is {np.mean(on['true']):.3f} on the tissue and {np.mean(on['reconstructed']):.3f} "
            "on the map of the cells that the model was fitted on."
        )
    return finding


def isometry(study: Study) -> Finding:
    """Figure 13 and Theorem 1: latent against tissue distances, and the bound."""
    delta = 0.1
    finding = Finding(
        key="isometry",
        title="Isometry, and Theorem 1",
        shown_in="Figure 13, Theorem 1",
        claim="Latent distances are proportional to tissue distances; the bound on the distortion "
        "tightens as the distance loss falls.",
    )
    for recipe, title in RECIPES.items():
        models = study.models(recipe)
        keys = [(name, s) for name in models for s in study.fitted_sections()]
        results = study.run(study.job(s, recipe, 0, **models[name]) for name, s in keys)
        numbers: dict[str, Any] = {name: {} for name in models}
        axes = get_axes(None, 2, n_columns=2, size=(5.2, 4.0))
        shown = dict(zip(models, axes, strict=True))
        for (name, s), result in zip(keys, results, strict=True):
            coords = s.coords[s.split(0)[1]]
            latents = result["held_out_latents"]
            bounds = distortion_bounds(latents, coords, delta)
            numbers[name][s.name] = {
                "correlation": float(distance_correlation(coords, latents)),
                # In units of c, so that sections and models compare.
                "upper_over_c": float(bounds.upper / bounds.scale),
                "observed_upper_over_c": float(bounds.observed_upper / bounds.scale),
                "observed_lower_over_c": float(bounds.observed_lower / bounds.scale),
                "observed_outside": float(bounds.observed_outside),
            }
            if s is study.sections[0]:
                DistanceDisplay.from_predictions(latents, coords, ax=shown[name])
                shown[name].set_title(f"{name}, held-out cells of {s.name}", fontsize="small")
                # Room for the legend above the pairs.
                shown[name].set_ylim(top=1.4 * shown[name].get_ylim()[1])
        axes[0].figure.suptitle(title)
        finding.figures[f"isometry_{recipe}"] = axes[0].figure
        means = {
            name: {
                key: float(np.mean([v[key] for v in by_section.values()]))
                for key in next(iter(by_section.values()))
            }
            for name, by_section in numbers.items()
        }
        finding.numbers[recipe] = {"sections": numbers, "mean": means, "delta": delta}
        worst = max(v["observed_outside"] for by in numbers.values() for v in by.values())
        vae, dp = means["VAE"], means["dp-VAE"]
        finding.found.append(
            f"By {title}, the correlation of distances of held-out cells is "
            f"{dp['correlation']:.3f} for the dp-VAE and {vae['correlation']:.3f} for the VAE; "
            f"the upper bound for {1 - delta:.0%} of the pairs is {dp['upper_over_c']:.1f} c "
            f"against {vae['upper_over_c']:.1f} c, and {dp['observed_upper_over_c']:.2f} c "
            f"against {vae['observed_upper_over_c']:.2f} c as measured. At most {worst:.1%} of "
            "the pairs of a section are outside the bound."
        )
    return finding
