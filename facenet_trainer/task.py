"""FaceNet as the training loop sees it: a network, its targets and losses, its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..configs.compose import to_plain
from ..configs.facenet.per_class import each_class
from ..configs.facenet.schema import FacenetTrainSpec
from ..datasets.pictures import with_ignored
from ..datasets.resizing import PicturePreprocessing, Placement
from ..datasets.sample import DetectionSample
from ..training.distributed import Processes
from ..training.loop import Batch, Forward
from ..training.model_file import ModelMeta
from ..training.qat import plain, quantization
from ..training.regularizer import regularization
from ..training.trackers import Picture
from .draw import draw_boxes
from .frame import Frame
from .losses import GridLoss
from .matching import PictureDetections
from .metrics import DetectionResults, detection_results
from .network import GridBoxNet, GridOutput
from .objective_weights import OBJECTIVES, ObjectiveWeights
from .predictor import decoded, picture_detections, scaled
from .targets import loss_mask, rasterize


class FacenetTask:
    """Boxes in pictures. Batches are those of `datasets.pictures.picture_loader`.

    Args:
        val_samples: the pictures of the validation loader, in the order that its `index` counts in.
    """

    metric = "ap"
    higher_is_better = True

    def __init__(
        self,
        model: GridBoxNet,
        preprocessing: PicturePreprocessing,
        spec: FacenetTrainSpec,
        val_samples: Sequence[DetectionSample],
    ) -> None:
        self.model: nn.Module = model
        self.architecture = model.architecture
        self.preprocessing = preprocessing
        self.spec = spec
        self.val_samples = val_samples
        self.grid_loss = GridLoss(spec.loss, self.architecture.classes, self.architecture.bbox_scale)
        self.objectives = ObjectiveWeights(spec.loss, self.architecture.classes)
        self.rasterizer = each_class(spec.rasterizer, self.architecture.classes)
        each_class(spec.metrics, self.architecture.classes)  # refuses what does not fit before the first validation
        self.frame = Frame(spec.metrics.pixels, preprocessing)

    def step(self, forward: Forward, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Loss and parts of a batch of pictures [N, 3, H, W]."""
        costs = self._costs(forward(scaled(batch["image"])), batch)
        self.objectives.add(costs)
        total = self.grid_loss.total(costs, self.objectives.weights)
        parts = self._parts(costs)
        if self.spec.loss.regularizer != "none":
            parts["regularizer"] = regularization(self.model, self.spec.loss.regularizer)
            total = total + self.spec.loss.regularizer_weight * parts["regularizer"]
        return {"loss": total, **parts}

    def _costs(self, output: GridOutput, batch: Batch) -> Tensor:
        """[C, 2] the cost of each class's coverage and boxes."""
        architecture = self.architecture
        targets = rasterize(
            batch["boxes"],
            batch["labels"],
            self.rasterizer,
            grid=(output.bbox.shape[2], output.bbox.shape[3]),
            stride=architecture.stride,
            scale=architecture.bbox_scale,
            offset=architecture.bbox_offset,
        )
        mask = loss_mask(batch["ignore"], targets.coverage, architecture.stride, self.spec.data.ignore)
        return self.grid_loss.costs(output, targets, mask, batch["weight"])

    def _parts(self, costs: Tensor) -> dict[str, Tensor]:
        """The costs by name; each class for itself where there are several."""
        classes = self.architecture.classes
        suffixes = [""] if len(classes) == 1 else [f"_{name}" for name in classes]
        return {
            f"{objective}{suffix}": costs[c, o]
            for c, suffix in enumerate(suffixes)
            for o, objective in enumerate(OBJECTIVES)
        }

    def evaluate(self, forward: Forward, loader: DataLoader, processes: Processes) -> dict[str, float]:
        """Figures over all validation pictures, and what they cost at the weights that training has now."""
        results, cost = self.results(forward, loader, processes)
        return {**results.summary(), "validation_cost": cost}

    def results(self, forward: Forward, loader: DataLoader, processes: Processes) -> tuple[DetectionResults, float]:
        """The detections of every validation picture, and their mean cost; the same on every rank."""
        rows: dict[int, tuple[PictureDetections, Placement, float]] = {}
        for batch in loader:
            device_batch = {name: value.to(processes.device) for name, value in batch.items()}
            output = forward(scaled(device_batch["image"]))
            places = [Placement(*row) for row in batch["placement"].tolist()]
            found = self._found(output, batch, self.frame)
            for i, index in enumerate(batch["index"].tolist()):
                # One by one: a cost is a mean over its batch, and batches depend on the number of processes.
                one = {name: value[i : i + 1] for name, value in device_batch.items()}
                costs = self._costs(GridOutput(*(part[i : i + 1] for part in output)), one)
                rows[index] = found[i], places[i], float(self.grid_loss.total(costs, self.objectives.weights))
        everything = {index: row for part in processes.gather(rows) for index, row in part.items()}
        ordered = [everything[index] for index in sorted(everything)]
        samples = [
            self.frame.labels(with_ignored(sample, place, self.spec.data.ignore), place)
            for sample, (_, place, _) in zip(self.val_samples, ordered, strict=True)
        ]
        predictions = [found for found, _, _ in ordered]
        results = detection_results(samples, predictions, self.architecture.classes, self.spec.metrics)
        return results, float(np.mean([cost for _, _, cost in ordered]))

    def _found(self, output: GridOutput, batch: Batch, frame: Frame) -> list[PictureDetections]:
        places = [Placement(*row) for row in batch["placement"].tolist()]
        sizes = [(width, height) for width, height in batch["size"].tolist()]
        boxes = decoded(self.architecture, output.bbox)
        coverage = output.coverage_logits.float().sigmoid().flatten(2)
        classes, placed = self.architecture.classes, frame.placed(places, sizes)
        return picture_detections(boxes, coverage, classes, self.spec.clustering, *placed)

    def pictures(self, forward: Forward, loader: DataLoader, processes: Processes, count: int) -> list[Picture]:
        """The first pictures, as the network sees them, with labels and detections drawn."""
        drawn: list[Picture] = []
        seen = Frame("network", self.preprocessing)
        for batch in loader:
            found = self._found(forward(scaled(batch["image"].to(processes.device))), batch, seen)
            for i in range(min(len(found), count - len(drawn))):
                image = batch["image"][i].numpy().transpose(1, 2, 0)
                truth = batch["boxes"][i].numpy()[batch["labels"][i].numpy() >= 0]
                picture = draw_boxes(image, found[i].boxes, found[i].scores, truth)
                drawn.append((picture, f"picture {int(batch['index'][i])}"))
            if len(drawn) >= count:
                break
        return drawn

    def end_epoch(self) -> None:
        """Weighs the objectives anew, where that is automatic."""
        self.objectives.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """The objectives' weights and what they have cost."""
        return self.objectives.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state."""
        self.objectives.load_state_dict(state)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The network's weights, with the statistics of its batch normalisation."""
        return plain(model).state_dict()

    def meta(self, metrics: dict[str, float]) -> ModelMeta:
        """What the model file says beside the weights."""
        return ModelMeta(
            architecture=self.architecture.to_dict(),
            scheme={"classes": list(self.architecture.classes)},
            preprocessing=self.preprocessing.to_dict(),
            config=to_plain(self.spec),
            metrics=metrics,
            quantization=quantization(self.model),
        )
