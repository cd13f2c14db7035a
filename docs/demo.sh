#!/bin/sh
# Trains FPENet on faces that facetrain draws itself, measures it on others, and leaves a report.
set -e
out=${1:-results/demo}
fpenet train -e "$(dirname "$0")/../configs/experiment/demo.yaml" results_dir="$out/train" overwrite=true
fpenet evaluate model="$out/train/best.safetensors" data=synthetic results_dir="$out/evaluate" overwrite=true
echo "Open $out/train/report.html"
