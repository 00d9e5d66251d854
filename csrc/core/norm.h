// Layer normalisation of one row: (x - mean) / sqrt(var + eps) * weight + bias.
//
// Two passes for the variance instead of E[x^2] - E[x]^2: no cancellation. Sums run in four chains,
// or the latency of addition would bind.
#pragma once

#include "core/kernel.h"
#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Sum of f(x) over the row; lanes behind its end hold `fill`.
template <class F>
inline float sum_row(const float* row, int64_t D, float fill, F f) {
  Vec sums[4] = {Vec::set(0.0f), Vec::set(0.0f), Vec::set(0.0f), Vec::set(0.0f)};
  int64_t d = 0;
  for (; d + 4 * kLanes <= D; d += 4 * kLanes) {
    for (int i = 0; i < 4; ++i) sums[i] = f(Vec::load(row + d + i * kLanes), sums[i]);
  }
  for (; d < D; d += kLanes) sums[0] = f(load_first(row + d, D - d, fill), sums[0]);
  return reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// `out` may be `row`.
inline void normalise_row(const float* row, const Norm& norm, int64_t D, float* out) {
  const float mean =
      sum_row(row, D, 0.0f, [](Vec x, Vec sum) { return sum + x; }) / static_cast<float>(D);
  const float squares = sum_row(row, D, mean, [mean](Vec x, Vec sum) {
    const Vec deviation = x - Vec::set(mean);
    return fma(deviation, deviation, sum);
  });
  const float variance = squares / static_cast<float>(D);
  const Vec scale = Vec::set(1.0f / __builtin_sqrtf(variance + norm.eps));
  const auto normalise = [&](Vec x, Vec weight, Vec bias) {
    return fma((x - Vec::set(mean)) * scale, weight, bias);
  };
  int64_t d = 0;
  for (; d + kLanes <= D; d += kLanes) {
    normalise(Vec::load(row + d), Vec::load(norm.weight + d), Vec::load(norm.bias + d))
        .store(out + d);
  }
  if (d < D) {
    store_first(normalise(load_first(row + d, D - d), load_first(norm.weight + d, D - d),
                          load_first(norm.bias + d, D - d)),
                out + d, D - d);
  }
}

// sum = x + y
inline void add_row(const float* x, const float* y, int64_t D, float* sum) {
  for (int64_t d = 0; d < D; d += kLanes) {
    store_first(load_first(x + d, D - d) + load_first(y + d, D - d), sum + d, D - d);
  }
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
