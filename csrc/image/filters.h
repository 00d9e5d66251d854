// Resampling weights as Pillow computes them: in double, normalised, then rounded to fixed point.
#pragma once

#include <cstdint>
#include <vector>

#include "image/resample_kernels.h"
#include "image/transform.h"

namespace coldpress::image {

// Weights in fixed point: output position i is the sum over t < count[i] of
// weights[i * stride + t] * input[first[i] + t]. Those of one position sum to about
// 1 << kWeightBits; those past its count are zero.
struct Coefficients {
  int64_t stride = 0;  // the largest count, or a little more
  std::vector<int32_t> first;
  std::vector<int32_t> count;
  std::vector<int32_t> weights;

  bool empty() const { return first.empty(); }
  int64_t size() const { return static_cast<int64_t>(first.size()); }
  int64_t input_begin() const { return first.front(); }
  int64_t input_end() const { return first.back() + count.back(); }
  Taps taps() const;  // points into this
};

// Weights for the kept positions of an axis. `filter` is any but nearest, which has no weights.
Coefficients filter_coefficients(Filter filter, const Axis& axis);

// Source position of every kept output position for the nearest filter.
std::vector<int32_t> nearest_positions(const Axis& axis);

}  // namespace coldpress::image
