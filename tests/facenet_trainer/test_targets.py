"""The rasteriser: golden vectors (gridbox §2.4), the drawing order, and agreement with the rules one by one."""

import math

import numpy as np
import pytest
import torch

from facetrain.benchmarks.rasteriser import plain_rasterize, random_boxes
from facetrain.configs.facenet.schema import IgnoreConfig, RasterizerConfig
from facetrain.facenet_trainer.network import decode_boxes
from facetrain.facenet_trainer.targets import loss_mask, rasterize

NAN = math.nan


def draw(boxes, grid=(6, 6), labels=None, num_classes=1, **config):
    """Targets of one image."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)
    labels = torch.tensor([[0] * boxes.shape[1] if labels is None else labels])
    return rasterize(boxes, labels, [RasterizerConfig(**config)] * num_classes, grid=grid)


def rows(grid):
    return [[round(float(value), 4) for value in row] for row in grid]


def test_golden_box():
    targets = draw([20, 12, 76, 84])
    assert rows(targets.coverage[0, 0]) == [
        [0, 0, 0.125, 0.125, 0, 0],
        [0, 0.3125, 1, 1, 0.3125, 0],
        [0, 0.6875, 1, 1, 0.6875, 0],
        [0, 0.6875, 1, 1, 0.6875, 0],
        [0, 0.3125, 1, 1, 0.3125, 0],
        [0, 0, 0.125, 0.125, 0, 0],
    ]
    torch.testing.assert_close(targets.coverage_norm, 0.0634921 * targets.coverage)
    torch.testing.assert_close(
        targets.bbox[0, :, 2, 2], torch.tensor([0.3571, 0.5857, 1.2429, 1.4714]), atol=5e-5, rtol=0
    )


def test_golden_tiny_box():
    targets = draw([100, 100, 110, 112], grid=(9, 9))
    assert rows(targets.coverage[0, 0, 5:8, 5:8]) == [[0.0625, 0.5, 0.0625], [0.4375, 1, 0.5], [0.125, 0.75, 0.1875]]
    assert targets.coverage.sum() == targets.coverage[0, 0, 5:8, 5:8].sum()
    assert float(targets.coverage_norm[0, 0, 6, 6]) == pytest.approx(0.208333, abs=1e-6)
    torch.testing.assert_close(targets.bbox[0, :, 6, 6], torch.tensor([-0.1, -0.1, 0.3857, 0.4429]), atol=5e-5, rtol=0)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_golden_overlap(order):
    boxes = [[[0, 0, 64, 64], [32, 16, 96, 80]][i] for i in order]
    targets = draw(boxes, grid=(5, 7))
    assert rows(targets.coverage[0, 0])[1] == [0.9375, 1, 1, 0.9375, 0.9375, 0.375, 0]
    assert rows(targets.bbox[0, 0])[1] == [0.0143, 0.4714, 0.9286, 0.4714, 0.9286, 1.3857, 0]
    narrow = draw(boxes, grid=(5, 7), cov_radius_x=0.4, cov_radius_y=0.4)
    assert rows(narrow.coverage[0, 0])[1:3] == [
        [0, 0.8125, 0.8125, 0, 0, 0, 0],
        [0, 0.8125, 0.8125, 0.8125, 0.8125, 0, 0],
    ]


def test_boxes_that_end_at_the_same_height_are_drawn_as_they_come():
    a, b = [0, 16, 64, 80], [0, 0, 64, 80]
    centre = [
        float(draw(boxes, grid=(5, 4)).bbox[0, 1, 2, 1]) for boxes in ([a, b], [b, a], [[0, 0, 9, 9], a, b], [b, a, b])
    ]
    top_of_a, top_of_b = (32.5 - 16) / 35, 32.5 / 35
    assert centre == pytest.approx([top_of_b, top_of_a, top_of_b, top_of_b])


def test_a_later_box_clears_what_its_dead_zone_covers():
    boxes, radii = [[0, 0, 64, 64], [0, 0, 96, 112]], {"cov_radius_x": 0.35, "cov_radius_y": 0.35}
    kept = draw(boxes, deadzone_radius=0.0, **radii)
    assert kept.coverage[0, 0, 1, 1] == 0.8125
    assert kept.bbox[0, :, 1, 1].any()
    cleared = draw(boxes, deadzone_radius=1.0, **radii)
    assert cleared.coverage[0, 0, 1, 1] == cleared.coverage_norm[0, 0, 1, 1] == 0
    assert not cleared.bbox[0, :, 1, 1].any()


def by_the_book(boxes, labels, config, grid, num_classes):
    """§2.1 and §2.2 cell by cell: coverage and the index of the box that each cell belongs to."""
    coverage = np.zeros((num_classes, *grid))
    owner = np.full((num_classes, *grid), -1)
    order = sorted(range(len(boxes)), key=lambda i: boxes[i][3])
    for label, y, x in np.ndindex(num_classes, *grid):
        m = 0
        for i in order:
            if labels[i] != label:
                continue
            x1, y1, x2, y2 = (float(edge) / 16 for edge in boxes[i])
            cx, cy = x1 + config.cov_center_x * (x2 - x1), y1 + config.cov_center_y * (y2 - y1)
            sx = cx - x1 if config.cov_center_x < 0.5 else x2 - cx
            sy = cy - y1 if config.cov_center_y < 0.5 else y2 - cy
            ax, ay = max(config.cov_radius_x * sx, 0.1), max(config.cov_radius_y * sy, 0.1)
            if ax < config.bbox_min_radius:
                ax, ay = config.bbox_min_radius, ay * config.bbox_min_radius / ax
            if ay < config.bbox_min_radius:
                ax, ay = ax * config.bbox_min_radius / ay, config.bbox_min_radius
            dz = config.deadzone_radius
            dx, dy = max((1 - dz) * ax + dz * sx, ax), max((1 - dz) * ay + dz * sy, ay)
            points = [(x + (j + 0.5) / 4 - cx, y + (k + 0.5) / 4 - cy) for j in range(4) for k in range(4)]
            c = sum((px / ax) ** 2 + (py / ay) ** 2 < 1 for px, py in points)
            a = sum((px / dx) ** 2 + (py / dy) ** 2 < 1 for px, py in points)
            if a > 0 and a >= m:
                m, coverage[label, y, x], owner[label, y, x] = 0, 0, -1
            if c > 0 and c >= m:
                m, coverage[label, y, x], owner[label, y, x] = c, c / 16, i
    return coverage, owner


@pytest.mark.parametrize(
    "config",
    [
        RasterizerConfig(),
        RasterizerConfig(cov_radius_x=0.4, cov_radius_y=0.4),
        RasterizerConfig(cov_radius_x=0.7, cov_radius_y=1.0, deadzone_radius=1.0, bbox_min_radius=0.3),
        RasterizerConfig(cov_center_x=0.3, cov_center_y=0.8, cov_radius_x=0.5, cov_radius_y=0.6, deadzone_radius=0.2),
    ],
)
def test_every_rule_on_crowds_of_two_classes(config):
    generator = torch.Generator().manual_seed(3)
    size = 8 * 10 ** torch.rand(3, 25, 2, generator=generator)
    corner = torch.rand(3, 25, 2, generator=generator) * 120 - 30
    boxes = torch.cat([corner, corner + size], dim=2)
    labels = torch.randint(-1, 2, (3, 25), generator=generator)
    targets = rasterize(boxes, labels, [config, config], grid=(6, 7))
    for image in range(3):
        coverage, owner = by_the_book(boxes[image].tolist(), labels[image].tolist(), config, (6, 7), 2)
        np.testing.assert_allclose(targets.coverage[image].numpy(), coverage)
        decoded = decode_boxes(targets.bbox[image, None], 16, 35.0, 0.5)[0].reshape(2, 6, 7, 4)
        lit = torch.tensor(owner) >= 0
        torch.testing.assert_close(decoded[lit], boxes[image][torch.tensor(owner)[lit]], atol=1e-4, rtol=0)


def test_a_class_can_have_its_own_shape():
    configs = [RasterizerConfig(), RasterizerConfig(cov_radius_x=0.4, cov_radius_y=0.5, cov_center_y=0.7)]
    boxes, labels = random_boxes(2, 30), torch.arange(60).reshape(2, 30) % 2
    together = rasterize(boxes, labels, configs, grid=(26, 46))
    for label, config in enumerate(configs):
        alone = rasterize(boxes, torch.where(labels == label, label, -1), [config] * 2, grid=(26, 46))
        for ours, theirs in zip(together, alone, strict=True):
            part = slice(label * ours.shape[1] // 2, (label + 1) * ours.shape[1] // 2)
            assert torch.equal(ours[:, part], theirs[:, part])


@pytest.mark.parametrize("radius", [1.0, 0.5])
def test_agrees_with_the_plain_loop_at_full_size(radius):
    config = RasterizerConfig(cov_radius_x=radius, cov_radius_y=radius)
    boxes, labels = random_boxes(4, 60), torch.arange(240).reshape(4, 60) % 3 - 1
    targets = rasterize(boxes, labels, [config, config], grid=(26, 46))
    reference = plain_rasterize(boxes.numpy(), labels.numpy(), config, (26, 46), 2)
    for ours, theirs in zip(targets, reference, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)


def test_decoding_gives_the_box_back_at_every_covered_cell():
    boxes = random_boxes(8, 1)
    targets = rasterize(boxes, torch.zeros(8, 1, dtype=torch.int64), [RasterizerConfig()], grid=(26, 46))
    decoded = decode_boxes(targets.bbox, 16, 35.0, 0.5)
    lit = targets.coverage.flatten(2) > 0
    assert lit.any(dim=2).all()
    error = (decoded - boxes[:, :, None]).abs().amax(dim=3)[lit]
    assert error.max() < 1e-4


def test_scale_and_offset():
    box = torch.tensor([[[13.0, 21.0, 71.0, 90.0]]])
    targets = rasterize(
        box, torch.zeros(1, 1, dtype=torch.int64), [RasterizerConfig()], grid=(3, 3),
        stride=32, scale=12.0, offset=16.0,
    )  # fmt: skip
    decoded = decode_boxes(targets.bbox, 32, 12.0, 16.0)[0, 0]
    lit = targets.coverage.flatten() > 0
    torch.testing.assert_close(decoded[lit], box[0].expand(int(lit.sum()), 4), atol=1e-4, rtol=0)


def test_boxes_that_cannot_be_drawn_leave_no_trace():
    bad = [[NAN, 0, 9, 9], [9, 9, 9, 30], [40, 40, 10, 10], [0, 0, math.inf, 9], [-90, -90, -40, -40], [900, 0, 999, 9]]
    targets = draw([*bad, [20, 12, 76, 84]], labels=[0] * 7)
    alone = draw([20, 12, 76, 84])
    for with_bad, without in zip(targets, alone, strict=True):
        assert torch.equal(with_bad, without)
    nothing = draw([[20, 12, 76, 84]], labels=[-1])
    assert not any(part.any() for part in nothing)


def test_no_boxes_at_all():
    targets = rasterize(
        torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), [RasterizerConfig()] * 2, grid=(3, 4)
    )
    assert [tuple(part.shape) for part in targets] == [(2, 2, 3, 4), (2, 2, 3, 4), (2, 8, 3, 4)]
    assert not any(part.any() for part in targets)


def test_boxes_over_the_border_and_far_larger_than_the_picture():
    targets = draw([-1e6, -1e6, 1e6 + 96, 1e6 + 96])
    assert (targets.coverage == 1).all()
    corner = draw([-32, -32, 32, 32])
    assert corner.coverage[0, 0, 0, 0] == 1
    assert corner.bbox[0, 0, 0, 0] == pytest.approx(32.5 / 35)


def test_loss_mask_touches_cells_and_spares_faces():
    coverage = torch.zeros(2, 2, 4, 5)
    coverage[0, 1, 1, 1] = 0.0625
    ignore = torch.tensor(
        [
            [[10.0, 17.0, 33.0, 31.0], [60.0, 60.0, 64.0, 64.0], [NAN] * 4],
            [[-50.0, 48.0, 1.0, 999.0], [30.0, 3.0, 30.0, 9.0], [5.0, 5.0, NAN, 9.0]],
        ]
    )
    mask = loss_mask(ignore, coverage, 16, IgnoreConfig(mask_multiplier=0.25))
    expected = torch.ones(2, 2, 4, 5)
    expected[0, :, 1, 0:3] = 0.25
    expected[0, :, 3, 3] = 0.25
    expected[1, :, 3, 0] = 0.25
    expected[0, 1, 1, 1] = 1  # that class has a face there
    assert torch.equal(mask, expected)
    expected[0, 1, 1, 1] = 0.25
    strict = loss_mask(ignore, coverage, 16, IgnoreConfig(mask_multiplier=0.25, preserve_ground_truth=False))
    assert torch.equal(strict, expected)


def test_overlapping_ignore_boxes_count_once_and_none_leaves_all():
    coverage = torch.zeros(1, 1, 3, 3)
    twice = loss_mask(torch.tensor([[[0.0, 0, 20, 20], [0, 0, 20, 20]]]), coverage, 16, IgnoreConfig())
    assert twice[0, 0].tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 1]]
    assert torch.equal(loss_mask(torch.zeros(1, 0, 4), coverage, 16, IgnoreConfig()), torch.ones(1, 1, 3, 3))


def test_the_number_of_threads_is_given_back():
    before = torch.get_num_threads()
    draw([20, 12, 76, 84])
    assert torch.get_num_threads() == before
