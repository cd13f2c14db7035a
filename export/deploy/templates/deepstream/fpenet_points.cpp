// See fpenet_points.h.

#include "fpenet_points.h"

#include <cstring>

#include "fpenet_model.h"

namespace {

const float *values_of(std::vector<NvDsInferLayerInfo> const &layers, const char *name, unsigned int count) {
    for (auto const &layer : layers)
        if (layer.layerName != nullptr && std::strcmp(layer.layerName, name) == 0 && layer.dataType == FLOAT &&
            layer.inferDims.numElements == count)
            return static_cast<const float *>(layer.buffer);
    return nullptr;
}

unsigned int even(unsigned int value) { return value / 2 * 2; }

}  // namespace

bool facetrain_points(std::vector<NvDsInferLayerInfo> const &layers, NvOSD_RectParams const &object,
                      std::vector<FacetrainPoint> &points) {
    points.clear();
    const float *place = values_of(layers, fpenet::kPointsLayer, 2 * fpenet::kPoints);
    const float *confidence = values_of(layers, fpenet::kConfidenceLayer, fpenet::kPoints);
    const float *visibility = values_of(layers, fpenet::kVisibilityLayer, fpenet::kPoints);
    if (place == nullptr || confidence == nullptr) return false;
    // nvinfer cuts at whole and even pixels: the corner rounded up, the size down.
    const auto left = static_cast<float>(even(static_cast<unsigned int>(object.left) + 1));
    const auto top = static_cast<float>(even(static_cast<unsigned int>(object.top) + 1));
    const float x_step = static_cast<float>(even(static_cast<unsigned int>(object.width))) / fpenet::kSize;
    const float y_step = static_cast<float>(even(static_cast<unsigned int>(object.height))) / fpenet::kSize;
    for (unsigned int i = 0; i < fpenet::kPoints; ++i)
        points.push_back({left + (place[2 * i] + 0.5f) * x_step - 0.5f, top + (place[2 * i + 1] + 0.5f) * y_step - 0.5f,
                          confidence[i], visibility == nullptr ? 1.0f : visibility[i]});
    return true;
}

bool facetrain_points(NvDsInferTensorMeta const &tensors, NvOSD_RectParams const &object,
                      std::vector<FacetrainPoint> &points) {
    std::vector<NvDsInferLayerInfo> layers(tensors.output_layers_info,
                                           tensors.output_layers_info + tensors.num_output_layers);
    for (unsigned int i = 0; i < tensors.num_output_layers; ++i) layers[i].buffer = tensors.out_buf_ptrs_host[i];
    return facetrain_points(layers, object, points);
}
