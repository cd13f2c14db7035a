#!/bin/sh
# Both networks on drawings alone: trains, prunes, trains again, measures on drawings that were not seen, exports checked
# graphs and engines, and puts the detector in front of the keypoints. Leaves a report of every step. `make demo` runs
# this.
set -e
out=${1:-results/demo}
fpenet train experiment=demo results_dir="$out/train" overwrite=true
fpenet evaluate model="$out/train/best.safetensors" results_dir="$out/evaluate" overwrite=true

unseen='data.test=[{format: scenes, count: 60, seed: 2000}]'
facenet train experiment=demo_regularised results_dir="$out/detector" overwrite=true
facenet evaluate model="$out/detector/best.safetensors" "$unseen" results_dir="$out/before_pruning" overwrite=true
facenet prune model="$out/detector/best.safetensors" prune.target=parameters prune.target_share=0.7 \
    results_dir="$out/pruned" overwrite=true
facenet train experiment=demo_retrain model.pretrained="$out/pruned/pruned.safetensors" \
    results_dir="$out/retrained" overwrite=true
facenet evaluate model="$out/retrained/best.safetensors" "$unseen" results_dir="$out/after_pruning" overwrite=true

fpenet export model="$out/train/best.safetensors" export.engine=tensorrt_rtx results_dir="$out/keypoints_export" \
    overwrite=true
facenet export model="$out/retrained/best.safetensors" export.engine=tensorrt_rtx calibration.count=64 \
    export.partner="$out/keypoints_export" results_dir="$out/detector_export" overwrite=true

python docs/draw_scene.py "$out/scene.png"
fpenet infer model="$out/keypoints_export/fpenet_int8.onnx" detector="$out/detector_export/facenet_int8.onnx" \
    input="$out/scene.png" results_dir="$out/cascade" overwrite=true
echo "Open the report.html in $out/train, evaluate, detector, before_pruning, pruned, retrained, after_pruning,"
echo "keypoints_export and detector_export, and the faces with their points in $out/cascade/pictures/scene.png"
