// What our sources use of DeepStream's nvll_osd_struct.h, written after its public documentation.
#pragma once

typedef struct {
    float left, top, width, height;
} NvOSD_RectParams;
