#!/bin/sh
# Trains FPENet on faces that facetrain draws itself, measures it on others, and leaves a report. `make demo` runs this.
set -e
out=${1:-results/demo}
fpenet train experiment=demo results_dir="$out/train" overwrite=true
fpenet evaluate model="$out/train/best.safetensors" results_dir="$out/evaluate" overwrite=true
echo "Open $out/train/report.html and $out/evaluate/report.html"
