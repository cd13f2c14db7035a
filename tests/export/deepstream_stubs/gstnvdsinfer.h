// What our sources use of DeepStream's gstnvdsinfer.h, written after its public documentation.
#pragma once

#include "nvdsinfer.h"

typedef struct {
    unsigned int unique_id;
    unsigned int num_output_layers;
    NvDsInferLayerInfo *output_layers_info;
    void **out_buf_ptrs_host;
    void **out_buf_ptrs_dev;
    int gpu_id;
    void *priv_data;
    NvDsInferNetworkInfo network_info;
} NvDsInferTensorMeta;
