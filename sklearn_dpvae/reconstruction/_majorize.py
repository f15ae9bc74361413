r"""Majorization of the stress: the Guttman step with anchors, and the loop around it.

With V the Laplacian of the pair weights, B(Y) that of ``w * delta / d(Y)``, moving points F and
anchors A, the majorizer of the stress at Y is smallest where

.. math:: V_{FF} Y^+ = (B(Y) Y)_F - V_{FA} S_A.

For unit weights it needs no solve: n moving points and m anchors have ``V_FF = (n + m) I - 1 1'``
and, with ``G = (B(Y) Y)_F + 1 sum(S_A)``,

.. math:: Y^+ = \frac{1}{n + m} \Bigl( G + \frac{1}{m} 1 1' G \Bigr),

and ``Y+ = B(Y) Y / n`` without anchors. A penalty ``mu sum_A ||s_i - s_i*||^2`` instead of the
constraint adds ``mu`` to the diagonal of V at A; the Sherman-Morrison formula inverts that.
"""

import logging
import math
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ._pairs import BlockPairs, EdgePairs

logger = logging.getLogger(__name__)

# Float32 passes stop at this relative fall of the stress, which they know to about 1e-6.
_ROUGH_EPS = 1e-4
# Float32 passes are used only if they made at least this many steps.
_FEW_STEPS = 4
_CG_TOL = 1e-8
_CG_MAX_ITER = 500


class Solution(NamedTuple):
    """Where a solver arrived.

    Attributes
    ----------
    points : tensor of shape (n_moving, n_dims)
    history : list of float
        Stress at the start and after each accepted step.
    n_iter : int
        Passes over the pairs after the first, including those whose step was not taken.
    """

    points: Tensor
    history: list[float]
    n_iter: int


class Majorizer:
    """Stress of the moving points, and the step that minimizes its majorizer.

    Parameters
    ----------
    pairs : BlockPairs or EdgePairs
        Moving points first, then fixed ones.
    fixed : tensor of shape (n_fixed, n_dims)
        Positions of the fixed points, which follow the moving ones.
    targets : tensor of shape (n_targets, n_dims), optional
        With `penalty`: where the last `n_targets` moving points are drawn to.
    penalty : float, default=0.0
        Weight of the squared distances to `targets`.
    unit : bool, default=True
        Whether all pairs have weight one, so that the closed form holds.
    """

    def __init__(
        self,
        pairs: BlockPairs | EdgePairs,
        fixed: Tensor,
        *,
        targets: Tensor | None = None,
        penalty: float = 0.0,
        unit: bool = True,
    ) -> None:
        self.pairs, self.fixed = pairs, fixed
        self.targets, self.penalty = targets, penalty
        self.unit = unit
        if not unit:
            self._degree = pairs.degree()[: pairs.n_moving]
            if targets is not None:
                self._degree[-len(targets) :] += penalty
            # A row without pairs stays where it is.
            self._jacobi = torch.where(self._degree > 0, 1.0 / self._degree, 0.0)

    def evaluate(self, points: Tensor) -> tuple[float, Tensor]:
        """Stress (with the penalty term) at the moving points, and B(Y) Y there."""
        stress, product = self.pairs.evaluate(torch.cat([points, self.fixed]))
        if self.targets is not None:
            away = points[-len(self.targets) :] - self.targets
            stress += self.penalty * float(away.square().sum(dtype=torch.float64))
        return stress, product

    def step(self, points: Tensor, product: Tensor) -> Tensor:
        """Guttman transform of the moving points, given B(Y) Y."""
        if not self.unit:
            return self._solve(points, product)
        n_points = len(points) + len(self.fixed)
        if self.targets is not None:
            n_targets, mu = len(self.targets), self.penalty
            inverse = points.new_full((len(points), 1), 1.0 / n_points)
            inverse[-n_targets:] = 1.0 / (n_points + mu)
            scaled = product.clone()
            scaled[-n_targets:] += mu * self.targets
            scaled *= inverse
            # 1 - sum(inverse), in a form without cancellation.
            rest = n_targets * mu / (n_points * (n_points + mu))
            return scaled + inverse * (scaled.sum(0) / rest)
        if len(self.fixed) == 0:
            return product / n_points
        moved = product + self.fixed.sum(0)
        return (moved + moved.sum(0) / len(self.fixed)) / n_points

    def _solve(self, points: Tensor, product: Tensor) -> Tensor:
        """Minimize the majorizer by conjugate gradients from the current points.

        Each of their steps lowers the majorizer, so the stress falls no matter how early they
        stop. Rows that are not connected to an anchor keep their mean.
        """
        solution = points.clone()
        everything = torch.cat([points, self.fixed])
        residual = product + self.pairs.adjacency_product(everything) - self._degree * points
        if self.targets is not None:
            residual[-len(self.targets) :] += self.penalty * self.targets
        preconditioned = self._jacobi * residual
        direction = preconditioned.clone()
        energy = (residual * preconditioned).sum(0)
        goal = _CG_TOL**2 * energy
        for _ in range(min(_CG_MAX_ITER, 10 * len(points))):
            if bool((energy <= goal).all()):
                break
            image = self._degree * direction - self.pairs.adjacency_product(direction)
            curvature = (direction * image).sum(0)
            length = torch.where(curvature > 0, energy / curvature, 0.0)
            solution += length * direction
            residual -= length * image
            preconditioned = self._jacobi * residual
            new_energy = (residual * preconditioned).sum(0)
            ratio = torch.where(energy > 0, new_energy / energy, 0.0)
            direction = preconditioned + ratio * direction
            energy = new_energy
        return solution


def majorize(
    majorizer: Majorizer,
    points: Tensor,
    *,
    max_iter: int = 300,
    eps: float = 1e-5,
    accelerate: bool = True,
    verbose: bool = False,
) -> Solution:
    """Run Guttman steps until the stress stops falling.

    A Guttman step is a gradient step in the metric of V, and so Nesterov's momentum applies to
    it: ``Y <- g + (t - 1) / t+ * (g - g_last)`` with g the step's result. Where that would raise
    the stress, the plain step is taken and the momentum starts again.

    Parameters
    ----------
    majorizer : Majorizer
    points : tensor of shape (n_moving, n_dims)
        Where to start.
    max_iter : int, default=300
        Most passes over the pairs after the first.
    eps : float, default=1e-5
        Stop when the stress falls by no more than this fraction of itself; with `accelerate`,
        twice in a row.
    accelerate : bool, default=True
        Use momentum.
    verbose : bool, default=False
        Whether a bar shows the passes and the stress.

    Returns
    -------
    Solution
        Its history never rises.
    """
    stress, product = majorizer.evaluate(points)
    history, quiet, n_iter = [stress], 0, 0
    floor = _rounding_floor(majorizer, points)
    label = "" if points.dtype == torch.float64 else ", float32"
    momentum = 1.0
    last: Tensor | None = None
    with tqdm(total=max_iter, desc=f"SMACOF{label}", unit="pass", disable=not verbose) as bar:
        while n_iter < max_iter and stress > floor:
            image = majorizer.step(points, product)
            proposal = image
            if accelerate and last is not None:
                longer = (1.0 + math.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
                proposal = image + (momentum - 1.0) / longer * (image - last)
                momentum = longer
            n_iter += 1
            new_stress, new_product = majorizer.evaluate(proposal)
            # `not <=` instead of `>`: NaN is refused, too.
            if not new_stress <= stress and proposal is not image and n_iter < max_iter:
                momentum, proposal = 1.0, image
                n_iter += 1
                new_stress, new_product = majorizer.evaluate(proposal)
            if not new_stress <= stress:
                # A Guttman step raises the stress by rounding only.
                break
            quiet = quiet + 1 if stress - new_stress <= eps * stress else 0
            points, stress, product, last = proposal, new_stress, new_product, image
            history.append(stress)
            bar.set_postfix_str(f"stress {stress:.4g}", refresh=False)
            bar.update(n_iter - bar.n)
            logger.debug("pass %d of at most %d: stress %.6g", n_iter, max_iter, stress)
            if quiet >= (2 if accelerate else 1):
                break
        bar.total = n_iter  # It is done, however many passes were allowed.
    logger.info("%d passes over the pairs, stress %.6g", n_iter, stress)
    return Solution(points, history, n_iter)


def majorize_twice(
    rough: Majorizer,
    majorizer: Majorizer,
    points: Tensor,
    *,
    max_iter: int = 300,
    eps: float = 1e-5,
    verbose: bool = False,
) -> Solution:
    """Run `majorize` on the same problem in float32 first, until progress there is slow.

    A pass in float32 takes half the time. The float64 passes that follow refine the result and
    decide on convergence. Float32 passes whose result is not used do not count.
    """
    if max_iter - 2 < _FEW_STEPS:
        return majorize(majorizer, points, max_iter=max_iter, eps=eps, verbose=verbose)
    found, history, spent = majorize(
        rough,
        points.float(),
        max_iter=max_iter - 2,
        eps=max(eps, _ROUGH_EPS),
        verbose=verbose,
    )
    if len(history) <= _FEW_STEPS:
        # The start is close to the answer: rounding it to float32 would move it away.
        return majorize(majorizer, points, max_iter=max_iter, eps=eps, verbose=verbose)
    points, fine, n_iter = majorize(
        majorizer,
        found.to(points.dtype),
        max_iter=max_iter - spent - 1,
        eps=eps,
        verbose=verbose,
    )
    # The two precisions differ by rounding in the stress of the point where they meet. Leaving
    # out lower values keeps the history falling.
    history = [stress for stress in history[:-1] if stress >= fine[0]]
    return Solution(points, history + fine, spent + 1 + n_iter)


def _rounding_floor(majorizer: Majorizer, points: Tensor) -> float:
    """Stress that rounding alone leaves: steps cannot lower it further."""
    everything = torch.cat([points, majorizer.fixed])
    radius = float(everything.std()) if len(everything) > 1 else 0.0
    return (len(everything) * 10 * torch.finfo(points.dtype).eps * radius) ** 2
