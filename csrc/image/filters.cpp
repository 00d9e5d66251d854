#include "image/filters.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace coldpress::image {
namespace {

struct Kernel {
  double support;
  double (*weight)(double);
};

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double hamming(double x) {
  x = std::abs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= std::numbers::pi;
  return std::sin(x) / x *
         (0.54f + 0.46f * std::cos(x));  // single-precision constants, as in Pillow
}

// Keys' cubic convolution with a = -0.5.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0; }

Kernel kernel_of(Filter filter) {
  switch (filter) {
    case Filter::box:
      return {0.5, box};
    case Filter::bilinear:
      return {1.0, bilinear};
    case Filter::hamming:
      return {1.0, hamming};
    case Filter::bicubic:
      return {2.0, bicubic};
    case Filter::lanczos:
      return {3.0, lanczos};
    case Filter::nearest:
      break;
  }
  throw std::logic_error("the nearest filter has no weights");
}

int32_t fixed_point(double weight) {
  const double scaled = weight * (1 << kWeightBits);
  return static_cast<int32_t>(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);  // half away from zero
}

}  // namespace

Taps Coefficients::taps() const {
  return {.outputs = size(),
          .taps = *std::max_element(count.begin(), count.end()),
          .stride = stride,
          .origin = input_begin(),
          .inputs = input_end() - input_begin(),
          .first = first.data(),
          .weights = weights.data()};
}

Coefficients filter_coefficients(Filter filter, const Axis& axis) {
  const Kernel kernel = kernel_of(filter);
  const double scale = static_cast<double>(axis.input) / static_cast<double>(axis.resized);
  const double stretch = std::max(scale, 1.0);  // a wider kernel when shrinking: antialiasing
  const double support = kernel.support * stretch;
  Coefficients result;
  result.stride = 2 * static_cast<int64_t>(std::ceil(support)) + 1;
  result.first.reserve(axis.kept());
  result.count.reserve(axis.kept());
  result.weights.assign(axis.kept() * result.stride, 0);
  std::vector<double> weights(result.stride);
  for (int64_t i = axis.begin; i < axis.end; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = static_cast<int64_t>(std::max(center - support + 0.5, 0.0));
    const auto last = std::min(static_cast<int64_t>(center + support + 0.5), axis.input);
    double total = 0.0;
    for (int64_t t = first; t < last; ++t) {
      weights[t - first] = kernel.weight((static_cast<double>(t) - center + 0.5) * (1.0 / stretch));
      total += weights[t - first];
    }
    int32_t* fixed = &result.weights[(i - axis.begin) * result.stride];
    for (int64_t t = 0; t < last - first; ++t) {
      fixed[t] = fixed_point(total != 0.0 ? weights[t] / total : weights[t]);
    }
    result.first.push_back(static_cast<int32_t>(first));
    result.count.push_back(static_cast<int32_t>(last - first));
  }
  return result;
}

std::vector<int32_t> nearest_positions(const Axis& axis) {
  const double step = static_cast<double>(axis.input) / static_cast<double>(axis.resized);
  std::vector<int32_t> positions;
  positions.reserve(axis.kept());
  double position = 0.5 * step;
  // Repeated addition from the very start, because that is what decides ties in Pillow.
  for (int64_t i = 0; i < axis.end; ++i, position += step) {
    if (i >= axis.begin) {
      positions.push_back(
          static_cast<int32_t>(std::min<int64_t>(static_cast<int64_t>(position), axis.input - 1)));
    }
  }
  return positions;
}

}  // namespace coldpress::image
