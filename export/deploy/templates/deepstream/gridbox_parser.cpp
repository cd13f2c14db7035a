// Boxes of a GridBox detector (FaceNet, and any of its kind) for nvinfer, which clusters them afterwards.
//
// In nvinfer's configuration:
//   parse-bbox-func-name=NvDsInferParseCustomFacetrainGridBox
//   custom-lib-path=libfacetrain.so          (made by `make`)
// DeepStream's own parser has a scale of 35 and an offset of 0.5 in its code; here they are the model's.

#include <algorithm>
#include <cstring>
#include <iostream>
#include <vector>

#include "gridbox_model.h"
#include "nvdsinfer_custom_impl.h"

namespace {

const NvDsInferLayerInfo *layer_named(std::vector<NvDsInferLayerInfo> const &layers, const char *name) {
    for (auto const &layer : layers)
        if (layer.layerName != nullptr && std::strcmp(layer.layerName, name) == 0) return &layer;
    return nullptr;
}

}  // namespace

// Tensors: coverage [C, h, w], 0 to 1, and distances [4C, h, w] left, up, right and down of a point in each cell.
extern "C" bool NvDsInferParseCustomFacetrainGridBox(std::vector<NvDsInferLayerInfo> const &layers,
                                                     NvDsInferNetworkInfo const &network,
                                                     NvDsInferParseDetectionParams const &parameters,
                                                     std::vector<NvDsInferObjectDetectionInfo> &objects) {
    const auto *bbox = layer_named(layers, gridbox::kBboxLayer);
    const auto *coverage = layer_named(layers, gridbox::kCoverageLayer);
    if (bbox == nullptr || coverage == nullptr) {
        std::cerr << "facetrain: nvinfer has no outputs " << gridbox::kBboxLayer << " and " << gridbox::kCoverageLayer
                  << ": name both in output-blob-names" << std::endl;
        return false;
    }
    if (bbox->dataType != FLOAT || coverage->dataType != FLOAT || coverage->inferDims.numDims != 3 ||
        bbox->inferDims.d[0] != 4 * coverage->inferDims.d[0]) {
        std::cerr << "facetrain: " << gridbox::kCoverageLayer << " is not float [C, h, w], or " << gridbox::kBboxLayer
                  << " not float [4C, h, w]" << std::endl;
        return false;
    }
    const unsigned int classes = coverage->inferDims.d[0];
    const unsigned int columns = coverage->inferDims.d[2], cells = coverage->inferDims.d[1] * columns;
    const auto *scores = static_cast<const float *>(coverage->buffer);
    const auto *distances = static_cast<const float *>(bbox->buffer);
    const float width = static_cast<float>(network.width), height = static_cast<float>(network.height);

    for (unsigned int label = 0; label < std::min(classes, parameters.numClassesConfigured); ++label) {
        const float threshold = parameters.perClassPreclusterThreshold[label];
        const float *distance = distances + std::size_t{4} * label * cells;
        for (unsigned int cell = 0; cell < cells; ++cell) {
            const float score = scores[std::size_t{label} * cells + cell];
            if (score < threshold) continue;
            const float x = static_cast<float>(cell % columns * gridbox::kStride) + gridbox::kOffset;
            const float y = static_cast<float>(cell / columns * gridbox::kStride) + gridbox::kOffset;
            const float left = std::clamp(x - gridbox::kScale * distance[cell], 0.0f, width);
            const float top = std::clamp(y - gridbox::kScale * distance[cell + cells], 0.0f, height);
            const float right = std::clamp(x + gridbox::kScale * distance[cell + 2 * cells], 0.0f, width);
            const float bottom = std::clamp(y + gridbox::kScale * distance[cell + 3 * cells], 0.0f, height);
            if (right <= left || bottom <= top) continue;
            NvDsInferObjectDetectionInfo object{};
            object.classId = label;
            object.left = left;
            object.top = top;
            object.width = right - left;
            object.height = bottom - top;
            object.detectionConfidence = score;
            objects.push_back(object);
        }
    }
    return true;
}

CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(NvDsInferParseCustomFacetrainGridBox);
