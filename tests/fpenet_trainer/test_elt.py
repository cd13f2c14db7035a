"""The ELT transform: picture and points move together, one transform a face, whatever the batch."""

import math

import pytest
import torch

from facetrain.configs.fpenet.schema import EltConfig
from facetrain.fpenet_trainer.elt import random_similarity, sample_generator, transform_images, transform_points

SIZE = 80


def similarities(config: EltConfig, indices, seed: int = 3, epoch: int = 1) -> torch.Tensor:
    return random_similarity(config, SIZE, [sample_generator(seed, epoch, i) for i in indices])


def blobs(points: torch.Tensor, sigma: float = 2.0) -> torch.Tensor:
    """[N, 1, S, S], a soft dot at each of the points [N, 2]."""
    grid = torch.arange(float(SIZE))
    x = torch.exp(-0.5 * ((grid - points[:, :1]) / sigma) ** 2)
    y = torch.exp(-0.5 * ((grid - points[:, 1:]) / sigma) ** 2)
    return 200 * (y[:, :, None] * x[:, None, :])[:, None]


def centroid(images: torch.Tensor) -> torch.Tensor:
    grid = torch.arange(float(SIZE))
    mass = images[:, 0] / images[:, 0].sum(dim=(1, 2), keepdim=True)
    return torch.stack([(mass.sum(dim=1) * grid).sum(dim=1), (mass.sum(dim=2) * grid).sum(dim=1)], dim=1)


@pytest.mark.parametrize("place", [(39.5, 39.5), (30.0, 45.5), (48.2, 31.7)])
def test_picture_and_points_agree(place):
    n = 16
    points = torch.tensor(place).expand(n, 2)
    similarity = similarities(EltConfig(), range(n))
    moved = transform_points(points[:, None], similarity)[:, 0]
    assert (moved - points).norm(dim=1).max() > 5  # something did move
    found = centroid(transform_images(blobs(points), similarity))
    assert (found - moved).abs().max() < 0.05


def test_brightness_stays_and_outside_is_black():
    similarity = similarities(EltConfig(zoom_min=0.5, zoom_max=0.5, rotate_rad_max=0.0, translate_max=0.0), [0])
    out = transform_images(torch.full((1, 1, SIZE, SIZE), 255.0), similarity)
    assert out[0, 0, 39, 39].item() == pytest.approx(255)
    assert out[0, 0, 5, 5].item() == 0
    assert out.sum().item() == pytest.approx(255 * 40 * 40, rel=0.03)


def test_ranges_are_used_and_kept():
    config = EltConfig(rotate_rad_max=0.4, translate_max=10.0, zoom_min=0.8, zoom_max=1.3)
    similarity = similarities(config, range(400))
    linear = similarity[:, :, :2]
    zoom = torch.linalg.det(linear).sqrt()
    angle = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
    centre = torch.full((400, 1, 2), (SIZE - 1) / 2)
    shift = (transform_points(centre, similarity) - centre)[:, 0]
    assert 0.8 <= zoom.min() < 0.82 and 1.28 < zoom.max() <= 1.3 + 1e-5
    assert -0.4 - 1e-5 <= angle.min() < -0.38 and 0.38 < angle.max() <= 0.4 + 1e-5
    for axis in (0, 1):
        assert -10.01 <= shift[:, axis].min() < -9.5 and 9.5 < shift[:, axis].max() <= 10.01
    torch.testing.assert_close(linear[:, 0, 0], linear[:, 1, 1])  # a similarity: no shear, no mirror
    torch.testing.assert_close(linear[:, 0, 1], -linear[:, 1, 0])


def test_a_positive_quarter_turn_takes_right_to_down():
    config = EltConfig(rotate_rad_max=0.0, translate_max=0.0, zoom_min=1.0, zoom_max=1.0)
    similarity = similarities(config, [0])
    c = (SIZE - 1) / 2
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    similarity[0] = torch.cat([quarter, (torch.full((2,), c) - quarter @ torch.full((2,), c))[:, None]], dim=1)
    images = torch.rand(1, 1, SIZE, SIZE) * 255
    torch.testing.assert_close(transform_images(images, similarity), images.rot90(-1, (2, 3)), atol=0.05, rtol=0)
    torch.testing.assert_close(
        transform_points(torch.tensor([[[c + 10, c]]]), similarity), torch.tensor([[[c, c + 10]]])
    )


def test_each_face_has_its_own_transform():
    similarity = similarities(EltConfig(), range(20))
    assert len({tuple(s.flatten().tolist()) for s in similarity}) == 20


def test_transform_is_that_of_the_face_not_of_the_batch():
    alone = similarities(EltConfig(), [7])[0]
    assert torch.equal(similarities(EltConfig(), [2, 7, 11])[1], alone)
    assert not torch.equal(similarities(EltConfig(), [7], epoch=2)[0], alone)
    assert not torch.equal(similarities(EltConfig(), [7], seed=4)[0], alone)


def test_zero_ranges_change_nothing():
    config = EltConfig(rotate_rad_max=0.0, translate_max=0.0, zoom_min=1.0, zoom_max=1.0)
    similarity = similarities(config, range(3))
    images = torch.rand(3, 1, SIZE, SIZE) * 255
    points = torch.rand(3, 68, 2) * 79
    torch.testing.assert_close(transform_points(points, similarity), points, atol=1e-4, rtol=0)
    torch.testing.assert_close(transform_images(images, similarity), images, atol=0.05, rtol=0)


def test_gradient_reaches_points_through_the_transform():
    points = torch.rand(2, 5, 2).mul(79).requires_grad_()
    similarity = similarities(EltConfig(), range(2))
    transform_points(points, similarity).sum().backward()
    expected = similarity[:, :, :2].sum(dim=1)[:, None].expand(2, 5, 2)
    torch.testing.assert_close(points.grad, expected)
    assert math.isfinite(points.grad.sum())
