"""FPENet as the training loop sees it: a network, its loss, its metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..configs.fpenet.schema import LossConfig
from ..datasets.preprocessing import Preprocessing, to_image
from ..datasets.sample import PointState
from ..training.distributed import Processes
from ..training.loop import Batch, Forward
from ..training.model_file import ModelMeta
from ..training.qat import plain, quantization
from ..training.regularizer import regularization
from ..training.trackers import Picture
from .elt import random_similarity, sample_generator, transform_images, transform_points
from .face_report import draw_on_crop
from .losses import KeypointLoss, heatmap_loss, visibility_loss
from .metrics import FaceErrors, face_errors
from .network import Prediction, RecombinatorNet, folded_weights
from .schemes import Scheme


class FpenetTask:
    """Keypoints of face crops. Batches are those of `datasets.faces.FaceDataset`."""

    higher_is_better = False

    def __init__(
        self,
        model: RecombinatorNet,
        scheme: Scheme,
        preprocessing: Preprocessing,
        loss: LossConfig,
        config: dict[str, Any],
        seed: int,
    ) -> None:
        self.model: nn.Module = model
        self.architecture = model.architecture
        self.scheme = scheme
        self.preprocessing = preprocessing
        self.loss = loss
        self.keypoint_loss = KeypointLoss(loss, scheme)
        self.config = config
        self.seed = seed
        self.metric = "nme_interocular" if scheme.eye_corners is not None else "nme_diagonal"

    def step(self, forward: Forward, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Loss and parts of a batch: images [N, 1, S, S], points [N, K, 2], states [N, K]."""
        images, points, weight = batch["image"].float(), batch["points"], batch["weight"]
        mask = self.usable(batch)
        n = len(images)
        elt = self.loss.elt
        if elt.mode != "off":
            generators = [sample_generator(self.seed, epoch, int(index)) for index in batch["index"]]
            similarity = random_similarity(elt, images.shape[-1], generators).to(images.device)
            # One forward pass for both, so that a distributed model sees a single one.
            both = forward(torch.cat([images, transform_images(images, similarity)]))
            prediction, transformed = _split(both, n)
        else:
            prediction = forward(images)

        main = self.keypoint_loss(prediction.points, points, mask, weight)
        parts = {"landmarks": main}
        total = main
        if self.loss.heatmap_weight > 0:
            sigma = self.loss.heatmap_sigma
            parts["heatmap"] = heatmap_loss(prediction.heatmaps, self.architecture.beta, points, mask, sigma, weight)
            total = total + self.loss.heatmap_weight * parts["heatmap"]
        if elt.mode != "off":
            parts["elt"] = self._elt_loss(prediction, transformed, batch, mask, similarity)
            total = total + elt.weight * parts["elt"]
        if prediction.visibility is not None:
            states = torch.where(batch["labelled"][:, None], batch["states"], 0)
            parts["visibility"] = visibility_loss(prediction.visibility, states)
            total = total + self.loss.visibility_weight * parts["visibility"]
        if self.loss.regularizer != "none":
            parts["regularizer"] = regularization(self.model, self.loss.regularizer)
            total = total + self.loss.regularizer_weight * parts["regularizer"]
        with torch.no_grad():
            regions = self.keypoint_loss.regions(prediction.points, points, mask, self.scheme)
        return {"loss": total, **parts, **{f"landmarks_{name}": value for name, value in regions.items()}}

    def usable(self, batch: Batch) -> Tensor:
        """[N, K] float, 1 for points that count in the loss: labelled, and visible where occluded ones are masked."""
        states = batch["states"]
        visible = states == PointState.VISIBLE
        learn_occluded = ~batch["mask_occluded"][:, None] | (not self.loss.mask_occluded)
        occluded = (states == PointState.OCCLUDED) & learn_occluded
        return ((visible | occluded) & batch["labelled"][:, None]).float()

    def _elt_loss(
        self, prediction: Prediction, transformed: Prediction, batch: Batch, mask: Tensor, similarity: Tensor
    ) -> Tensor:
        """Transformed labels, or the transformed predictions, against the predictions on the transformed faces."""
        if self.loss.elt.mode == "labels":
            target, counted = transform_points(batch["points"], similarity), mask
        else:
            # Both sides learn: neither is the truth, and a constant answer is ruled out by the labelled faces.
            target = transform_points(prediction.points, similarity)
            counted = torch.ones_like(mask)
        last = batch["image"].shape[-1] - 1
        within = ((target >= 0) & (target <= last)).all(dim=2)  # the soft-argmax cannot point outside the crop
        return self.keypoint_loss(transformed.points, target, counted * within, batch["weight"])

    def evaluate(self, forward: Forward, loader: DataLoader, processes: Processes) -> dict[str, float]:
        """Metrics over all labelled faces of all ranks' loaders."""
        return self.errors(forward, loader, processes).summary()

    def errors(self, forward: Forward, loader: DataLoader, processes: Processes) -> FaceErrors:
        """The errors of every labelled face, in the order of the data set, the same on every rank."""
        rows: list[dict[str, Any]] = []
        for batch in loader:
            prediction = forward(batch["image"].float().to(processes.device))
            points = prediction.points.float().cpu().numpy()
            chances = None if prediction.visibility is None else prediction.visibility.float().sigmoid().cpu().numpy()
            for i, index in enumerate(batch["index"].tolist()):
                if not batch["labelled"][i]:
                    continue  # its points only place the crop
                square = tuple(batch["square"][i].tolist())
                rows.append(
                    {
                        "index": index,
                        "predicted": to_image(points[i], square, self.preprocessing.size),
                        "labels": to_image(batch["points"][i].numpy(), square, self.preprocessing.size),
                        "states": batch["states"][i].numpy(),
                        "visibility": None if chances is None else chances[i],
                    }
                )
        everything = {row["index"]: row for part in processes.gather(rows) for row in part}
        ordered = [everything[index] for index in sorted(everything)]
        stacked = {name: np.stack([row[name] for row in ordered]) for name in ("predicted", "labels", "states")}
        visibility = None if ordered[0]["visibility"] is None else np.stack([row["visibility"] for row in ordered])
        return face_errors(stacked["predicted"], stacked["labels"], stacked["states"], self.scheme, visibility)

    def pictures(self, forward: Forward, loader: DataLoader, processes: Processes, count: int) -> list[Picture]:
        """The first faces with labels and predictions drawn."""
        drawn: list[Picture] = []
        for batch in loader:
            points = forward(batch["image"].float().to(processes.device)).points.float().cpu().numpy()
            for i in range(min(len(points), count - len(drawn))):
                states = batch["states"][i].numpy()
                truth = np.where(states[:, None] > 0, batch["points"][i].numpy(), np.nan)
                picture = draw_on_crop(batch["image"][i, 0].numpy(), points[i], None, truth)
                drawn.append((picture, f"face {int(batch['index'][i])}"))
            if len(drawn) >= count:
                break
        return drawn

    def end_epoch(self) -> None:
        """Nothing changes from epoch to epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing is gathered."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to go on from."""

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The plain network's weights, batch normalisation folded in."""
        network = plain(model)
        assert isinstance(network, RecombinatorNet)
        return folded_weights(network)

    def meta(self, metrics: dict[str, float]) -> ModelMeta:
        """What the model file says beside the weights."""
        return ModelMeta(
            architecture=self.architecture.to_dict(),
            scheme=self.scheme.to_dict(),
            preprocessing=self.preprocessing.to_dict(),
            config=self.config,
            metrics=metrics,
            quantization=quantization(self.model),
        )


def _split(prediction: Prediction, n: int) -> tuple[Prediction, Prediction]:
    """The first n faces' prediction and the rest's."""
    first = Prediction(*(None if part is None else part[:n] for part in prediction))  # type: ignore[arg-type]
    second = Prediction(*(None if part is None else part[n:] for part in prediction))  # type: ignore[arg-type]
    return first, second
