#include "image/plan.h"

#include <algorithm>
#include <numeric>

#include "image/filters.h"
#include "image/resample.h"

namespace coldpress::image {
namespace {

AxisPlan copying(std::vector<int32_t> positions, int64_t pad) {
  std::vector<int32_t> weights(positions.size(), 1 << kWeightBits);
  return {.taps = 1, .pad = pad, .first = std::move(positions), .weights = std::move(weights)};
}

AxisPlan plan_axis(Filter filter, const Axis& axis) {
  if (filter == Filter::nearest) return copying(nearest_positions(axis), axis.pad);
  if (axis.input == axis.resized) {
    std::vector<int32_t> positions(axis.kept());
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(axis.begin));
    return copying(std::move(positions), axis.pad);
  }
  const Coefficients all = filter_coefficients(filter, axis);
  AxisPlan plan{.taps = all.taps().taps, .pad = axis.pad, .first = all.first, .weights = {}};
  plan.weights.resize(all.size() * plan.taps);
  const auto last = static_cast<int32_t>(axis.input - plan.taps);
  for (int64_t i = 0; i < all.size(); ++i) {
    int32_t* weights = plan.weights.data() + i * plan.taps;
    std::copy_n(all.weights.data() + i * all.stride, plan.taps, weights);
    // Those behind its count are zero. Moved to the front, they do not look past the image.
    const int32_t over = std::max(plan.first[i] - last, 0);
    std::rotate(weights, weights + plan.taps - over, weights + plan.taps);
    plan.first[i] -= over;
  }
  return plan;
}

}  // namespace

Plan plan_resize(Size input, Size resized, const Transform& transform) {
  const Size output = transform.crop.value_or(resized);
  const Axis y = centre(input.height, resized.height, output.height, transform.half_to_even);
  const Axis x = centre(input.width, resized.width, output.width, transform.half_to_even);
  Plan plan{plan_axis(transform.filter, y), plan_axis(transform.filter, x)};
  const bool both = y.input != y.resized && x.input != x.resized;
  plan.vertical_first = both && transform.filter != Filter::nearest && vertical_pass_first(y, x);
  return plan;
}

}  // namespace coldpress::image
