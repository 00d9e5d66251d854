// A layer's quantised weights as launchers hand them to kernels: plain pointers, no torch.
#pragma once

#include <cstdint>

namespace coldpress {

// Weights of a layer with N outputs, and what its epilogue needs: (ceil(N / 64), groups, 64) lanes
// of four bytes or two words each.
struct QuantizedWeights {
  const int32_t* lanes;
  const float* scales;  // per column, N of them rounded up to 64
  const float* sums;    // scale times the sum of the integers of a column
  const float* bias;    // N
  int64_t K, N;
  bool words;  // 16 bits, else 8
};

constexpr int64_t kPanelQuantized = 64;

namespace {

// Floats of scratch for `rows` rows of K words (or bytes) with their scales and offsets.
constexpr int64_t quantized_scratch(int64_t rows, int64_t K) {
  return 2 * rows + rows * ((K + 15) / 16) * 8;
}

}  // namespace

}  // namespace coldpress
