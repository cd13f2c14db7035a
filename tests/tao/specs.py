"""TAO's specs with the values of its notebooks (gridbox.md §5.3, fpenet.md §5), for the tests that read them."""

from __future__ import annotations

FACENET = """\
random_seed: 42
dataset_config {
  data_sources {
    tfrecords_path: "/data/facenet/tfrecords/training/kitti_train-*"
    image_directory_path: "/data/facenet/training"
  }
  validation_data_source {
    tfrecords_path: "/data/facenet/tfrecords/validation/kitti_val-*"
    image_directory_path: "/data/facenet/validation"
  }
  image_extension: "png"
  target_class_mapping { key: "face" value: "face" }
}
augmentation_config {
  preprocessing { output_image_width: 736 output_image_height: 416 min_bbox_width: 1.0 min_bbox_height: 1.0
    output_image_channel: 3 }
  spatial_augmentation { hflip_probability: 0.5 zoom_min: 0.7 zoom_max: 1.8 translate_max_x: 12.0
    translate_max_y: 12.0 }
  color_augmentation { hue_rotation_max: 25.0 saturation_shift_max: 0.2 contrast_scale_max: 0.1 contrast_center: 0.5 }
}
postprocessing_config { target_class_config { key: "face" value { clustering_config {
  clustering_algorithm: DBSCAN
  dbscan_confidence_threshold: 0.9
  coverage_threshold: 0.004
  dbscan_eps: 0.15
  dbscan_min_samples: 1
  minimum_bounding_box_height: 4
} } } }
model_config {
  pretrained_model_file: "/models/facenet/model.tlt"
  num_layers: 18
  load_graph: true
  use_batch_norm: true
  objective_set { bbox { scale: 35.0 offset: 0.5 } cov { } }
  training_precision { backend_floatx: FLOAT32 }
  arch: "resnet"
}
evaluation_config {
  validation_period_during_training: 10
  first_validation_epoch: 1
  minimum_detection_ground_truth_overlap { key: "face" value: 0.5 }
  evaluation_box_config { key: "face" value { minimum_height: 4 maximum_height: 9999
    minimum_width: 4 maximum_width: 9999 } }
  average_precision_mode: INTEGRATE
}
cost_function_config {
  target_classes { name: "face" class_weight: 1.0 coverage_foreground_weight: 0.0500000007451
    objectives { name: "cov" initial_weight: 1.0 weight_target: 1.0 }
    objectives { name: "bbox" initial_weight: 10.0 weight_target: 10.0 } }
  enable_autoweighting: false
  max_objective_weight: 0.999899983406
  min_objective_weight: 9.99999974738e-05
}
training_config {
  batch_size_per_gpu: 32
  num_epochs: 100
  learning_rate { soft_start_annealing_schedule {
    min_learning_rate: 5e-07 max_learning_rate: 5e-05 soft_start: 0.1 annealing: 0.7 } }
  regularizer { type: L1 weight: 3.00000002618e-09 }
  optimizer { adam { epsilon: 9.99999993923e-09 beta1: 0.899999976158 beta2: 0.999000012875 } }
  cost_scaling { initial_exponent: 20.0 increment: 0.005 decrement: 1.0 }
  checkpoint_interval: 10
}
bbox_rasterizer_config {
  target_class_config { key: "face" value { cov_center_x: 0.5 cov_center_y: 0.5 cov_radius_x: 1.0
    cov_radius_y: 1.0 bbox_min_radius: 1.0 } }
  deadzone_radius: 0.67
}
"""

FACENET_RETRAIN = (
    FACENET.replace("/models/facenet/model.tlt", "/runs/pruned/model.hdf5")
    .replace("num_epochs: 100", "num_epochs: 50")
    .replace("type: L1 weight: 3.00000002618e-09", "type: NO_REG weight: 3.00000002618e-09")
    .replace("first_validation_epoch: 1", "first_validation_epoch: 30")
)
FACENET_QAT = FACENET_RETRAIN.replace("checkpoint_interval: 10", "checkpoint_interval: 10\n  enable_qat: true")

FACENET_INFERENCE = """\
inferencer_config {
  # in the order of the network's classes
  target_classes: "face"
  image_width: 736
  image_height: 416
  image_channels: 3
  batch_size: 16
  gpu_index: 0
  tlt_config { model: "/runs/retrain/weights/detector.hdf5" }
}
bbox_handler_config {
  kitti_dump: true
  disable_overlay: false
  overlay_linewidth: 2
  classwise_bbox_handler_config {
    key: "face"
    value: {
      confidence_model: "aggregate_cov"
      output_map: "person"
      bbox_color { R: 0 G: 255 B: 10 }
      clustering_config {
        clustering_algorithm: DBSCAN
        coverage_threshold: 0.004
        dbscan_eps: 0.15
        dbscan_min_samples: 1
        dbscan_confidence_threshold: 0.9
        minimum_bounding_box_height: 4
      }
    }
  }
}
"""

FACENET_CONVERT = """\
kitti_config {
  root_directory_path: "/data/facenet/training"
  image_dir_name: "image_2"
  label_dir_name: "label_2"
  image_extension: ".png"
  partition_mode: "random"
  num_partitions: 2
  val_split: 10
  num_shards: 10
}
image_directory_path: "/data/facenet/training"
target_class_mapping { key: "face" value: "face" }
"""

MODEL_CARD = """\
model_config {
  num_layers: 18
  pretrained_model_file: "/models/facenet/model.tlt"
  use_batch_norm: true
  load_graph: true
  objective_set {
    bbox {
      scale: 35.0
      offset: 0.5
    }
    cov {
    }
  }
  training_precision {
    backend_floatx: FLOAT32
  }
  arch: "resnet"
  all_projections: true
}
"""

FPENET_TEN = """\
__class_name__: FpeNetTrainer
checkpoint_dir: /runs/exp1
checkpoint_n_epoch: 1
dataloader:
  __class_name__: FpeNetDataloader
  augmentation_info:
    augmentation_resize_probability: 0.3
    augmentation_resize_scale: 1.6
    enable_occlusion_augmentation: true
    enable_online_augmentation: true
    enable_resize_augmentation: true
    gamma_augmentation: {gamma_max: 1.6, gamma_min: 0.6, gamma_probability: 0.1, gamma_type: uniform}
    modulus_spatial_augmentation:
      hflip_probability: 0.0
      rotate_rad_max: 0.35
      translate_max_x: 10
      translate_max_y: 10
      zoom_max: 1.2
      zoom_min: 0.8
    patch_probability: 0.5
    size_to_image_ratio: 0.5
    mask_augmentation_patch: true
  batch_size: 32
  dataset_info:
    image_extension: png
    no_occlusion_masking_sets: none
    root_path:
    tfrecord_folder_name: FpeTfRecords
    tfrecords_directory_path: /data/tfrecords
    tfrecords_set_id_train: afw_10
    tfrecords_set_id_val: afw_10
    tfrecord_file_name: data.tfrecords
    use_extra_dataset: false
  image_info: {image: {channel: 1, height: 80, width: 80}}
  kpiset_info:
    tfrecords_set_id_kpi: afw_10
  num_keypoints: 10
enable_visualization: true
log_every_n_secs: 10
loss:
  __class_name__: FpeLoss
  kpts_coeff: 0.01
  loss_type: square_euclidean
  mask_occ: true
  weights_dict: null
  elt_loss_info:
    elt_alpha: 0.5
    enable_elt_loss: true
    modulus_spatial_augmentation:
      {hflip_probability: 0.0, rotate_rad_max: 0.35, translate_max_x: 10, translate_max_y: 10,
       zoom_max: 1.2, zoom_min: 0.8}
model:
  __class_name__: FpeNetBaseModel
  model_parameters:
    beta: 0.1
    pretrained_model_path: /models/fpenet/model.tlt
    regularizer_type: l2
    regularizer_weight: 1.0e-05
    type: FpeNet_public
num_epoch: 50
num_keypoints: 10
optimizer:
  __class_name__: AdamOptimizer
  beta1: 0.9
  beta2: 0.999
  epsilon: 1.0e-08
  learning_rate_schedule:
    __class_name__: SoftstartAnnealingLearningRateSchedule
    annealing: 0.5
    base_learning_rate: 0.002
    last_step: 1000000
    min_learning_rate: 1.0e-04
    soft_start: 0.3
random_seed: 35
visualize_num_images: 3
"""

FPENET_DEFAULT = """\
__class_name__: FpeNetTrainer
checkpoint_dir: /runs/fpenet
checkpoint_n_epoch: 1
dataloader:
  __class_name__: FpeNetDataloader
  augmentation_info:
    augmentation_resize_probability: 0.5
    augmentation_resize_scale: 1.6
    enable_occlusion_augmentation: true
    enable_online_augmentation: true
    enable_resize_augmentation: true
    gamma_augmentation: {gamma_max: 1.6, gamma_min: 0.6, gamma_probability: 0.1, gamma_type: uniform}
    modulus_spatial_augmentation:
      {hflip_probability: 0.25, rotate_rad_max: 0.35, translate_max_x: 10, translate_max_y: 10,
       zoom_max: 1.2, zoom_min: 0.8}
    patch_probability: 0.5
    size_to_image_ratio: 0.5
    mask_augmentation_patch: true
  batch_size: 64
  dataset_info:
    image_extension: png
    no_occlusion_masking_sets: set_b
    root_path: Null
    test_file_name: data.tfrecords
    tfrecord_folder_name: FpeTfRecords
    tfrecords_directory_path: /data/tfrecords
    tfrecords_set_id_train: set_a set_b
    tfrecords_set_id_val: set_c
    tfrecord_file_name: data.tfrecords
    use_extra_dataset: false
  image_info: {image: {channel: 1, height: 80, width: 80}}
  kpiset_info: {tfrecords_set_id_kpi: set_d}
  num_keypoints: 80
enable_visualization: true
hooks: null
infrequent_summary_every_n_steps: 0
log_every_n_secs: 10
loss:
  __class_name__: FpeLoss
  kpts_coeff: 0.01
  loss_type: wing_loss
  mask_occ: true
  weights_dict: {face: 0.3, eyes: 0.4, mouth: 0.3}
  elt_loss_info:
    elt_alpha: 0.5
    enable_elt_loss: true
    modulus_spatial_augmentation:
      {hflip_probability: 0.0, rotate_rad_max: 0.35, translate_max_x: 10, translate_max_y: 10,
       zoom_max: 1.2, zoom_min: 0.8}
model:
  __class_name__: FpeNetBaseModel
  model_parameters:
    beta: 0.01
    dropout_rate: 0.5
    freeze_Convlayer: null
    pretrained_model_path: null
    regularizer_type: l2
    regularizer_weight: 1.0e-05
    train_fpe_model: true
    type: FpeNet_base
    use_less_face_layers: false
    use_upsampling_layer: false
  visualization_parameters: null
num_epoch: 40
num_keypoints: 80
optimizer:
  __class_name__: AdamOptimizer
  beta1: 0.9
  beta2: 0.999
  epsilon: 1.0e-08
  learning_rate_schedule:
    __class_name__: SoftstartAnnealingLearningRateSchedule
    annealing: 0.5
    base_learning_rate: 0.0005
    last_step: 1000000
    min_learning_rate: 1.0e-07
    soft_start: 0.3
random_seed: 35
visualize_num_images: 3
"""

FPENET_CONVERT = """\
sets: [afw_10, other]
gt_path: 'data'
save_path: 'data/tfrecords'
gt_root_path: '/fpenet'
save_root_path: '/fpenet'
image_root_path: '/pictures'
tfrecord_folder: 'FpeTfRecords'
tfrecord_name: 'data.tfrecords'
num_keypoints: 10
bbox_enlarge_ratio: 1.0
"""
