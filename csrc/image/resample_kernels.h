// The two inner loops of resampling behind one table of function pointers, so that a version for an
// instruction set is one more file and one more branch in `resample_kernels()`.
#pragma once

#include <cstdint>
#include <vector>

namespace coldpress::image {

// 32 bits less 8 of the pixel and 2 of head-room: Pillow's choice.
inline constexpr int kWeightBits = 22;

// Output position i is the sum over t < count[i] of weights[i * stride + t] * input[first[i] + t].
// The weights of one position sum to about 1 << kWeightBits; those past its count are zero.
struct Coefficients {
  int64_t stride = 0;  // the largest count, or a little more
  std::vector<int32_t> first;
  std::vector<int32_t> count;
  std::vector<int32_t> weights;
  bool empty() const { return first.empty(); }
  int64_t size() const { return static_cast<int64_t>(first.size()); }
  int64_t input_begin() const { return first.front(); }
  int64_t input_end() const { return first.back() + count.back(); }
};

struct ResampleKernels {
  // Each of `rows` rows to coefficients.size() pixels. `source` points to the pixel
  // coefficients.input_begin() of the first row; strides are in bytes.
  void (*horizontal)(const uint8_t* source, int64_t source_stride, int64_t rows,
                     const Coefficients& coefficients, uint8_t* target, int64_t target_stride);
  // One output row of `bytes` bytes from `taps` consecutive source rows.
  void (*vertical)(const uint8_t* source, int64_t source_stride, const int32_t* weights,
                   int64_t taps, int64_t bytes, uint8_t* target);
};

// The fastest set that this machine can run.
const ResampleKernels& resample_kernels();

}  // namespace coldpress::image
