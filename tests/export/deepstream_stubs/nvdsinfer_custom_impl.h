// What our sources use of DeepStream's nvdsinfer_custom_impl.h, written after its public documentation.
#pragma once

#include <vector>

#include "nvdsinfer.h"

typedef struct {
    unsigned int numClassesConfigured;
    std::vector<float> perClassPreclusterThreshold;
    std::vector<float> perClassPostclusterThreshold;
} NvDsInferParseDetectionParams;

typedef bool (*NvDsInferParseCustomFunc)(std::vector<NvDsInferLayerInfo> const &, NvDsInferNetworkInfo const &,
                                         NvDsInferParseDetectionParams const &,
                                         std::vector<NvDsInferObjectDetectionInfo> &);

#define CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(function) \
    [[maybe_unused]] static NvDsInferParseCustomFunc const checked_##function = function
