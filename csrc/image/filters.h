// Resampling weights as Pillow computes them: in double, normalised, then rounded to fixed point.
#pragma once

#include <cstdint>
#include <vector>

#include "image/resample_kernels.h"
#include "image/transform.h"

namespace coldpress::image {

// Weights for the kept positions of an axis. `filter` is any but nearest, which has no weights.
Coefficients filter_coefficients(Filter filter, const Axis& axis);

// Source position of every kept output position for the nearest filter.
std::vector<int32_t> nearest_positions(const Axis& axis);

}  // namespace coldpress::image
