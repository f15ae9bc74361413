"""The terms of the training loss: one formula, one function.

All take and return torch tensors and import nothing of this package. A cell's section is given as
an integer code; pairs of cells are formed within a section only. Leading axes ("...") are those
of an ensemble: every member has a loss of its own.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

DISTANCE_LOSSES = ("absolute", "squared", "huber")

# Residuals beyond this many units (the reference has unit root-mean-square radius) count linearly.
HUBER_DELTA = 0.25

# Pairs looked at in one piece. A core's cache should hold the handful of temporaries of each,
# 512 kB in float32; a GPU wants all its cores busy, on 64 MB.
_PAIRS_PER_TILE = 2**17
_PAIRS_PER_TILE_ON_GPU = 2**24

# Up to so many dimensions, distances are summed up axis by axis.
_FEW_DIMS = 4


def kl_divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL divergence of a diagonal Gaussian from the standard normal prior, for each cell.

        KL( N(mean, diag(exp(log_var))) || N(0, I) )
            = 1/2 sum_k ( mean_k^2 + exp(log_var_k) - log_var_k - 1 )

    Parameters
    ----------
    mean, log_var : Tensor of shape (n_cells, n_components)

    Returns
    -------
    Tensor of shape (n_cells,)
    """
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1.0).sum(dim=-1)


def conditional_divergence(
    z: Tensor, log_var: Tensor, prior_mean: Tensor, prior_log_var: Tensor
) -> Tensor:
    """Divergence of a level of a hierarchy from its prior, for each cell.

        E[ log q(z | below) - log p(z | z_up) ],    z ~ q(z | below), z_up ~ q(z_up | z)

    The first part is an entropy and known; the second is taken at the sample z. The KL divergence
    of the two Gaussians would not do: z_up was drawn given z, so that the expectation
    over z is not free of it.

    Parameters
    ----------
    z : Tensor of shape (..., n_cells, n_components)
        Sample of q.
    log_var : Tensor of shape (..., n_cells, n_components)
        Of q(z | below).
    prior_mean, prior_log_var : Tensor of shape (..., n_cells, n_components)
        Of p(z | z_up).

    Returns
    -------
    Tensor of shape (..., n_cells)
    """
    misfit = (z - prior_mean).square() * (-prior_log_var).exp()
    return 0.5 * (misfit + prior_log_var - log_var - 1.0).sum(dim=-1)


def gaussian_divergence(
    mean: Tensor, log_var: Tensor, prior_mean: Tensor, prior_log_var: Tensor
) -> Tensor:
    """KL divergence of two diagonal Gaussians, for each cell.

        KL( N(mean, exp(log_var)) || N(prior_mean, exp(prior_log_var)) ), summed over components

    Parameters
    ----------
    mean, log_var, prior_mean, prior_log_var : Tensor of shape (..., n_cells, n_components)

    Returns
    -------
    Tensor of shape (..., n_cells)
    """
    misfit = (log_var.exp() + (mean - prior_mean).square()) * (-prior_log_var).exp()
    return 0.5 * (misfit + prior_log_var - log_var - 1.0).sum(dim=-1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances by differences, which stay exact where points coincide.

    The shortcut over a matrix product is faster for many dimensions but loses half the digits
    of a small distance, and those are the ones that the loss divides by.
    """
    if a.shape[-1] > _FEW_DIMS:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square_()
    same = a is b
    a = a.mT.contiguous()
    b = a if same else b.mT.contiguous()
    squares = (a[..., 0, :, None] - b[..., 0, None, :]).square_()
    for axis in range(1, a.shape[-2]):
        difference = a[..., axis, :, None] - b[..., axis, None, :]
        squares.addcmul_(difference, difference)
    return squares


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances; see `squared_distances`."""
    return squared_distances(a, b).sqrt_()


def _residual_loss(residual: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """Loss of each residual and its derivative."""
    if loss == "absolute":
        return residual.abs(), residual.sign()
    if loss == "squared":
        return residual.square(), 2.0 * residual
    if loss == "huber":
        slope = residual.clamp(-HUBER_DELTA, HUBER_DELTA) / HUBER_DELTA
        return slope * (residual - 0.5 * HUBER_DELTA * slope), slope
    raise ValueError(f"distance_loss must be one of {DISTANCE_LOSSES}, got {loss!r}.")


def _tiles(n: int, n_members: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of square tiles that cover the pairs i <= j of n cells.

    Distances are symmetric: a tile off the diagonal stands for its mirror image too.
    """
    n_pairs = _PAIRS_PER_TILE if device.type == "cpu" else _PAIRS_PER_TILE_ON_GPU
    n_tiles = math.ceil(n / max(math.sqrt(n_pairs / max(n_members, 1)), 1.0))
    side = -(-n // max(n_tiles, 1))
    for row in range(0, n, side):
        for column in range(row, n, side):
            yield slice(row, row + side), slice(column, column + side)


def _pair_weights(
    codes: Tensor | None, weights: Tensor | None, rows: slice, columns: slice, dtype: torch.dtype
) -> Tensor | None:
    """M_ij of a tile, zero for pairs across sections; None where all are one.

    The residual of (i, j) is that of (j, i), so that only the symmetric part of M matters.
    """
    pair_weights = None
    if weights is not None:
        mirrored = weights[..., columns, rows].mT
        pair_weights = 0.5 * (weights[..., rows, columns].to(dtype) + mirrored.to(dtype))
    if codes is not None:
        together = (codes[..., rows, None] == codes[..., None, columns]).to(dtype)
        pair_weights = together if pair_weights is None else pair_weights * together
    return pair_weights


class _DistancePreservation(torch.autograd.Function):
    """Value and gradient in one pass over tiles of pairs.

    The value is a scalar, so the gradient is known once the residuals are: it is stored (the size
    of z) in place of the n x n distances that ordinary back-propagation would keep.
    """

    @staticmethod
    def forward(ctx, z, scale, s, codes, weights, loss):
        n, members = z.shape[-2], z.shape[:-2]
        c = scale[..., None, None]
        tiny = torch.finfo(z.dtype).tiny
        value, grad_scale = 0.0, 0.0
        total = n * (n - 1) if codes is None and weights is None else z.new_zeros(members)
        # Distances below rounding have no direction.
        largest = torch.linalg.vector_norm(z, math.inf)
        nothing = (torch.finfo(z.dtype).eps * largest).square().clamp_min(tiny)
        # With a row of ones: products with few rows on the left are several times faster than
        # those with few columns on the right.
        points = torch.cat([z, torch.ones_like(z[..., :1])], dim=-1).mT.contiguous()
        moments = torch.zeros_like(points)
        for rows, columns in _tiles(n, members.numel(), z.device):
            z_rows, s_rows = z[..., rows, :], s[..., rows, :]
            on_diagonal = rows == columns
            squares = squared_distances(z_rows, z_rows if on_diagonal else z[..., columns, :])
            latent = squares.sqrt()
            tissue = distances(s_rows, s_rows if on_diagonal else s[..., columns, :])
            values, slopes = _residual_loss(torch.addcmul(latent, c, tissue, value=-1.0), loss)
            pair_weights = _pair_weights(codes, weights, rows, columns, z.dtype)
            times = 1 if on_diagonal else 2
            if pair_weights is not None:
                values = values * pair_weights
                slopes = slopes * pair_weights
                total += times * pair_weights.sum(dim=(-2, -1))
                if on_diagonal:
                    # A cell is no pair of its own: the diagonal must not count in the mean.
                    total -= pair_weights.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
            value = value + times * values.sum(dim=(-2, -1))
            grad_scale = grad_scale - times * (slopes * tissue).sum(dim=(-2, -1))
            # d||a - b|| / da = (a - b) / ||a - b||; 0 is the subgradient at coincident points.
            pull = latent.mul_(slopes).div_(squares.clamp_min_(nothing))
            moments[..., columns] += points[..., rows] @ pull
            if not on_diagonal:
                moments[..., rows] += points[..., columns] @ pull.mT
        grad_z = 2.0 * (moments[..., -1, :, None] * z - moments[..., :-1, :].mT)
        if isinstance(total, int):
            share = 1.0 / max(total, tiny)
            ctx.save_for_backward(grad_z.mul_(share), grad_scale * share)
            return value * share
        total = total.clamp_min(tiny)
        ctx.save_for_backward(grad_z / total[..., None, None], grad_scale / total)
        return value / total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        grad_z, grad_scale = ctx.saved_tensors
        grad_z = grad_output[..., None, None] * grad_z
        return grad_z, grad_output * grad_scale, None, None, None, None


def distance_preservation(
    z: Tensor,
    s: Tensor,
    scale: Tensor,
    *,
    codes: Tensor | None = None,
    weights: Tensor | None = None,
    loss: str = "absolute",
) -> Tensor:
    """Distance-preserving loss, eq. (3), with eq. (5)'s pair weights.

        L_dp = sum_{i != j} M_ij rho( ||z_i - z_j|| - c ||s_i - s_j|| ) / sum_{i != j} M_ij

    with rho the absolute value (the paper), the square, or Huber's function.

    Parameters
    ----------
    z : Tensor of shape (..., n_cells, n_components)
        Latents.
    s : Tensor of shape (..., n_cells, n_dims)
        Positions.
    scale : Tensor of shape (...)
        c > 0.
    codes : Tensor of shape (..., n_cells), optional
        Section of each cell; pairs across sections are left out.
    weights : Tensor of shape (..., n_cells, n_cells), optional
        M, non-negative.
    loss : {"absolute", "squared", "huber"}, default="absolute"

    Returns
    -------
    Tensor of shape (...)
        0 where no pair is left.
    """
    return _DistancePreservation.apply(z, scale, s, codes, weights, loss)


def pairwise_distance_preservation(
    z: Tensor,
    s: Tensor,
    scale: Tensor,
    pairs: Tensor,
    weights: Tensor,
    *,
    loss: str = "absolute",
) -> Tensor:
    """Eq. (5) over a list of pairs, for masks that leave most pairs out.

    Parameters
    ----------
    z, s, scale, loss
        See `distance_preservation`; `z` and `s` have one leading axis, of members.
    pairs : Tensor of shape (3, n_pairs), dtype int64
        Member, and the two cells.
    weights : Tensor of shape (n_pairs,)
        M_ij > 0.

    Returns
    -------
    Tensor of shape (n_members,)
        0 where a member has no pair.
    """
    member, i, j = pairs
    squares = (z[member, i] - z[member, j]).square().sum(dim=-1)
    # The root has no derivative at coincident points; 0 is a subgradient of the distance.
    apart = squares > 0
    latent = torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)
    tissue = (s[member, i] - s[member, j]).square().sum(dim=-1).sqrt()
    residual = latent - scale[member] * tissue
    # The value as `_residual_loss` gives it is differentiable as it stands.
    values, _ = _residual_loss(residual, loss)
    zeros = z.new_zeros(len(z))
    total = zeros.index_add(0, member, weights)
    return zeros.index_add(0, member, weights * values) / total.clamp_min(
        torch.finfo(z.dtype).tiny
    )


def _squared_nuclear_norm(a: Tensor) -> Tensor:
    """Square of the sum of the singular values of each matrix of a batch.

    Up to rank two there is a closed form, || A ||_*^2 = || A ||_F^2 + 2 sqrt(det(A A')), with
    |det A| for the root where A is square. It needs no decomposition and so no synchronisation
    with a GPU.
    """
    if a.shape[-2] > a.shape[-1]:
        a = a.mT
    tiny = torch.finfo(a.dtype).tiny
    if a.shape[-2] == 1:
        return a.square().sum(dim=(-2, -1))
    if a.shape[-2] == a.shape[-1] == 2:
        a11, a12, a21, a22 = a.flatten(-2).unbind(-1)
        return a.square().sum(dim=(-2, -1)) + 2.0 * (a11 * a22 - a12 * a21).abs()
    if a.shape[-2] == 2:
        gram = a @ a.mT
        det = gram[..., 0, 0] * gram[..., 1, 1] - gram[..., 0, 1] * gram[..., 1, 0]
        trace = gram[..., 0, 0] + gram[..., 1, 1]
        return trace + 2.0 * (det.clamp_min(0.0) + tiny).sqrt()
    return torch.linalg.svdvals(a).sum(dim=-1).square()


def procrustes_misfit(
    z: Tensor, s: Tensor, *, codes: Tensor | None = None, n_sections: int = 1
) -> Tensor:
    """Procrustes disparity between latents and positions: what no similarity explains.

        1 - || Z_c' S_c ||_*^2 / ( || Z_c ||_F^2 || S_c ||_F^2 )

    where Z_c and S_c are centered within the section. It is invariant to every pose and scale of
    either side, so that it needs no common frame, and shrinks cells whose place is uncertain
    towards the mean, which distances alone do not. Sections are averaged by their cells.

    Parameters
    ----------
    z : Tensor of shape (..., n_cells, n_components)
    s : Tensor of shape (..., n_cells, n_dims)
    codes : Tensor of shape (..., n_cells), dtype int64, optional
        Section of each cell, in ``range(n_sections)``.
    n_sections : int, default=1

    Returns
    -------
    Tensor of shape (...)
        In [0, 1].
    """
    tiny = torch.finfo(z.dtype).tiny ** 0.5
    if codes is None or n_sections == 1:
        zc, sc = z - z.mean(dim=-2, keepdim=True), s - s.mean(dim=-2, keepdim=True)
        spread = zc.square().sum(dim=(-2, -1)) * sc.square().sum(dim=(-2, -1))
        explained = _squared_nuclear_norm(sc.mT @ zc) / (spread + tiny)
        # Two points always match.
        return (1.0 - explained) * (z.shape[-2] > 2)
    # One row for each section: 1 for its cells, 0 for the others.
    # Not `one_hot`, which reads the largest code and so waits for the device.
    section = torch.arange(n_sections, device=codes.device)[:, None]
    member = (codes[..., None, :] == section).to(z.dtype)
    count = member.sum(-1)
    means = member / count.clamp_min(1.0)[..., None]
    zc = z - member.mT @ (means @ z)
    sc = s - member.mT @ (means @ s)
    cross = torch.einsum("...gn,...nd,...nk->...gdk", member, zc, sc)
    spread_z = (member * zc.square().sum(-1)[..., None, :]).sum(-1)
    spread_s = (member * sc.square().sum(-1)[..., None, :]).sum(-1)
    explained = _squared_nuclear_norm(cross) / (spread_z * spread_s + tiny)
    # Two points always match; sections that a batch hardly touches teach nothing.
    share = torch.where(count > 2, count, 0.0)
    return (share * (1.0 - explained)).sum(-1) / share.sum(-1).clamp_min(1.0)


def log_scale_init(z: Tensor, s: Tensor) -> Tensor:
    """log(c) that makes the mean distance of latents and of positions equal, shape (...)."""
    latent = distances(z, z).mean(dim=(-2, -1))
    tissue = distances(s, s).mean(dim=(-2, -1))
    # Latents of a net without weights are one point: any c will do.
    return torch.where(latent > 0, latent / tissue, 1.0).log()
