"""The fields of DetectNet_v2's specs by message, and the protobuf classes made of them.

A field is `type name`; `type* name` is repeated, and what TAO declares as a map is a repeated entry of key and value,
which is how its text is written. Types are protobuf's scalars, enumerations and messages of this table. The text format
knows fields by name, so their numbers are of no account here.
"""

from __future__ import annotations

from functools import cache

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

TRAINING, CONVERSION, INFERENCE = "Experiment", "DatasetExport", "Inference"  # the messages that a file may be

ENUMS = {
    "DataloaderMode": "MULTISOURCE LEGACY DEFAULT",
    "SamplingMode": "USER_DEFINED PROPORTIONAL UNIFORM",
    "ClusteringAlgorithm": "DBSCAN NMS HYBRID",
    "BackendFloatx": "FLOAT32 FLOAT16 INVALID",
    "ApMode": "SAMPLE INTEGRATE",
    "RegularizerType": "NO_REG L1 L2",
    "WandbMode": "ONLINE OFFLINE DISABLED",
    "Parser": "ETLT UFF CAFFE",
    "BackendDataType": "FP32 FP16 INT8",
}

MESSAGES = {
    "StringEntry": "string key; string value",
    "FloatEntry": "string key; float value",
    TRAINING: "uint32 random_seed; Dataset dataset_config; Augmentation augmentation_config; "
    "PostProcessing postprocessing_config; Model model_config; Evaluation evaluation_config; "
    "CostFunction cost_function_config; Training training_config; Rasterizer bbox_rasterizer_config; "
    "ObjectiveLabelFilter loss_mask_label_filter; DatasetExport* dataset_export_config",
    "DataSource": "string tfrecords_path; string image_directory_path; float source_weight",
    "Dataset": "DataSource* data_sources; string image_extension; StringEntry* target_class_mapping; "
    "uint32 validation_fold; DataSource validation_data_source; DataloaderMode dataloader_mode; "
    "SamplingMode sampling_mode",
    "Augmentation": "Preprocessing preprocessing; Spatial spatial_augmentation; Colour color_augmentation",
    "Preprocessing": "uint32 output_image_width; uint32 output_image_height; uint32 output_image_min; "
    "uint32 output_image_max; bool enable_auto_resize; uint32 output_image_channel; uint32 crop_left; "
    "uint32 crop_top; uint32 crop_right; uint32 crop_bottom; float min_bbox_width; float min_bbox_height; "
    "float scale_width; float scale_height",
    "Spatial": "float hflip_probability; float vflip_probability; float zoom_min; float zoom_max; "
    "float translate_max_x; float translate_max_y; float rotate_rad_max; float rotate_probability",
    "Colour": "float color_shift_stddev; float hue_rotation_max; float saturation_shift_max; "
    "float contrast_scale_max; float contrast_center",
    "PostProcessing": "PostProcessingEntry* target_class_config",
    "PostProcessingEntry": "string key; PostProcessingClass value",
    "PostProcessingClass": "Clustering clustering_config; Confidence confidence_config",
    "Clustering": "float coverage_threshold; int32 minimum_bounding_box_height; "
    "ClusteringAlgorithm clustering_algorithm; float dbscan_eps; float dbscan_min_samples; "
    "int32 neighborhood_size; float dbscan_confidence_threshold; float nms_iou_threshold; "
    "float nms_confidence_threshold",
    "Confidence": "float confidence_threshold; string confidence_model_filename; string normalization_mode",
    "Model": "string pretrained_model_file; bool freeze_pretrained_layers; bool allow_loaded_model_modification; "
    "int32 num_layers; bool use_pooling; bool use_batch_norm; float dropout_rate; Activation activation; "
    "ObjectiveSet objective_set; TrainingPrecision training_precision; bool freeze_bn; float* freeze_blocks; "
    "string arch; bool load_graph; bool all_projections",
    "Activation": "string activation_type; FloatEntry* activation_parameters",
    "ObjectiveSet": "BboxObjective bbox; CovObjective cov",
    "BboxObjective": "string input; float scale; float offset",
    "CovObjective": "string input",
    "TrainingPrecision": "BackendFloatx backend_floatx",
    "Evaluation": "uint32 validation_period_during_training; uint32 first_validation_epoch; "
    "uint32 early_stopping_patience_steps; FloatEntry* minimum_detection_ground_truth_overlap; "
    "EvaluationBoxEntry* evaluation_box_config; ApMode average_precision_mode",
    "EvaluationBoxEntry": "string key; EvaluationBox value",
    "EvaluationBox": "int32 minimum_height; int32 maximum_height; int32 minimum_width; int32 maximum_width",
    "CostFunction": "CostClass* target_classes; bool enable_autoweighting; float max_objective_weight; "
    "float min_objective_weight",
    "CostClass": "string name; float class_weight; float coverage_foreground_weight; Objective* objectives",
    "Objective": "string name; float initial_weight; float weight_target",
    "Training": "uint32 batch_size_per_gpu; uint32 num_epochs; LearningRate learning_rate; Regularizer regularizer; "
    "Optimizer optimizer; CostScaling cost_scaling; uint32 checkpoint_interval; bool enable_qat; "
    "Visualizer visualizer",
    "LearningRate": "SoftStart soft_start_annealing_schedule; EarlyStopping early_stopping_annealing_schedule",
    "SoftStart": "float min_learning_rate; float max_learning_rate; float soft_start; float annealing",
    "EarlyStopping": "float min_learning_rate; float max_learning_rate; uint32 soft_start_epochs; "
    "uint32 annealing_epochs; uint32 patience_steps",
    "Regularizer": "RegularizerType type; float weight",
    "Optimizer": "Adam adam",
    "Adam": "float epsilon; float beta1; float beta2",
    "CostScaling": "float initial_exponent; float increment; float decrement; bool enabled",
    "Visualizer": "bool enabled; uint32 num_images; uint32 scalar_logging_frequency; "
    "uint32 infrequent_logging_frequency; VisualizerEntry* target_class_config; Wandb wandb_config; "
    "Clearml clearml_config",
    "VisualizerEntry": "string key; VisualizerClass value",
    "VisualizerClass": "float coverage_threshold",
    "Wandb": "bool enabled; string key; string project; string entity; bool reinit; string name; string* tags; "
    "string wandb_dir; string notes; WandbMode mode",
    "Clearml": "string project; string task; string* tags; bool reuse_last_task_id; bool continue_last_task; "
    "bool deferred_init",
    "Rasterizer": "RasterizerEntry* target_class_config; float deadzone_radius",
    "RasterizerEntry": "string key; RasterizerClass value",
    "RasterizerClass": "float cov_center_x; float cov_center_y; float cov_radius_x; float cov_radius_y; "
    "float bbox_min_radius",
    "ObjectiveLabelFilter": "ObjectiveLabelFilterConfig* objective_label_filter_configs; float mask_multiplier; "
    "bool preserve_ground_truth",
    "ObjectiveLabelFilterConfig": "LabelFilter label_filter; string* target_class_names; string* objective_names",
    "LabelFilter": "DimensionsFilter bbox_dimensions_label_filter; CropFilter bbox_crop_label_filter; "
    "SourceClassFilter source_class_label_filter",
    "DimensionsFilter": "float min_width; float min_height; float max_width; float max_height",
    "CropFilter": "float crop_left; float crop_right; float crop_top; float crop_bottom",
    "SourceClassFilter": "string* source_class_names",
    CONVERSION: "Coco coco_config; Kitti kitti_config; SampleModifier sample_modifier_config; "
    "string image_directory_path; StringEntry* target_class_mapping",
    "Kitti": "string root_directory_path; string image_dir_name; string label_dir_name; string point_clouds_dir; "
    "string calibrations_dir; string kitti_sequence_to_frames_file; string image_extension; uint32 num_partitions; "
    "uint32 num_shards; string partition_mode; float val_split",
    "Coco": "string root_directory_path; string* img_dir_names; string* annotation_files; uint32 num_partitions; "
    "uint32* num_shards",
    "SampleModifier": "string* filter_samples_containing_only; string* dominant_target_classes; "
    "FloatEntry* minimum_target_class_imbalance; uint32 num_duplicates; uint32 max_training_samples; "
    "StringEntry* source_to_target_class_mapping",
    INFERENCE: "Inferencer inferencer_config; BboxHandler bbox_handler_config",
    "Inferencer": "Tlt tlt_config; TensorRt tensorrt_config; string* input_nodes; string* output_nodes; "
    "int32 batch_size; int32 image_height; int32 image_width; int32 image_channels; int32 gpu_index; "
    "string* target_classes; int32 stride",
    "Tlt": "string model",
    "TensorRt": "Parser parser; string caffemodel; string prototxt; string uff_model; string etlt_model; "
    "BackendDataType backend_data_type; bool save_engine; string trt_engine; Calibrator calibrator_config",
    "Calibrator": "string calibration_cache; string calibration_tensorfile; int32 n_batches",
    "BboxHandler": "bool kitti_dump; bool disable_overlay; int32 overlay_linewidth; "
    "HandlerEntry* classwise_bbox_handler_config; string* postproc_classes; Wandb wandb_config",
    "HandlerEntry": "string key; HandlerClass value",
    "HandlerClass": "Clustering clustering_config; string confidence_model; string output_map; Colours bbox_color",
    "Colours": "int32 R; int32 G; int32 B",
}

ROOTS = (TRAINING, CONVERSION, INFERENCE)


def fields_of(message: str) -> dict[str, str]:
    """Name of each field -> its type, with `*` where it is repeated."""
    return {name: kind for kind, name in (item.split() for item in MESSAGES[message].split(";"))}


def empty_message(name: str, every: bool = False) -> Message:
    """A message of this table with nothing in it; `every`: one that keeps each value of a field that is given again."""
    created: Message = message_factory.GetMessageClass(_pool(every).FindMessageTypeByName(f"tao.{name}"))()
    return created


@cache
def _pool(every: bool) -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="detectnet_v2.proto", package="tao", syntax="proto2")
    for name, words in ENUMS.items():
        # Words of an enumeration share the scope around it, so each gets a message around it.
        values = file.message_type.add(name=f"{name}Scope").enum_type.add(name=name).value
        for number, word in enumerate(words.split()):
            values.add(name=word, number=number)
    for name in MESSAGES:
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields_of(name).items(), start=1):
            _add_field(message.field.add(name=field, number=number), kind, every)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(field: descriptor_pb2.FieldDescriptorProto, kind: str, every: bool) -> None:
    field.label = field.LABEL_REPEATED if every or kind.endswith("*") else field.LABEL_OPTIONAL
    kind = kind.removesuffix("*")
    if kind in ENUMS:
        field.type, field.type_name = field.TYPE_ENUM, f".tao.{kind}Scope.{kind}"
    elif kind in MESSAGES:
        field.type, field.type_name = field.TYPE_MESSAGE, f".tao.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
