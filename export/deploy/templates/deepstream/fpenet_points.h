// FPENet's tensors as points in the frame, for programs in C++ that run it by nvinfer with output-tensor-meta=1.
//
//     for (each NvDsUserMeta of object->obj_user_meta_list with NVDSINFER_TENSOR_OUTPUT_META)
//         facetrain_points(*static_cast<NvDsInferTensorMeta *>(user->user_meta_data), object->rect_params, points);
//
// before anything changes rect_params: it says what nvinfer has cut out.

#pragma once

#include <vector>

#include "gstnvdsinfer.h"
#include "nvll_osd_struct.h"

struct FacetrainPoint {
    float x, y;        // pixels of the frame; the first pixel's centre is (0, 0)
    float confidence;  // peak of the soft-max map, 0 to 1
    float visibility;  // 0 to 1; 1 from a model that does not say
};

// False, and no points, where the outputs are not those of the model that fpenet_model.h describes.
bool facetrain_points(std::vector<NvDsInferLayerInfo> const &layers, NvOSD_RectParams const &object,
                      std::vector<FacetrainPoint> &points);
bool facetrain_points(NvDsInferTensorMeta const &tensors, NvOSD_RectParams const &object,
                      std::vector<FacetrainPoint> &points);
