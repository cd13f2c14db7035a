"""The losses against their formulas, on hand-made numbers, and where they could go wrong."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facetrain.configs.facenet.schema import LossConfig, ModelConfig, RasterizerConfig
from facetrain.errors import ConfigError
from facetrain.facenet_trainer.losses import (
    GridLoss,
    class_weights,
    focal,
    overlap_loss,
    weighted_bce,
)
from facetrain.facenet_trainer.network import GridOutput, build_model, decode_boxes
from facetrain.facenet_trainer.targets import GridTargets, rasterize
from facetrain.training.regularizer import regularization

pytestmark = pytest.mark.usefixtures("one_thread")


def targets(num_classes: int = 1, images: int = 2) -> GridTargets:
    """A face of 56 by 72 px in every image and class."""
    boxes = torch.tensor([[[20.0, 12, 76, 84]] * num_classes] * images)
    labels = torch.arange(num_classes).expand(images, -1)
    return rasterize(boxes, labels, [RasterizerConfig()] * num_classes, grid=(6, 6))


def output(truth: GridTargets, seed: int = 0) -> GridOutput:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(truth.coverage.shape, generator=generator)
    bbox = truth.bbox + 0.3 * torch.randn(truth.bbox.shape, generator=generator)
    return GridOutput(bbox.requires_grad_(), logits.requires_grad_())


def costs(config: LossConfig, out: GridOutput, truth: GridTargets, mask=None, weight=None) -> torch.Tensor:
    loss = GridLoss(config, [str(i) for i in range(truth.coverage.shape[1])], 35.0)
    mask = torch.ones_like(truth.coverage) if mask is None else mask
    return loss.costs(out, truth, mask, torch.ones(len(mask)) if weight is None else weight)


def test_bce_by_hand():
    logits = torch.logit(torch.tensor([0.9, 0.9, 0.2, 0.2], dtype=torch.float64))
    coverage = torch.tensor([1.0, 0.5, 0.5625, 0.0], dtype=torch.float64)
    expected = [
        -0.05 * math.log(0.9 + 1e-5),
        -0.95 * (0.5 * math.log(0.9 + 1e-5) + 0.5 * math.log(0.1 + 1e-5)),  # half is background still
        -0.05 * (0.5625 * math.log(0.2 + 1e-5) + 0.4375 * math.log(0.8 + 1e-5)),
        -0.95 * math.log(0.8 + 1e-5),
    ]
    assert weighted_bce(logits, coverage, 0.05).tolist() == pytest.approx(expected, rel=1e-6)


def test_bce_is_bounded_by_its_small_number():
    wrong = weighted_bce(torch.tensor([-200.0, 200.0]), torch.tensor([1.0, 0.0]), 0.5)
    assert wrong.tolist() == pytest.approx([-0.5 * math.log(1e-5)] * 2, rel=1e-3)


def test_reference_costs_are_means_over_all_cells_and_pictures():
    truth = targets()
    out = output(truth)
    coverage, boxes = costs(LossConfig(), out, truth)[0].tolist()
    p, t = torch.sigmoid(out.coverage_logits.detach()), truth.coverage
    entropy = -(t * torch.log(p + 1e-5) + (1 - t) * torch.log(1 - p + 1e-5))
    assert coverage == pytest.approx(float((torch.where(t > 0.5, 0.05, 0.95) * entropy).sum() / (2 * 36)), rel=1e-5)
    distance = (truth.coverage_norm * (out.bbox.detach() - truth.bbox).abs()).sum()
    assert boxes == pytest.approx(float(distance / (2 * 4 * 36)), rel=1e-5)


def test_a_class_can_have_its_own_foreground_weight():
    truth = targets(num_classes=2)
    out = GridOutput(torch.zeros_like(truth.bbox), torch.zeros_like(truth.coverage))
    config = LossConfig(per_class={"1": {"coverage_foreground_weight": 0.5}})
    face, mask = costs(config, out, truth)[:, 0].tolist()
    covered = (truth.coverage > 0.5).double().mean(dim=(0, 2, 3)).tolist()  # at p = 1/2 a cell's entropy is ln 2
    assert face == pytest.approx(math.log(2) * (0.05 * covered[0] + 0.95 * (1 - covered[0])), rel=1e-3)
    assert mask == pytest.approx(math.log(2) / 2, rel=1e-3)


def test_a_face_weighs_the_same_at_any_size():
    sizes = []
    for side in (40.0, 160.0):
        boxes = torch.tensor([[[100.0, 100, 100 + side, 100 + side]]])
        truth = rasterize(boxes, torch.zeros(1, 1, dtype=torch.int64), [RasterizerConfig()], grid=(20, 20))
        out = GridOutput(truth.bbox + 0.1, torch.zeros_like(truth.coverage))
        sizes.append(float(costs(LossConfig(), out, truth)[0, 1]))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    assert sizes[0] == pytest.approx(0.1 * math.pi / 4 / 400, rel=0.1)


def test_focal_by_hand_and_least_at_the_truth():
    hard = focal(torch.logit(torch.tensor([0.9, 0.9])), torch.tensor([1.0, 0.0]), 2.0, 0.25)
    assert hard.tolist() == pytest.approx([0.25 * 0.1**2 * -math.log(0.9), 0.75 * 0.9**2 * -math.log(0.1)], rel=1e-4)
    for t in (0.0625, 0.5, 0.9375):
        logits = torch.linspace(-6, 6, 1201)
        losses = focal(logits, torch.full_like(logits, t), 2.0, 0.25)
        assert torch.sigmoid(logits[losses.argmin()]) == pytest.approx(t, abs=0.01)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_finite_slopes_everywhere(gamma):
    coverage = torch.tensor([0.0, 0.5, 1.0]).repeat_interleave(5)
    logits = torch.tensor([-500.0, -3, 0, 3, 500]).repeat(3).requires_grad_()  # sigmoid(0) meets 0.5 exactly
    loss = focal(logits, coverage, gamma, 0.25)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()


def test_focal_is_divided_by_the_covered_cells_that_count():
    truth = targets()
    out = output(truth)
    config = LossConfig(coverage="focal", bbox="giou")
    whole = costs(config, out, truth).detach()
    cells = focal(out.coverage_logits.detach(), truth.coverage, 2.0, 0.25)
    assert float(whole[0, 0]) == pytest.approx(float(cells.sum() / truth.coverage.sum()), rel=1e-5)
    mask = torch.ones_like(truth.coverage)
    mask[1] = 0
    first = GridOutput(out.bbox[:1], out.coverage_logits[:1])
    alone = costs(config, first, GridTargets(*(part[:1] for part in truth)))
    torch.testing.assert_close(costs(config, out, truth, mask), alone)


def test_focal_without_a_face_is_finite_and_teaches_the_background():
    truth = GridTargets(torch.zeros(2, 1, 6, 6), torch.zeros(2, 1, 6, 6), torch.zeros(2, 4, 6, 6))
    out = output(truth)
    cost = costs(LossConfig(coverage="focal", bbox="giou"), out, truth)
    cost.sum().backward()
    assert cost[0, 0] > 0 and cost[0, 1] == 0
    assert (out.coverage_logits.grad > 0).all()
    assert not out.bbox.grad.any()


def test_overlap_is_the_generalised_iou_of_the_decoded_boxes():
    from torchvision.ops import generalized_box_iou

    truth = targets()
    out = output(truth)
    predicted, true = (decode_boxes(bbox, 16, 35.0, 0.5)[:, 0].flatten(0, 1) for bbox in (out.bbox, truth.bbox))
    lit = (truth.coverage > 0).flatten()
    expected = 1 - generalized_box_iou(predicted[lit], true[lit]).diag()
    error = (out.bbox - truth.bbox).abs().mean(dim=1).flatten()[lit]
    expected = expected + 0.5 * error / ((56 + 72) / 2 / 35)
    loss = overlap_loss(out.bbox[:, None], truth.bbox[:, None], 0.5 / 35).flatten()[lit]
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)


def test_overlap_of_a_right_box_is_nothing_even_where_the_cell_lies_outside_it():
    tiny = rasterize(
        torch.tensor([[[100.0, 100, 110, 112]]]),
        torch.zeros(1, 1, dtype=torch.int64),
        [RasterizerConfig()],
        grid=(9, 9),
    )
    assert tiny.bbox[0, 0, 6, 6] < 0  # the cell's corner lies left of the face
    loss = overlap_loss(tiny.bbox[:, None], tiny.bbox[:, None], 0.5 / 35)
    assert loss[tiny.coverage > 0].abs().max() < 1e-5


@pytest.mark.parametrize("start", [0.0, -2.0, -0.5, 1e4])
def test_boxes_of_no_width_or_inside_out_give_finite_slopes(start):
    truth = targets()
    bbox = torch.full_like(truth.bbox, start).requires_grad_()
    cost = costs(LossConfig(bbox="giou"), GridOutput(bbox, torch.zeros_like(truth.coverage)), truth)[0, 1]
    cost.backward()
    assert torch.isfinite(cost) and torch.isfinite(bbox.grad).all()
    left, top, right, bottom = bbox.grad.sum(dim=(0, 2, 3)).tolist()
    if start <= 0:  # wider and higher costs less
        assert left + right < 0 and top + bottom < 0
    else:
        assert left + right > 0 and top + bottom > 0


def test_overlap_loss_opens_boxes_from_nothing():
    truth = targets()
    bbox = (0.05 * torch.randn(truth.bbox.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    optimizer = torch.optim.Adam([bbox], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        cost = costs(LossConfig(bbox="giou"), GridOutput(bbox, torch.zeros_like(truth.coverage)), truth)[0, 1]
        cost.backward()
        optimizer.step()
    assert cost < 0.05


@pytest.mark.parametrize("config", [LossConfig(), LossConfig(coverage="focal", bbox="giou")])
def test_masked_cells_and_weightless_pictures_teach_nothing(config):
    truth = targets()
    out = output(truth)
    mask = torch.ones_like(truth.coverage)
    mask[0, 0, 2, 2] = 0
    costs(config, out, truth, mask, torch.tensor([1.0, 0.0])).sum().backward()
    for grad in (out.coverage_logits.grad, out.bbox.grad):
        assert not grad[0, :, 2, 2].any() and not grad[1].any()
        assert grad[0, :, 3, 2].all()
    doubled = costs(config, out, truth, mask, torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(doubled, 2 * costs(config, out, truth, mask))


def test_half_precision_outputs_are_measured_in_full():
    truth = targets()
    out = GridOutput(*(part.detach().bfloat16() for part in output(truth)))
    full = GridOutput(*(part.float() for part in out))
    for config in (LossConfig(), LossConfig(coverage="focal", bbox="giou")):
        assert torch.equal(costs(config, out, truth), costs(config, full, truth))


def test_classes_are_counted_one_by_one_and_weighed():
    truth = targets(num_classes=3)
    out = output(truth)
    cost = costs(LossConfig(), out, truth)
    for i in range(3):
        part = GridTargets(
            truth.coverage[:, i : i + 1], truth.coverage_norm[:, i : i + 1], truth.bbox[:, 4 * i : 4 * i + 4]
        )
        alone = costs(LossConfig(), GridOutput(out.bbox[:, 4 * i : 4 * i + 4], out.coverage_logits[:, i : i + 1]), part)
        torch.testing.assert_close(cost[i], alone[0])
    loss = GridLoss(LossConfig(class_weights={"c": 2.0, "a": 6.0, "b": 0.0}), ["a", "b", "c"], 35.0)
    total = loss.total(cost, torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9]], dtype=torch.float64))
    a, _, c = cost
    expected = 0.75 * (0.5 * a[0] + 0.5 * a[1]) + 0.25 * (0.1 * c[0] + 0.9 * c[1])
    torch.testing.assert_close(total, expected)
    assert class_weights({}, ["a", "b"]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"Face": 1.0}, "loss.class_weights.Face: the target classes are face, hand"),
        ({"face": 1.0}, "leaves out hand"),
        ({"face": 1.0, "hand": -1.0}, "at least 0"),
        ({"face": 0.0, "hand": 0.0}, "one above 0"),
        ({"face": math.nan, "hand": 1.0}, "at least 0"),
    ],
)
def test_class_weights_that_mean_nothing(weights, message):
    with pytest.raises(ConfigError, match=message):
        class_weights(weights, ["face", "hand"])


def test_regulariser_takes_kernels_and_biases_and_no_batch_norm():
    network = build_model(ModelConfig(num_layers=10), ["face"])
    for name, parameter in network.named_parameters():
        torch.nn.init.constant_(parameter, 100.0 if "bn" in name else -0.5)
    convolved = sum(p.numel() for name, p in network.named_parameters() if "bn" not in name)
    assert regularization(network, "l1").item() == pytest.approx(0.5 * convolved, rel=1e-5)
    l2 = regularization(network, "l2")
    assert l2.item() == pytest.approx(0.25 * convolved, rel=1e-5)
    l2.backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {"conv1.bias", "block_1a.conv_shortcut.weight", "output_bbox.bias", "output_cov.weight"} <= reached
    assert not any("bn" in name for name in reached)


RANK = """
import torch, torch.distributed as dist
from facetrain.tests.facenet_trainer.test_losses import shared_case
dist.init_process_group("gloo")
rank = dist.get_rank()
gradient, state = shared_case(slice(2 * rank, 2 * rank + 2))
dist.all_reduce(gradient)  # as a distributed model averages it
whole_gradient, whole_state = torch.load("one.pt")
torch.testing.assert_close(gradient / 2, whole_gradient)
torch.testing.assert_close(state, whole_state)
with torch.no_grad():
    if rank == 0:
        shared_case(slice(0, 2), learn=False)  # a rank with more to validate waits for nobody
dist.barrier()
"""


def shared_case(part: slice, learn: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of four pictures, or some of them, with very unequal faces; and the automatic weights that follow."""
    from facetrain.facenet_trainer.objective_weights import ObjectiveWeights

    boxes = torch.tensor([[[20.0, 12, 76, 84]], [[1, 1, 90, 95]], [[40, 40, 44, 45]], [[0, 0, 1, 1]]])[part]
    labels = torch.tensor([[0], [0], [0], [-1]])[part]
    truth = rasterize(boxes, labels, [RasterizerConfig()], grid=(6, 6))
    config = LossConfig(coverage="focal", bbox="giou", autoweighting=True)
    parameter = torch.linspace(-1, 1, 4 * 5 * 36).reshape(4, 5, 6, 6).requires_grad_(learn)
    factor = torch.ones(1, requires_grad=learn)  # one weight that all pictures share
    prediction = factor * parameter[part]
    loss = GridLoss(config, ["face"], 35.0)
    out = GridOutput(prediction[:, :4], prediction[:, 4:])
    cost = loss.costs(out, truth, torch.ones_like(truth.coverage), torch.ones(len(boxes)))
    weights = ObjectiveWeights(config, ["face"])
    total = loss.total(cost, weights.weights)
    if learn:
        weights.add(cost)
        total.backward()
        weights.end_epoch()
    return (factor.grad if learn else total), weights.weights


def test_two_processes_divide_by_the_faces_of_both(tmp_path: Path):
    torch.save(shared_case(slice(0, 4)), tmp_path / "one.pt")
    (tmp_path / "rank.py").write_text(RANK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "rank.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
