"""The originals' networks in Keras 3 on PyTorch, with random weights, and the files that Keras' legacy format makes.

An independent statement of fpenet §1 and gridbox §1: nothing of ours is used.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "torch"
import h5py
import keras
from keras import layers as L
from keras import ops

FIRST = {"data_format": "channels_first"}


@keras.saving.register_keras_serializable()
class Softargmax(L.Layer):
    """fpenet §1.3, with the pixels' numbers as weights that are not trained, as the original has them."""

    def __init__(self, beta: float, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.beta = beta

    def build(self, shape: tuple[int, ...]) -> None:
        ys, xs = np.mgrid[: shape[2], : shape[3]].reshape(2, 1, 1, -1)
        for name, value in (("x", xs), ("y", ys)):
            weight = self.add_weight(shape=value.shape, trainable=False, name=name)
            weight.assign(value)
            setattr(self, f"index_{name}", weight)

    def call(self, maps: Any) -> Any:
        flat = ops.reshape(maps, (*maps.shape[:2], -1))
        chances = ops.softmax(self.beta * (flat - ops.max(flat, axis=2, keepdims=True)), axis=2)
        points = [ops.sum(chances * index, axis=2) for index in (self.index_x, self.index_y)]
        return ops.stack(points, axis=2), ops.max(chances, axis=2)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"beta": self.beta}


def _padded(x: Any, size: int) -> Any:
    return ops.pad(x, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))


class Conv2D(L.Conv2D):
    """TAO's, whose `same` pads alike on both sides at any stride (gridbox §1.1)."""

    def call(self, x: Any) -> Any:
        padded = _padded(x, self.kernel_size[0])
        maps = ops.conv(padded, self.kernel, self.strides, "valid", "channels_first")
        return self.activation(maps + ops.reshape(self.bias, (1, -1, 1, 1)))


class MaxPooling2D(L.MaxPooling2D):
    """The same of the max-pool, with zeros."""

    def call(self, x: Any) -> Any:
        return ops.max_pool(_padded(x, self.pool_size[0]), self.pool_size, self.strides, "valid", "channels_first")


class AveragePooling2D(L.AveragePooling2D):
    """The same of the average pool; its zeros count."""

    def call(self, x: Any) -> Any:
        return ops.average_pool(_padded(x, self.pool_size[0]), self.pool_size, self.strides, "valid", "channels_first")


def fpenet(
    kernel: int, neck: bool, nearest: bool, points: int, beta: float, side: int = 32, first_block: int = 1,
    width: Callable[[], int] = lambda: 64,
) -> keras.Model:  # fmt: skip
    """An FpeNet_*; `width` is asked for the channels of each convolution but the last."""
    number = first_block

    def block(x: Any, kernels: tuple[int, ...]) -> Any:
        nonlocal number
        for i, size in enumerate(kernels, start=1):
            x = L.Conv2D(width(), size, padding="same", name=f"block_{number}a_conv_{i}", **FIRST)(x)
            x = L.Activation("relu")(x)
        number += 1
        return x

    image = x = L.Input((1, side, side), name="input_face_images")
    skips = []
    for _ in range(4):
        x = block(x, (3,))
        skips.append(x)
        x = L.MaxPooling2D(2, padding="same", **FIRST)(x)
    x = block(x, (3, 3, 1))
    for i, skip in enumerate(reversed(skips), start=1):
        if nearest:
            x = L.UpSampling2D(2, interpolation="nearest", name=f"up_sampling2d_{i}", **FIRST)(x)
        else:
            x = L.Conv2DTranspose(width(), 2, strides=2, use_bias=False, name=f"conv2d_transpose_{i}", **FIRST)(x)
        x = block(L.Concatenate(axis=1)([x, skip]), (kernel, 1))
    if neck:
        x = L.Activation("relu")(L.Conv2D(width(), 1, name="conv_keypoints_m64", **FIRST)(x))
    maps = L.Conv2D(points, 1, name=f"conv_keypoints_m{points}", **FIRST)(x)
    return randomised(keras.Model(image, [*Softargmax(beta, name="softargmax")(maps), maps]))


def gridbox(
    repeats: tuple[int, ...], all_projections: bool, pooling: bool = False, classes: int = 1,
    channels: Callable[[int], int] = lambda full: full,
) -> keras.Model:  # fmt: skip
    """A ResNet of DetectNet_v2; `channels` is asked for what is left of each full width."""

    def conv(x: Any, count: int, size: int, stride: int, name: str, bn: str) -> Any:
        x = Conv2D(count, size, strides=stride, padding="same", name=name, **FIRST)(x)
        return L.BatchNormalization(axis=1, epsilon=1e-3, name=bn)(x)

    image = L.Input((3, 64, 96) if not pooling else (3, 224, 224), name="input_1")
    x = L.Activation("relu")(conv(image, channels(64), 7, 2, "conv1", "bn_conv1"))
    if pooling:
        x = MaxPooling2D(3, strides=2, padding="same", **FIRST)(x)
    for stage, count in enumerate(repeats, start=1):
        stride = ((1, 2, 2, 2) if pooling else (2, 2, 2, 1))[stage - 1]
        full = 64 << (stage - 1)
        last = channels(full)  # meets in an addition: the same in all of a stage
        for letter in "abcdef"[:count]:
            name, step = f"block_{stage}{letter}", stride if letter == "a" else 1
            y = L.Activation("relu")(conv(x, channels(full), 3, step, f"{name}_conv_1", f"{name}_bn_1"))
            y = conv(y, last, 3, 1, f"{name}_conv_2", f"{name}_bn_2")
            if letter == "a" or all_projections:
                x = conv(x, last, 1, step, f"{name}_conv_shortcut", f"{name}_bn_shortcut")
            x = L.Activation("relu", name=f"{name}_relu")(L.Add()([y, x]))
    if pooling:
        x = AveragePooling2D(7, strides=7, padding="same", **FIRST)(x)
    bbox = L.Conv2D(4 * classes, 1, name="output_bbox", **FIRST)(x)
    cov = L.Conv2D(classes, 1, activation="sigmoid", name="output_cov", **FIRST)(x)
    return randomised(keras.Model(image, [bbox, cov]))


def randomised(model: keras.Model) -> keras.Model:
    """Every weight a number of its own, biases and statistics too; signals keep about their size."""
    random = np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([random.uniform(0.2, 0.8, shape), random.normal(0, 0.2, shape),
                               random.normal(0, 0.2, shape), random.uniform(0.3, 2, shape)])  # fmt: skip
        elif isinstance(layer, L.Conv2D) and layer.use_bias:
            kernel, bias = layer.get_weights()
            kernel = random.normal(0, (2 / np.prod(kernel.shape[:3])) ** 0.5, kernel.shape)
            layer.set_weights([kernel, random.normal(0, 0.1, bias.shape)])
    return model


def save(model: keras.Model, path: Path, *, whole: bool = True, suffix: str = ":0") -> Path:
    """Writes the model as Keras' legacy HDF5, or its weights alone; tensors get TensorFlow's `suffix`."""
    with warnings.catch_warnings(action="ignore"):
        if whole:
            model.save(path)
        else:
            from keras.src.legacy.saving import legacy_h5_format

            with h5py.File(path, "w") as file:
                legacy_h5_format.save_weights_to_hdf5_group(file, model)
    if suffix:
        with h5py.File(path, "r+") as file:
            _rename(file["model_weights"] if whole else file, suffix)
    return path


def _rename(group: h5py.Group, suffix: str) -> None:
    for layer in group.values():
        if not isinstance(layer, h5py.Group) or "weight_names" not in layer.attrs:
            continue
        names = [str(name) for name in layer.attrs["weight_names"]]
        for name in names:
            layer.move(name, name + suffix)
        layer.attrs["weight_names"] = np.array([(name + suffix).encode() for name in names]) if names else []
