#!/bin/sh
# Trains the network of the zoo.
#   sh docs/train_300w.sh /data
# /data/300w holds helen/train, helen/test, lfpw/train and lfpw/test with .jpg and .pts; /data/wider the pictures and label
# files of WIDER FACE, /data/ytfaces an FPENet label file ytfaces.json. The faces of these two are used without their labels:
# a first network labels them, and a second learns from them too. Interrupted? Run it again.
set -e
data=${1:?usage: sh docs/train_300w.sh FOLDER}
phase() {
    # A finished phase is left alone; an unfinished one goes on where it was.
    if ! tail -n 1 "results/$1/status.json" 2>/dev/null | grep -q SUCCESS; then
        fpenet train experiment="$@"
    fi
}
phase fpenet_300w data.root="$data/300w"
if [ ! -e results/pseudo/done ]; then
    python "$(dirname "$0")/pseudo_label.py" results/fpenet_300w/best.safetensors results/pseudo \
        --wider "$data/wider/wider_face_train_bbx_gt.txt" --json "$data/ytfaces/ytfaces.json"
    touch results/pseudo/done
fi
faces() { printf '{format: pts, path: "%s", name: %s%s}' "$@"; }
labelled="$(faces 300w/helen/train helen_train ''), $(faces 300w/lfpw/train lfpw_train '')"
phase fpenet_300w_more data.root="$data" \
    "data.train=[$labelled, $(faces "$PWD/results/pseudo" pseudo ', weight: 0.5, validate: false')]"
