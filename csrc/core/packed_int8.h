// A layer's int8 weights as launchers hand them to kernels: plain pointers, no torch.
#pragma once

#include <cstdint>

namespace coldpress {

// Weights (ceil(N / 64), ceil(K / 4), 64, 4) of a layer with N outputs, and what its epilogue
// needs.
struct PackedInt8 {
  const int8_t* weights;
  const float* scales;  // per column, N of them rounded up to 64
  const float* sums;    // scale times the sum of the integers of a column
  const float* bias;    // N
  int64_t K, N;
};

constexpr int64_t kPanelInt8 = 64;

namespace {

// Floats of scratch for `rows` rows of K bytes with their scales and offsets.
constexpr int64_t int8_scratch(int64_t rows, int64_t K) {
  return 2 * rows + rows * ((K + 15) / 16) * 4;
}

}  // namespace

}  // namespace coldpress
