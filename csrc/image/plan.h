// What a device without this folder's code needs to resize one image to the same bytes: where each
// output position of an axis looks, and its weights there.
#pragma once

#include <cstdint>
#include <vector>

#include "image/transform.h"

namespace coldpress::image {

// One axis: output position i is the sum over t < taps of weights[i * taps + t] * input[first[i] +
// t], in fixed point of kWeightBits, rounded and clamped to a byte. It lands at pad + i.
struct AxisPlan {
  int64_t taps = 1;
  int64_t pad = 0;
  std::vector<int32_t> first;
  std::vector<int32_t> weights;
};

struct Plan {
  AxisPlan y, x;
  bool vertical_first = false;  // the order shows, because what lies between is rounded to bytes
};

// Positions that are copied have one weight of one, also where Pillow skips the pass: exact.
Plan plan_resize(Size input, Size resized, const Transform& transform);

}  // namespace coldpress::image
