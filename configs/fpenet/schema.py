"""The specs of `fpenet`. `default-spec` prints this file's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError
from ..benchmark_schema import BenchmarkConfig
from ..check_schema import FaceCheckConfig
from ..convert_schema import FaceConvertConfig
from ..export_schema import BuildConfig, CalibrationConfig, DeepstreamConfig, ExportConfig, GateConfig, QuantizeConfig
from ..import_schema import ImportSpecConfig, ImportWeightsConfig
from ..schema import PruneConfig, SplitConfig, TrackConfig, TrainConfig, compat_key, key, ordered, section


@dataclass
class SourceConfig:
    """One set of faces."""

    format: str = key("synthetic", "how the labels are written",
                      choices=("pts", "fpenet_json", "fpenet_tfrecords", "wflw", "cofw", "coco_keypoints",
                               "label_studio", "csv", "store", "synthetic"))  # fmt: skip
    path: str = key("", "the label file, or folder of label files, below data.root; see docs/data.md")
    image_root: str = key("", "folder that the labels' file names start from, below data.root; empty: the label's own")
    points: str = key("", "map the labels' points to another layout: 98_to_68, ... or a YAML file below data.root")
    columns: dict[str, str] = key({}, "csv: names of the columns, such as {image: file, x: 'lm{}x', y: 'lm{}y'}")
    first_pixel: int = key(0, "pts, csv: index of the first pixel; 1 in files made with MATLAB, as 300-W's own",
                           low=0, high=1)  # fmt: skip
    name: str = key("", "name in reports; empty: the last part of the path")
    labelled: bool = key(True, "false: the points only place the crop, and the face serves the ELT loss without labels")
    weight: float = key(1.0, "weight of these faces in the loss", low=0.0)
    validate: bool = key(True, "false: none of them is held out to validate on (data.split), such as drawn ones")
    mask_occluded: bool = key(True, "leave occluded points out of the loss (loss.mask_occluded must be on too)")
    max_occlusion_level: int = key(5, "drop faces whose label has a higher occlusion level (0-9)", low=0, high=9)
    min_visible_fraction: float = key(0.6, "drop faces of which the frame shows less", low=0.0, high=1.0)
    subject_pattern: str = key("", "regular expression on the file name; its first group is the subject")
    count: int = key(0, "faces to take at random, or to draw (synthetic); 0: all (synthetic: 1000)", low=0)
    seed: int = key(0, "seed of that choice, or of the drawn faces", low=0)


@dataclass
class DataConfig:
    """Which faces are used for what."""

    root: str = key("", "folder that the sources' paths start from")
    train: list[SourceConfig] = key([], "sources to train on")
    val: list[SourceConfig] = key([], "sources to validate on; empty: a part of the training faces, see split")
    test: list[SourceConfig] = key([], "sources to report at the end of training; also what `evaluate` takes")
    split: SplitConfig = section(SplitConfig)
    drop_duplicates: bool = key(True, "leave out training faces that occur again in training, validation or test")
    whole_points: bool = key(False, "TAO's labels: coordinates are cut to whole pixels, and a missing point is visible "
                                    "at (0, 0), where the crop reaches for it")  # fmt: skip
    cache: bool = key(True, "keep margin crops in memory (16 KiB a face); false: decode at every use")
    workers: int = key(1, "loader processes; 0: load in the training process", low=0, high=256)


@dataclass
class CropConfig:
    """The square that is cut out for the network; the same in training, evaluation, inference and calibration."""

    source: str = key("points", "what the square is laid around", choices=("points", "box"))
    enlarge: float = key(1.25, "side of the square as a multiple of the longer side of the points' box or the box",
                         low=0.5, high=4.0)  # fmt: skip
    shift_x: float = key(0.0, "shift of the centre to the right, as a share of the unenlarged side", low=-1.0, high=1.0)
    shift_y: float = key(0.0, "shift of the centre downwards, as a share of the unenlarged side", low=-1.0, high=1.0)


@dataclass
class AugmentConfig:
    """Random changes of the training crops. Every *_prob is the probability that the change is made."""

    hflip_prob: float = key(0.5, "mirror left-right; needs a keypoint scheme with a flip table", low=0.0, high=1.0)
    rotate_rad_max: float = key(0.5, "largest rotation about the centre, radians, uniform", low=0.0, high=3.1416)
    zoom_min: float = key(0.8, "smallest magnification", low=0.1, high=10.0)
    zoom_max: float = key(1.2, "largest magnification", low=0.1, high=10.0)
    translate_max_x: float = key(6.0, "largest shift, pixels of the crop, uniform", low=0.0, high=1000.0)
    translate_max_y: float = key(6.0, "largest shift, pixels of the crop, uniform", low=0.0, high=1000.0)
    shift_prob: float = key(0.0, "probability of moving and resizing the crop square itself", low=0.0, high=1.0)
    shift_percent_max: float = key(0.0, "largest such change of x, y and side, share of the side", low=0.0, high=1.0)
    gamma_prob: float = key(0.5, "probability of a gamma change 255 (v / 255)^g", low=0.0, high=1.0)
    gamma_type: str = key("uniform", "distribution of g", choices=("uniform", "normal"))
    gamma_min: float = key(0.6, "uniform: smallest g", low=0.05, high=20.0)
    gamma_max: float = key(1.6, "uniform: largest g", low=0.05, high=20.0)
    gamma_mu: float = key(1.0, "normal: mean of g", low=0.05, high=20.0)
    gamma_std: float = key(0.3, "normal: standard deviation of g", low=0.0, high=10.0)
    contrast_scale_max: float = key(0.2, "contrast is scaled by 1 +- up to this", low=0.0, high=1.0)
    contrast_center: float = key(127.5, "grey value that a contrast change leaves alone", low=0.0, high=255.0)
    brightness_scale_max: float = key(0.2, "added light, +- up to this share of 255", low=0.0, high=1.0)
    blur_prob: float = key(0.1, "probability of a box blur", low=0.0, high=1.0)
    blur_kernel_sizes: list[int] = key([3, 5], "odd sizes to draw from, pixels")
    noise_prob: float = key(0.0, "probability of sensor noise", low=0.0, high=1.0)
    noise_std_max: float = key(0.05, "largest standard deviation of the noise, share of 255", low=0.0, high=1.0)
    resize_prob: float = key(0.1, "probability of degrading by resizing there and back", low=0.0, high=1.0)
    resize_scale: float = key(0.5, "size in between, relative to the crop; below 1 loses detail", low=0.1, high=4.0)
    patch_prob: float = key(0.3, "probability of an occluding rectangle", low=0.0, high=1.0)
    patch: str = key("anywhere", "where it lies: anywhere: in one grey or in noise; centre: TAO's, in one grey",
                     choices=("anywhere", "centre"))  # fmt: skip
    size_to_image_ratio: float = key(0.5, "largest side of that rectangle, share of the crop", low=0.02, high=1.0)
    mask_augmentation_patch: bool = key(True, "points under the rectangle become occluded")

    def __post_init__(self) -> None:
        ordered(self, "augment", ("zoom_min", "zoom_max"), ("gamma_min", "gamma_max"))
        for size in self.blur_kernel_sizes:
            if size < 3 or size % 2 == 0:
                raise ConfigError(f"augment.blur_kernel_sizes: {size} is not an odd number of at least 3")


@dataclass
class ModelConfig:
    """The network."""

    variant: str = key("public", "FpeNet_* of the original", choices=("public", "release", "base", "base_5x5_conv"))
    num_keypoints: int = key(80, "K, points a face", low=1, high=1000)
    scheme: str = key("", "keypoint scheme: a YAML file; empty: the built-in one of 68, 80 or 104 points")
    source_points: list[int] = key([], "0-based points to keep of a layout with more: of the labels and of the "
                                       "pretrained model; as many as num_keypoints")  # fmt: skip
    upsampling: str = key("deconv", "base variants only; release is nearest, public deconv",
                          choices=("deconv", "nearest"))  # fmt: skip
    width: int = key(64, "channels of every stage; 64 is the original", low=8, high=512)
    input_size: int = key(80, "side of the crop in pixels, divisible by 16", low=16, high=512)
    beta: float = key(1.0, "sharpness of the soft-argmax; part of the model, stored with it", low=1e-4, high=100.0)
    batch_norm: bool = key(False, "normalise after every convolution while training; the model file has it folded in")
    visibility_head: bool = key(False, "add an output: probability that each point is visible")

    def __post_init__(self) -> None:
        if self.input_size % 16:
            raise ConfigError(f"model.input_size={self.input_size}: four poolings need a multiple of 16")


@dataclass
class EltConfig:
    """Equivariance under a random similarity, one a face (Honari et al. 2018)."""

    mode: str = key("off", "prediction: against the transformed prediction (the paper's, also for unlabelled faces); "
                           "labels: against the transformed labels (TAO's)",
                    choices=("off", "prediction", "labels"))  # fmt: skip
    weight: float = key(0.5, "weight of the term (elt_alpha)", low=0.0, high=100.0)
    rotate_rad_max: float = key(0.35, "largest rotation, radians", low=0.0, high=3.1416)
    translate_max: float = key(10.0, "largest shift, pixels of the crop", low=0.0, high=1000.0)
    zoom_min: float = key(0.8, "smallest magnification", low=0.1, high=10.0)
    zoom_max: float = key(1.2, "largest magnification", low=0.1, high=10.0)

    def __post_init__(self) -> None:
        ordered(self, "loss.elt", ("zoom_min", "zoom_max"))


@dataclass
class LossConfig:
    """What is minimised."""

    type: str = key(
        "wing_loss", "per-point loss on pixels of the crop", choices=("wing_loss", "l1", "square_euclidean")
    )
    wing_w: float = key(10.0, "Wing: width of the logarithmic part, pixels", low=1e-3, high=1000.0)
    wing_epsilon: float = key(2.0, "Wing: curvature of the logarithmic part, pixels", low=1e-3, high=1000.0)
    reduction: str = key("mean", "mean: over points and faces, whatever their number; tao: the reference's own sums",
                         choices=("mean", "tao"))  # fmt: skip
    kpts_coeff: float = key(1.0, "factor on the whole loss (TAO: 0.01; under reduction=tao l1 ignores it)",
                            low=0.0, high=1000.0)  # fmt: skip
    region_weights: dict[str, float] = key({}, "relative weight of each region of the scheme, such as "
                                               "{eyes: 0.4, mouth: 0.3, pupil: 0.2, face: 0.1}; empty: all points "
                                               "alike")  # fmt: skip
    mask_occluded: bool = key(True, "leave occluded points out of the loss")
    heatmap_weight: float = key(1.0, "weight of the cross-entropy between each point's soft-max map and a Gaussian at "
                                     "its label; 0: off", low=0.0, high=100.0)  # fmt: skip
    heatmap_sigma: float = key(1.5, "standard deviation of that Gaussian, pixels of the crop", low=0.2, high=20.0)
    visibility_weight: float = key(1.0, "weight of the visibility head's cross-entropy", low=0.0, high=1000.0)
    regularizer: str = key("none", "penalty on convolution weights and biases", choices=("none", "l1", "l2"))
    regularizer_weight: float = key(1e-5, "factor of the penalty", low=0.0, high=10.0)
    elt: EltConfig = section(EltConfig)


@dataclass
class FpenetTrainConfig(TrainConfig):
    """The loop, and what it starts from."""

    pretrained: str = key("", "model file to start from, or 'zoo'; empty: random weights")


@dataclass
class FpenetTrainSpec:
    """`fpenet train`."""

    results_dir: str = key("results/fpenet", "run folder; holds everything the run writes")
    seed: int = key(42, "seed of weights, order and augmentation", low=0, high=2**63 - 1)
    overwrite: bool = key(False, "delete a finished run that stands in results_dir")
    compat: str = compat_key()
    imported_from: str = key("", "TAO's spec that this one was made from; -e sets it, the run folder keeps a copy")
    data: DataConfig = section(DataConfig)
    crop: CropConfig = section(CropConfig)
    augment: AugmentConfig = section(AugmentConfig)
    model: ModelConfig = section(ModelConfig)
    loss: LossConfig = section(LossConfig)
    train: FpenetTrainConfig = section(FpenetTrainConfig)
    track: TrackConfig = section(TrackConfig)


@dataclass
class FpenetPruneSpec:
    """`fpenet prune`."""

    model: str = key("zoo", "model file (.safetensors), or 'zoo'")
    results_dir: str = key("results/fpenet_prune", "folder for pruned.safetensors, tables, plot and report.html")
    overwrite: bool = key(False, "write over results that stand there")
    compat: str = compat_key()
    prune: PruneConfig = section(PruneConfig)
    track: TrackConfig = section(TrackConfig)
    report: bool = key(True, "write channels.png and report.html")


@dataclass
class FpenetEvaluateSpec:
    """`fpenet evaluate`."""

    model: str = key("zoo", "model file (.safetensors), or 'zoo'")
    results_dir: str = key("results/fpenet_evaluate", "folder for CSV, JSON, plots and report.html")
    overwrite: bool = key(False, "write over results that stand there")
    compat: str = compat_key()
    split: str = key("test", "which faces of data", choices=("train", "val", "test"))
    data: DataConfig = section(DataConfig)
    unseen_points: str = key("skip", "points visible in no face, in regions' means over visible ones: skip: left out; "
                                     "zero: TAO's, an error of 0", choices=("skip", "zero"))  # fmt: skip
    batch_size: int = key(64, "faces a forward pass", low=1, high=65536)
    device: str = key("auto", "auto: the GPU, else the CPU", choices=("auto", "cpu", "cuda"))
    pictures: int = key(24, "worst faces shown in the report", low=0, high=256)


@dataclass
class FpenetInferSpec:
    """`fpenet infer`."""

    model: str = key("zoo", "model file (.safetensors), or 'zoo'")
    input: str = key("", "picture, folder of pictures, video file, or camera:N")
    boxes: str = key("", "where the faces are: an FPENet label JSON, a detector's JSON, or a folder of KITTI .txt; "
                         "empty: see detector")  # fmt: skip
    detector: str = key("", "FaceNet model file, or 'zoo', that finds the faces; with boxes empty as well, each whole "
                            "picture is one face")  # fmt: skip
    detector_clustering: dict[str, Any] = key({}, "keys of the detector's clustering section to change, such as "
                                                  "detector_clustering.coverage_threshold=0.3")  # fmt: skip
    detector_min_score: float = key(-1.0, "least confidence of a face; -1: that of the best F1 in the detector's own "
                                          "validation", low=-1.0)  # fmt: skip
    detector_input_size: dict[str, Any] = key({}, "keys of the detector's input section to change, such as "
                                                  "detector_input_size.width=1088")  # fmt: skip
    results_dir: str = key("results/fpenet_infer", "folder for predictions.json, result.txt and pictures")
    overwrite: bool = key(False, "write over results that stand there")
    draw: bool = key(True, "pictures, or a video, with the points, and a detector's boxes, drawn")
    result_txt: bool = key(False, "TAO's result.txt: one line a face, name x1 y1 x2 y2 ...")
    max_frames: int = key(0, "video and camera: stop after so many frames; 0: at the end", low=0)
    batch_size: int = key(64, "faces a forward pass", low=1, high=65536)
    device: str = key("auto", "auto: the GPU, else the CPU", choices=("auto", "cpu", "cuda"))


@dataclass
class FpenetExportConfig(ExportConfig):
    """What is made of the model."""

    heatmaps: bool = key(False, "also give the maps [N, K, S, S] out, as some of TAO's exports do")


@dataclass
class FpenetExportSpec:
    """`fpenet export`."""

    model: str = key("zoo", "model file (.safetensors), or 'zoo'")
    results_dir: str = key("results/fpenet_export", "folder for the graphs, engines, deployment files and report.html")
    overwrite: bool = key(False, "write over results that stand there")
    split: str = key("val", "which faces of data the KPI is measured on", choices=("train", "val", "test"))
    data: DataConfig = section(DataConfig)
    export: FpenetExportConfig = section(FpenetExportConfig)
    calibration: CalibrationConfig = section(CalibrationConfig)
    quantize: QuantizeConfig = section(QuantizeConfig)
    build: BuildConfig = section(BuildConfig)
    deepstream: DeepstreamConfig = section(DeepstreamConfig)
    gate: GateConfig = section(GateConfig)
    batch_size: int = key(64, "faces a forward pass of the check", low=1, high=65536)


@dataclass
class FpenetBenchmarkSpec(BenchmarkConfig):
    """`fpenet benchmark`."""

    results_dir: str = key("results/fpenet_benchmark", "folder for benchmark.json and report.html")


@dataclass
class LayoutConfig:
    """Which points the faces are read with, as model.* says in training."""

    num_keypoints: int = key(80, "K, points a face", low=1, high=1000)
    scheme: str = key("", "keypoint scheme: a YAML file; empty: the built-in one of 68, 80 or 104 points")
    source_points: list[int] = key([], "0-based points to keep of labels with more; as many as num_keypoints")


@dataclass
class FpenetCheckSpec:
    """`fpenet check`."""

    results_dir: str = key("results/fpenet_check", "folder for check.json, report.html and the cleaned lists")
    overwrite: bool = key(False, "write over results that stand there")
    fix: bool = key(False, "write cleaned label lists and a spec that trains on them; --fix is the same")
    data: DataConfig = section(DataConfig)
    crop: CropConfig = section(CropConfig)
    model: LayoutConfig = section(LayoutConfig)
    check: FaceCheckConfig = section(FaceCheckConfig)


@dataclass
class CropLayoutConfig(LayoutConfig):
    """Which points the faces are read with, and how large their crops are, as model.* says in training."""

    input_size: int = key(80, "side of the crop in pixels", low=16, high=512)


@dataclass
class FpenetConvertSpec:
    """`fpenet convert`."""

    results_dir: str = key("results/fpenet_convert", "folder for stores or label files, and data.yaml, a spec that "
                                                     "trains on them")  # fmt: skip
    overwrite: bool = key(False, "delete what an earlier conversion wrote there")
    convert: FaceConvertConfig = section(FaceConvertConfig)
    data: DataConfig = section(DataConfig)
    crop: CropConfig = section(CropConfig)
    model: CropLayoutConfig = section(CropLayoutConfig)


@dataclass
class FpenetImportSpec(ImportSpecConfig):
    """`fpenet import-spec`."""


@dataclass
class TaoCropConfig(CropConfig):
    """The square that the weights were trained on."""

    enlarge: float = key(1.0, "side of the square as a multiple of the longer side of the points' box or the box; "
                              "TAO's bbox_enlarge_ratio, 1 in all of its specs", low=0.5, high=4.0)  # fmt: skip


@dataclass
class FpenetImportWeightsSpec(ImportWeightsConfig):
    """`fpenet import-weights`."""

    results_dir: str = key("results/fpenet_import", "folder for imported.safetensors and weights.csv")
    beta: float = key(0.0, "sharpness of the soft-argmax, where the file does not say; TAO's notebook has 0.1; 0: the "
                           "file's", low=0.0, high=100.0)  # fmt: skip
    input_size: int = key(80, "side of the crop in pixels, where the file does not say", low=16, high=512)
    scheme: str = key("", "keypoint scheme: a YAML file; empty: the built-in one of 68, 80 or 104 points")
    crop: TaoCropConfig = section(TaoCropConfig)

    def __post_init__(self) -> None:
        if self.input_size % 16:
            raise ConfigError(f"input_size={self.input_size}: four poolings need a multiple of 16")
