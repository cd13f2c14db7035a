"""The specs of `facenet`. `default-spec` prints this file's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError
from ..benchmark_schema import BenchmarkConfig
from ..check_schema import BoxCheckConfig
from ..convert_schema import PictureConvertConfig
from ..export_schema import BuildConfig, CalibrationConfig, DeepstreamConfig, ExportConfig, GateConfig, QuantizeConfig
from ..import_schema import ImportSpecConfig, ImportWeightsConfig
from ..schema import PruneConfig, SplitConfig, TrackConfig, TrainConfig, compat_key, key, ordered, section


@dataclass
class SourceConfig:
    """One set of pictures."""

    format: str = key("scenes", "how the labels are written",
                      choices=("kitti", "wider", "coco", "voc", "yolo", "label_studio", "open_images", "fddb",
                               "detectnet_tfrecords", "store", "scenes"))  # fmt: skip
    path: str = key("", "kitti, voc, yolo: folder of label files; wider, coco, open_images: the label file; "
                        "label_studio, fddb, detectnet_tfrecords: either; below data.root")  # fmt: skip
    images: str = key("", "folder of the pictures, below data.root; empty: found from the labels")
    name: str = key("", "name in reports; empty: the last part of the path")
    weight: float = key(1.0, "weight of these pictures in the loss", low=0.0)
    validate: bool = key(True, "false: none of them is held out to validate on (data.split), such as drawn ones")
    count: int = key(0, "pictures to take at random, or to draw (scenes); 0: all (scenes: 200)", low=0)
    seed: int = key(0, "seed of that choice, or of the drawn scenes", low=0)


@dataclass
class IgnoreConfig:
    """Boxes that are neither learnt nor counted as background, and neither rewarded nor punished in evaluation."""

    classes: list[str] = key(["dontcare"], "source classes whose boxes are ignore regions; case does not matter")
    marked: bool = key(True, "boxes that the label itself marks so: WIDER's invalid, COCO's crowds, VOC's difficult")
    min_width: float = key(0.0, "ignore narrower boxes, pixels of the network's input", low=0.0)
    min_height: float = key(0.0, "ignore lower boxes, pixels of the network's input", low=0.0)
    max_width: float = key(0.0, "ignore wider boxes, pixels of the network's input; 0: no limit", low=0.0)
    max_height: float = key(0.0, "ignore higher boxes, pixels of the network's input; 0: no limit", low=0.0)
    crop: list[float] = key([], "ignore boxes that are not inside [left, top, right, bottom] of the network's input")
    mask_multiplier: float = key(0.0, "weight of the loss there", low=0.0, high=1.0)
    preserve_ground_truth: bool = key(True, "full weight where a face that is learnt covers the same cell")

    def __post_init__(self) -> None:
        if self.crop and len(self.crop) != 4:
            raise ConfigError(f"data.ignore.crop={self.crop}: give left, top, right, bottom, or nothing")


@dataclass
class DataConfig:
    """Which pictures are used for what."""

    root: str = key("", "folder that the sources' paths start from")
    train: list[SourceConfig] = key([], "sources to train on")
    val: list[SourceConfig] = key([], "sources to validate on; empty: a part of the training pictures, see split")
    test: list[SourceConfig] = key([], "sources to report at the end of training; also what `evaluate` takes")
    split: SplitConfig = section(SplitConfig)
    class_mapping: dict[str, str] = key({"face": "face"}, "name in the labels to target class, many to one; the order "
                                                          "of the target classes is that of the outputs")  # fmt: skip
    ignore: IgnoreConfig = section(IgnoreConfig)
    sampling: str = key("proportional", "how often each training source comes: by its length, or all alike",
                        choices=("proportional", "uniform"))  # fmt: skip
    cache: bool = key(True, "keep decoded pictures in memory, at most data.cache_gib; false: decode at every use")
    cache_gib: float = key(4.0, "memory for that, GiB", low=0.0)
    workers: int = key(1, "loader processes; 0: load in the training process", low=0, high=256)


@dataclass
class InputConfig:
    """What the network sees of a picture; the same in training's validation, evaluation, inference and calibration."""

    width: int = key(736, "pixels, divisible by 16", low=32, high=8192)
    height: int = key(416, "pixels, divisible by 16", low=32, high=8192)
    grayscale: bool = key(False, "luma in all three channels, as the model card's network takes it")
    resize: str = key("letterbox", "letterbox: whole picture, centred on black; fit: the same, but not enlarged; "
                                   "stretch: whole picture, its shape changed; pad_crop: no resizing, black to the "
                                   "right and below, the rest cut off",
                      choices=("letterbox", "fit", "stretch", "pad_crop"))  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if getattr(self, name) % 16:
                raise ConfigError(f"input.{name}={getattr(self, name)}: the stride of the grid is 16; take a multiple")


@dataclass
class AugmentConfig:
    """Random changes of the training pictures. Every *_probability is the probability that the change is made."""

    hflip_probability: float = key(0.5, "mirror left-right", low=0.0, high=1.0)
    vflip_probability: float = key(0.0, "mirror top-bottom", low=0.0, high=1.0)
    zoom_min: float = key(0.8, "smallest magnification", low=0.05, high=20.0)
    zoom_max: float = key(1.25, "largest magnification", low=0.05, high=20.0)
    translate_max_x: float = key(12.0, "largest shift, pixels of the input, uniform", low=0.0, high=10000.0)
    translate_max_y: float = key(12.0, "largest shift, pixels of the input, uniform", low=0.0, high=10000.0)
    rotate_rad_max: float = key(0.0, "largest rotation about the centre, radians, uniform", low=0.0, high=3.1416)
    rotate_probability: float = key(1.0, "probability of a rotation", low=0.0, high=1.0)
    color_shift_stddev: float = key(0.0, "added light, share of 255, normal", low=0.0, high=1.0)
    hue_rotation_max: float = key(25.0, "largest turn of the hue, degrees", low=0.0, high=180.0)
    saturation_shift_max: float = key(0.2, "saturation is scaled by 1 +- up to this", low=0.0, high=1.0)
    contrast_scale_max: float = key(0.1, "contrast is scaled by 1 +- up to this", low=0.0, high=1.0)
    contrast_center: float = key(0.5, "value that a contrast change leaves alone, share of 255", low=0.0, high=1.0)
    random_crop_probability: float = key(0.0, "train on a square cut out around a random face", low=0.0, high=1.0)
    random_crop_face_min: float = key(14.0, "smallest size of that face in the crop, pixels; drawn log-uniform",
                                      low=1.0, high=4096.0)  # fmt: skip
    random_crop_face_max: float = key(150.0, "largest size of that face in the crop, pixels", low=1.0, high=4096.0)
    random_crop_background: float = key(0.1, "share of those crops that are laid anywhere instead", low=0.0, high=1.0)
    crop_width: int = key(0, "size of the training picture, divisible by 16; 0: input.width", low=0, high=8192)
    crop_height: int = key(0, "size of the training picture, divisible by 16; 0: input.height", low=0, high=8192)
    border: float = key(0.0, "grey beyond the picture, share of 255; TAO's is 0.5", low=0.0, high=1.0)
    clip_boxes: bool = key(
        True, "boxes are cut at the edges; false: TAO's, boxes keep their extent and none is ignored"
    )
    min_visibility: float = key(0.3, "a box of which less is left in the picture becomes an ignore region",
                                low=0.0, high=1.0)  # fmt: skip
    min_bbox_width: float = key(1.0, "narrower boxes become ignore regions, pixels", low=0.0)
    min_bbox_height: float = key(1.0, "lower boxes become ignore regions, pixels", low=0.0)

    def __post_init__(self) -> None:
        ordered(self, "augment", ("zoom_min", "zoom_max"), ("random_crop_face_min", "random_crop_face_max"))
        for name in ("crop_width", "crop_height"):
            if getattr(self, name) % 16:
                raise ConfigError(f"augment.{name}={getattr(self, name)}: the stride of the grid is 16")


@dataclass
class ModelConfig:
    """The network."""

    num_layers: int = key(18, "depth of the ResNet: 10, 18 or 34", low=10, high=34)
    all_projections: bool = key(True, "a 1x1 convolution in every shortcut, as FaceNet has it")
    use_pooling: bool = key(False, "max-pool after the stem, as in the ImageNet network; its stride then is 32 or more")
    bbox_scale: float = key(35.0, "pixels that a box output of 1 stands for; DeepStream expects 35", low=1e-3, high=1e4)
    bbox_offset: float = key(0.5, "position in a cell that boxes are measured from, pixels; DeepStream expects 0.5",
                             low=-1e3, high=1e3)  # fmt: skip
    pretrained: str = key("", "model file (its architecture wins), 'zoo', 'imagenet' (torchvision's ResNet-18 or -34), "
                              "or a torchvision .pth file; empty: random weights")  # fmt: skip
    freeze_blocks: list[int] = key([], "blocks whose convolutions are not trained: 0 the stem, 1 to 4 the stages")
    freeze_bn: bool = key(False, "batch normalisation keeps its running statistics; its scale and shift still train")

    def __post_init__(self) -> None:
        if self.num_layers not in (10, 18, 34):
            raise ConfigError(f"model.num_layers={self.num_layers} is not accepted [10 | 18 | 34]")
        if wrong := [block for block in self.freeze_blocks if block not in range(5)]:
            raise ConfigError(f"model.freeze_blocks: {wrong[0]} is not a block [0 to 4]")


@dataclass
class RasterizerConfig:
    """The part of the grid that a box lights up: an ellipse, and a dead zone around it. All in shares of the box."""

    cov_center_x: float = key(0.5, "centre of the ellipse", low=0.0, high=1.0)
    cov_center_y: float = key(0.5, "centre of the ellipse", low=0.0, high=1.0)
    cov_radius_x: float = key(1.0, "semi-axis, share of the half width", low=0.01, high=1.0)
    cov_radius_y: float = key(1.0, "semi-axis, share of the half height", low=0.01, high=1.0)
    bbox_min_radius: float = key(1.0, "smallest semi-axis, cells", low=0.01, high=1.0)
    deadzone_radius: float = key(0.67, "how far the dead zone goes from the ellipse to the edge of the box",
                                 low=0.0, high=1.0)  # fmt: skip
    per_class: dict[str, dict[str, float]] = key({}, "other shapes for a class: {face: {cov_radius_x: 0.4}}")


@dataclass
class LossConfig:
    """What is minimised."""

    coverage: str = key("bce", "bce: TAO's weighted cross-entropy; focal: focal loss, for few and small faces",
                        choices=("bce", "focal"))  # fmt: skip
    coverage_foreground_weight: float = key(0.05, "bce: weight of cells covered by more than half; the others have "
                                                  "1 minus this", low=1e-4, high=0.9999)  # fmt: skip
    focal_gamma: float = key(2.0, "focal: how much easy cells are passed over", low=0.0, high=10.0)
    focal_alpha: float = key(0.25, "focal: weight of covered cells; the others have 1 minus this", low=0.0, high=1.0)
    bbox: str = key("l1", "l1: TAO's, divided by the area of the ellipse; giou: generalised IoU with a little L1",
                    choices=("l1", "giou"))  # fmt: skip
    class_weights: dict[str, float] = key({}, "relative weight of each target class; empty: all alike")
    coverage_weight: float = key(1.0, "initial weight of the coverage objective", low=0.0)
    bbox_weight: float = key(10.0, "initial weight of the box objective", low=0.0)
    autoweighting: bool = key(False, "after every epoch set the objectives' weights so that each costs as much as its "
                                     "initial weight says")  # fmt: skip
    min_objective_weight: float = key(1e-4, "least weight of an objective under autoweighting", low=0.0, high=1.0)
    max_objective_weight: float = key(0.9999, "largest weight of an objective under autoweighting", low=0.0, high=1.0)
    regularizer: str = key("l1", "penalty on convolution kernels and biases, before pruning; none when retraining",
                           choices=("none", "l1", "l2"))  # fmt: skip
    regularizer_weight: float = key(3e-9, "factor of the penalty", low=0.0, high=10.0)
    per_class: dict[str, dict[str, float]] = key({}, "a class's own coverage_foreground_weight, coverage_"
                                                     "weight, bbox_weight: {face: {bbox_weight: 5}}")  # fmt: skip

    def __post_init__(self) -> None:
        ordered(self, "loss", ("min_objective_weight", "max_objective_weight"))


@dataclass
class ClusteringConfig:
    """How lit cells become boxes."""

    algorithm: str = key("dbscan", "hybrid: nms over the members of dbscan's clusters",
                         choices=("dbscan", "nms", "hybrid"))  # fmt: skip
    coverage_threshold: float = key(0.005, "cells with more coverage are candidates", low=0.0, high=1.0)
    dbscan_eps: float = key(0.15, "cells are neighbours when 1 - IoU of their boxes is at most this", low=0.0, high=1.0)
    dbscan_min_weight: float = key(1.0, "summed coverage of its neighbourhood that makes a cell a cluster's core",
                                   low=0.0, high=1000.0)  # fmt: skip
    dbscan_confidence_threshold: float = key(0.0, "boxes with at least this confidence are kept", low=0.0)
    nms_iou_threshold: float = key(0.3, "of two boxes that overlap more the less confident goes", low=0.0, high=1.0)
    nms_confidence_threshold: float = key(0.0, "boxes with at least this confidence are kept", low=0.0)
    minimum_bounding_box_height: float = key(4.0, "lower boxes are dropped, pixels of the network's input", low=0.0)
    confidence: str = key("aggregate_cov", "dbscan: aggregate_cov: summed coverage, above 1 is common; mean_cov: "
                                           "coverage-weighted mean of the coverage, 0 to 1",
                          choices=("aggregate_cov", "mean_cov"))  # fmt: skip
    per_class: dict[str, dict[str, float]] = key({}, "other thresholds for a class: {face: {dbscan_eps: 0.2}}")


@dataclass
class MetricsConfig:
    """How detections are measured."""

    iou_threshold: float = key(0.5, "least overlap of a detection with the face it finds", low=0.05, high=1.0)
    average_precision: str = key("voc", "voc: area under the whole envelope; tao_sample: VOC 2007's 11 points; "
                                        "tao_integrate: TAO's INTEGRATE",
                                 choices=("voc", "tao_sample", "tao_integrate"))  # fmt: skip
    minimum_width: float = key(0.0, "narrower faces are ignored, pixels", low=0.0)
    minimum_height: float = key(0.0, "lower faces are ignored, pixels", low=0.0)
    maximum_width: float = key(9999.0, "wider faces are ignored, pixels", low=0.0)
    maximum_height: float = key(9999.0, "higher faces are ignored, pixels", low=0.0)
    per_class: dict[str, dict[str, float]] = key({}, "another overlap or other limits for a class: "
                                                     "{face: {iou_threshold: 0.7}}")  # fmt: skip
    outside: str = key("ignore", "faces and detections outside those limits: ignore: neither rewarded nor punished; "
                                 "drop: TAO's, as if they were not there",
                       choices=("ignore", "drop"))  # fmt: skip
    occluded: str = key("count", "faces whose label has an occlusion other than 0: ignore: as the evaluate of TAO's "
                                 "deploy container", choices=("count", "ignore"))  # fmt: skip
    pixels: str = key("picture", "what is measured in: picture: pixels of the picture; network: TAO's, pixels of the "
                                 "network's input", choices=("picture", "network"))  # fmt: skip
    whole_pixels: bool = key(False, "TAO's overlap: edges are rounded, and the last pixel belongs to the box")

    def __post_init__(self) -> None:
        ordered(self, "metrics", ("minimum_width", "maximum_width"), ("minimum_height", "maximum_height"))


@dataclass
class FacenetTrainSpec:
    """`facenet train`."""

    results_dir: str = key("results/facenet", "run folder; holds everything the run writes")
    seed: int = key(42, "seed of weights, order and augmentation", low=0, high=2**63 - 1)
    overwrite: bool = key(False, "delete a finished run that stands in results_dir")
    compat: str = compat_key()
    imported_from: str = key("", "TAO's spec that this one was made from; -e sets it, the run folder keeps a copy")
    data: DataConfig = section(DataConfig)
    input: InputConfig = section(InputConfig)
    augment: AugmentConfig = section(AugmentConfig)
    model: ModelConfig = section(ModelConfig)
    rasterizer: RasterizerConfig = section(RasterizerConfig)
    loss: LossConfig = section(LossConfig)
    clustering: ClusteringConfig = section(ClusteringConfig)
    metrics: MetricsConfig = section(MetricsConfig)
    train: TrainConfig = section(TrainConfig)
    track: TrackConfig = section(TrackConfig)


@dataclass
class FacenetPruneSpec:
    """`facenet prune`."""

    model: str = key("zoo", "model file (.safetensors), or 'zoo'")
    results_dir: str = key("results/facenet_prune", "folder for pruned.safetensors, tables, plot and report.html")
    overwrite: bool = key(False, "write over results that stand there")
    compat: str = compat_key()
    prune: PruneConfig = section(PruneConfig)
    track: TrackConfig = section(TrackConfig)
    report: bool = key(True, "write channels.png and report.html")


@dataclass
class FacenetEvaluateSpec:
    """`facenet evaluate`."""

    model: str = key("zoo", "model file (.safetensors), or 'zoo'")
    results_dir: str = key("results/facenet_evaluate", "folder for CSV, JSON, plots and report.html")
    overwrite: bool = key(False, "write over results that stand there")
    compat: str = compat_key()
    split: str = key("test", "which pictures of data", choices=("train", "val", "test"))
    data: DataConfig = section(DataConfig)
    clustering: dict[str, Any] = key({}, "keys of the model's clustering section to change, such as "
                                         "clustering.coverage_threshold=0.3")  # fmt: skip
    input_size: dict[str, Any] = key({}, "keys of the model's input section to change, such as input_size.width=1088")
    metrics: MetricsConfig = section(MetricsConfig)
    faceless: str = key("", "folder of pictures without a face, to count false positives on")
    batch_size: int = key(8, "pictures a forward pass", low=1, high=65536)
    device: str = key("auto", "auto: the GPU, else the CPU", choices=("auto", "cpu", "cuda"))
    pictures: int = key(12, "worst pictures shown in the report", low=0, high=256)


@dataclass
class FacenetInferSpec:
    """`facenet infer`."""

    model: str = key("zoo", "model file (.safetensors), or 'zoo'")
    input: str = key("", "picture, folder of pictures, video file, or camera:N")
    results_dir: str = key("results/facenet_infer", "folder for labels/, predictions.json, coco.json and pictures")
    overwrite: bool = key(False, "write over results that stand there")
    compat: str = compat_key()
    clustering: dict[str, Any] = key({}, "keys of the model's clustering section to change, such as "
                                         "clustering.coverage_threshold=0.3")  # fmt: skip
    input_size: dict[str, Any] = key({}, "keys of the model's input section to change, such as input_size.width=1088")
    names: dict[str, str] = key({}, "what classes are called in all that is written: {face: person_face}")
    min_score: float = key(-1.0, "boxes with at least this confidence are written; -1: that of the best F1 in the "
                                 "model's own validation", low=-1.0)  # fmt: skip
    draw: bool = key(True, "pictures, or a video, with the boxes drawn")
    colours: dict[str, Any] = key({}, "colour of a class's boxes, RGB: {face: [255, 240, 60]}; empty: blue")
    line_width: int = key(0, "of the drawn boxes, pixels; 0: by the size of the picture", low=0, high=100)
    max_frames: int = key(0, "video and camera: stop after so many frames; 0: at the end", low=0)
    batch_size: int = key(8, "pictures a forward pass", low=1, high=65536)
    device: str = key("auto", "auto: the GPU, else the CPU", choices=("auto", "cpu", "cuda"))


@dataclass
class FacenetExportConfig(ExportConfig):
    """What is made of the model."""

    decode: bool = key(False, "the graph gives boxes in pixels of the input and scores, not distances and coverage")
    nms: bool = key(False, "and ends with a non-maximum suppression: rows of picture, box, score and class")


@dataclass
class FacenetGateConfig(GateConfig):
    """The check that every form must pass."""

    fp32_pixels: float = key(0.05, "largest mean difference of points or box edges", low=0.0)
    fp16_pixels: float = key(0.5, "the same of fp16", low=0.0)
    int8_pixels: float = key(4.0, "the same of int8 and int8_fp16", low=0.0)
    fp32_kpi: float = key(0.1, "largest loss of the KPI, percentage points", low=0.0)
    fp16_kpi: float = key(0.2, "the same of fp16", low=0.0)
    int8_kpi: float = key(1.0, "the same of int8 and int8_fp16", low=0.0)


@dataclass
class FacenetExportSpec:
    """`facenet export`."""

    model: str = key("zoo", "model file (.safetensors), or 'zoo'")
    results_dir: str = key("results/facenet_export", "folder for the graphs, engines, deployment files and report.html")
    overwrite: bool = key(False, "write over results that stand there")
    split: str = key("val", "which pictures of data the KPI is measured on", choices=("train", "val", "test"))
    data: DataConfig = section(DataConfig)
    clustering: dict[str, Any] = key({}, "keys of the model's clustering section to change, such as "
                                         "clustering.coverage_threshold=0.3")  # fmt: skip
    input_size: dict[str, Any] = key({}, "keys of the model's input section to change, such as input_size.height=416")
    metrics: MetricsConfig = section(MetricsConfig)
    export: FacenetExportConfig = section(FacenetExportConfig)
    calibration: CalibrationConfig = section(CalibrationConfig)
    quantize: QuantizeConfig = section(QuantizeConfig)
    build: BuildConfig = section(BuildConfig)
    deepstream: DeepstreamConfig = section(DeepstreamConfig)
    gate: FacenetGateConfig = section(FacenetGateConfig)
    batch_size: int = key(8, "pictures a forward pass of the check", low=1, high=65536)


@dataclass
class FacenetBenchmarkSpec(BenchmarkConfig):
    """`facenet benchmark`."""

    results_dir: str = key("results/facenet_benchmark", "folder for benchmark.json and report.html")
    clustering: dict[str, Any] = key({}, "keys of the models' clustering section to change, such as "
                                         "clustering.algorithm=dbscan")  # fmt: skip
    input_size: dict[str, Any] = key({}, "keys of the model files' input section to change, such as "
                                         "input_size.height=416")  # fmt: skip


@dataclass
class FacenetCheckSpec:
    """`facenet check`."""

    results_dir: str = key("results/facenet_check", "folder for check.json, report.html and the cleaned lists")
    overwrite: bool = key(False, "write over results that stand there")
    fix: bool = key(False, "write cleaned label lists and a spec that trains on them; --fix is the same")
    data: DataConfig = section(DataConfig)
    check: BoxCheckConfig = section(BoxCheckConfig)


@dataclass
class FacenetConvertSpec:
    """`facenet convert`."""

    results_dir: str = key("results/facenet_convert", "folder for stores or label files, and data.yaml, a spec that "
                                                      "trains on them")  # fmt: skip
    overwrite: bool = key(False, "delete what an earlier conversion wrote there")
    convert: PictureConvertConfig = section(PictureConvertConfig)
    data: DataConfig = section(DataConfig)


@dataclass
class FacenetImportSpec(ImportSpecConfig):
    """`facenet import-spec`."""


@dataclass
class FacenetImportWeightsSpec(ImportWeightsConfig):
    """`facenet import-weights`."""

    results_dir: str = key("results/facenet_import", "folder for imported.safetensors and weights.csv")
    classes: list[str] = key(["face"], "target classes in the order of the outputs, TAO's target_classes")
    bbox_scale: float = key(35.0, "pixels that a box output of 1 stands for", low=1e-3, high=1e4)
    bbox_offset: float = key(0.5, "position in a cell that boxes are measured from, pixels", low=-1e3, high=1e3)
    use_pooling: bool = key(False, "the network has a max-pool, where the file does not say")
    input: InputConfig = section(InputConfig)
