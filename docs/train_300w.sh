#!/bin/sh
# Trains FPENet on the 300-W faces of HELEN and LFPW and measures it on the 300-W common subset.
#   sh docs/train_300w.sh /data/300w     (folders helen/train, helen/test, lfpw/train, lfpw/test with .jpg and .pts)
# Two phases: most epochs at 48 pixels, where they cost a third, then the deployed 80 pixels. Interrupted? Run it again.
set -e
data=${1:?usage: sh docs/train_300w.sh FOLDER}
phase() {
    # A finished phase is left alone; an unfinished one goes on where it was.
    if ! tail -n 1 "results/$1/status.json" 2>/dev/null | grep -q SUCCESS; then
        fpenet train experiment="$1" data.root="$data"
    fi
}
phase fpenet_300w_small
phase fpenet_300w
