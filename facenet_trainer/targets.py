"""What the network is to say of labelled boxes: the coverage grid and the distances to the box's edges (gridbox §2).

Everything is drawn for the whole batch at once. Only where boxes overlap is there an order: the k-th box of each cell
is drawn in the k-th step, so the number of steps is how many boxes lie over one another, not how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ..configs.facenet.schema import IgnoreConfig, RasterizerConfig

SAMPLES = 4  # a cell is sampled at 4 x 4 points, so that coverage comes in sixteenths


class GridTargets(NamedTuple):
    """Targets of B images and C classes on a grid [h, w], all float32 and 0 where no box is.

    Attributes:
        coverage: [B, C, h, w], share of the cell that the box's ellipse covers: 0, 1/16, ..., 1.
        coverage_norm: [B, C, h, w], the same over the area of the ellipse's rectangle in cells, where that is above 1.
        bbox: [B, 4C, h, w], distances to the edges as `network.decode_boxes` reads them.
    """

    coverage: Tensor
    coverage_norm: Tensor
    bbox: Tensor


class _Ellipses(NamedTuple):
    """Ellipse and dead zone of F boxes, all [F] float64 in cells: centre, semi-axes of each, 1 / rectangle's area."""

    cx: Tensor
    cy: Tensor
    ax: Tensor
    ay: Tensor
    dx: Tensor
    dy: Tensor
    inverse_area: Tensor


class _Pairs(NamedTuple):
    """Each box with each cell that its dead zone may reach: indices of both, [P] int64."""

    box: Tensor
    x: Tensor
    y: Tensor


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps the CPU's part to this thread.

    Its tensors are so small that threads gain nothing, and where other processes are busy (loaders, say) every one of
    some hundred operations would wait for its turn on their cores: 5 ms became 500.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def rasterize(
    boxes: Tensor,
    labels: Tensor,
    configs: Sequence[RasterizerConfig],
    *,
    grid: tuple[int, int],
    stride: int = 16,
    scale: float = 35.0,
    offset: float = 0.5,
) -> GridTargets:
    """Draws the boxes of each class and image, those that end further down the picture over the others (§2.2).

    A box takes a cell that it covers at least as much as the one drawn before; its dead zone clears cells in the same
    way. Boxes with the same bottom edge are drawn in the order in which they are given.

    Args:
        boxes: [B, N, 4] (x1, y1, x2, y2), pixels of the input. Boxes that are empty or not finite draw nothing.
        labels: [B, N] int64 class, -1 where there is no box.
        configs: the shapes of each of the C classes.
        grid: height and width in cells.
        stride: pixels a cell.
        scale, offset: those of the network, see `network.decode_boxes`.
    """
    height, width = grid
    batch, num_classes = len(boxes), len(configs)
    image, ordinal = _real(boxes, labels >= 0)
    order = torch.argsort(boxes[image, ordinal, 3], stable=True)
    image, ordinal = image[order], ordinal[order]
    edges = boxes[image, ordinal].double()  # sums of float32 squares would misplace samples on the ellipse's edge
    label = labels[image, ordinal]
    ellipses = _ellipses(edges / stride, label, configs)
    pairs = _pairs(ellipses, height, width)
    plane = image * num_classes + label
    slot = (plane[pairs.box] * height + pairs.y) * width + pairs.x
    lit = _samples_inside(ellipses, pairs, ellipses.ax, ellipses.ay)
    # Ellipses that fill their boxes, as FaceNet's do, are their own dead zones.
    dead = lit
    if not all(config.cov_radius_x == config.cov_radius_y == 1 for config in configs):
        dead = _samples_inside(ellipses, pairs, ellipses.dx, ellipses.dy)
    winner = _draw(slot, lit, dead, batch * num_classes * height * width)

    cell = (winner >= 0).nonzero().squeeze(1)
    pair = winner[cell]
    box = pairs.box[pair]
    covered = lit[pair].double() / SAMPLES**2
    x, y = pairs.x[pair] * stride + offset, pairs.y[pair] * stride + offset
    values = [covered, covered * ellipses.inverse_area[box], *_distances(x, y, edges[box], scale)]
    flat = torch.zeros(6, len(winner), device=boxes.device)
    flat[:, cell] = torch.stack(values).float()
    planes = flat.view(6, batch, num_classes, height, width)
    return GridTargets(planes[0], planes[1], planes[2:].permute(1, 2, 0, 3, 4).reshape(batch, -1, height, width))


def _real(boxes: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Image and ordinal of the boxes [B, N, 4] that are present [B, N], finite and not empty."""
    present = present & torch.isfinite(boxes).all(dim=2)
    present &= (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    image, ordinal = present.nonzero(as_tuple=True)
    return image, ordinal


def _distances(x: Tensor, y: Tensor, edges: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From points x, y [P] to the left, top, right and bottom edges [P, 4] of their boxes, in units of `scale`."""
    left, top, right, bottom = edges.unbind(dim=1)
    return (x - left) / scale, (y - top) / scale, (right - x) / scale, (bottom - y) / scale


def _ellipses(boxes: Tensor, label: Tensor, configs: Sequence[RasterizerConfig]) -> _Ellipses:
    """Of boxes [F, 4] in cells, of the classes label [F] (§2.1)."""

    def own(name: str) -> Tensor:
        return boxes.new_tensor([getattr(config, name) for config in configs])[label]

    x1, y1, x2, y2 = boxes.unbind(dim=1)
    center_x, center_y = own("cov_center_x"), own("cov_center_y")
    cx = x1 + center_x * (x2 - x1)
    cy = y1 + center_y * (y2 - y1)
    half_x = torch.where(center_x < 0.5, cx - x1, x2 - cx)
    half_y = torch.where(center_y < 0.5, cy - y1, y2 - cy)
    ax = (own("cov_radius_x") * half_x).clamp(min=0.1)
    ay = (own("cov_radius_y") * half_y).clamp(min=0.1)
    smallest, reach = own("bbox_min_radius"), own("deadzone_radius")
    ay = torch.where(ax < smallest, ay * (smallest / ax), ay)  # both grow, so that the shape stays
    ax = torch.maximum(ax, smallest)
    ax = torch.where(ay < smallest, ax * (smallest / ay), ax)
    ay = torch.maximum(ay, smallest)
    dx = torch.maximum((1 - reach) * ax + reach * half_x, ax)
    dy = torch.maximum((1 - reach) * ay + reach * half_y, ay)
    return _Ellipses(cx, cy, ax, ay, dx, dy, 1 / (4 * ax * ay).clamp(min=1))


def _pairs(ellipses: _Ellipses, height: int, width: int) -> _Pairs:
    """The cells of the rectangle around each dead zone, box after box."""
    left = (ellipses.cx - ellipses.dx).floor().clamp(0, width).long()
    right = (ellipses.cx + ellipses.dx).ceil().clamp(0, width).long()
    top = (ellipses.cy - ellipses.dy).floor().clamp(0, height).long()
    bottom = (ellipses.cy + ellipses.dy).ceil().clamp(0, height).long()
    columns = right - left
    counts = columns * (bottom - top)
    box = torch.repeat_interleave(counts)
    index = torch.arange(len(box), device=box.device) - (counts.cumsum(0) - counts)[box]
    columns = columns[box]
    return _Pairs(box, left[box] + index % columns, top[box] + index // columns)


def _samples_inside(ellipses: _Ellipses, pairs: _Pairs, rx: Tensor, ry: Tensor) -> Tensor:
    """[P] int8: how many of the cell's samples lie inside the ellipse of semi-axes rx, ry [F] (§2.2)."""
    offsets = (torch.arange(SAMPLES, device=rx.device, dtype=rx.dtype) + 0.5) / SAMPLES
    cx, cy, rx, ry = torch.stack([ellipses.cx, ellipses.cy, rx, ry])[:, pairs.box, None]
    # Multiplied out, since a quotient rounds: samples on the edge must stay outside.
    x = ((pairs.x[:, None] + offsets - cx) * ry).square()
    y = ((pairs.y[:, None] + offsets - cy) * rx).square()
    edge = (rx * ry).square()
    rows = [(x + row < edge).sum(dim=1, dtype=torch.int8) for row in y.split(1, dim=1)]
    return torch.stack(rows).sum(dim=0, dtype=torch.int8)


def _draw(slot: Tensor, lit: Tensor, dead: Tensor, slots: int) -> Tensor:
    """The pair that each slot, a cell of one class and image, ends up with.

    Args:
        slot: [P], the slot of each pair; pairs of one slot stand in the order in which they are drawn.
        lit, dead: [P] int8 samples inside the ellipse and inside the dead zone, lit <= dead.

    Returns:
        [slots] index of a pair, -1 for none.
    """
    winner = torch.full((slots,), -1, dtype=torch.int64, device=slot.device)
    most = torch.zeros(slots, dtype=torch.int8, device=slot.device)
    pairs = (dead > 0).nonzero().squeeze(1)
    pairs = pairs[torch.argsort(slot[pairs], stable=True)]
    if not len(pairs):
        return winner
    _, counts = slot[pairs].unique_consecutive(return_counts=True)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    rank = torch.arange(len(pairs), device=slot.device) - starts  # the how manieth of its slot
    pairs = pairs[torch.argsort(rank, stable=True)]
    for step in pairs.split(torch.bincount(rank).tolist()):
        step = step[dead[step] >= most[slot[step]]]  # the dead zone holds the ellipse: it decides for both
        most[slot[step]] = lit[step]
        winner[slot[step]] = torch.where(lit[step] > 0, step, -1)
    return winner


@_one_thread()
def loss_mask(ignore: Tensor, coverage: Tensor, stride: int, config: IgnoreConfig) -> Tensor:
    """Weights [B, C, h, w] of the loss: `config.mask_multiplier` on every cell that an ignore box touches, else 1.

    Args:
        ignore: [B, M, 4] boxes in pixels of the input, NaN where there is none.
        coverage: [B, C, h, w] targets; with `config.preserve_ground_truth` covered cells keep their weight 1 (§2.3).
    """
    batch, _, height, width = coverage.shape
    image, ordinal = _real(ignore, torch.ones_like(ignore[..., 0], dtype=torch.bool))
    x1, y1, x2, y2 = (ignore[image, ordinal].double() / stride).unbind(dim=1)
    left, right = (edge.clamp(0, width).long() for edge in (x1.floor(), x2.ceil()))
    top, bottom = (edge.clamp(0, height).long() for edge in (y1.floor(), y2.ceil()))
    # Corners whose sums from the top left count the boxes over each cell.
    corners = torch.zeros(batch, height + 1, width + 1, dtype=torch.int32, device=ignore.device)
    one = torch.ones_like(image, dtype=torch.int32)
    for y, x, sign in ((top, left, one), (top, right, -one), (bottom, left, -one), (bottom, right, one)):
        corners.index_put_((image, y, x), sign, accumulate=True)
    ignored = corners.cumsum(1).cumsum(2)[:, None, :height, :width] > 0
    if config.preserve_ground_truth:
        ignored = ignored & (coverage == 0)
    return torch.where(ignored, config.mask_multiplier, 1.0).expand_as(coverage)
