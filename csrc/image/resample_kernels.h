// The two inner loops of resampling, one version per instruction set (see core/kernel.h). All
// arithmetic is exact in integers: every version gives the same bytes.
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "core/kernel.h"

namespace coldpress::image {

// 32 bits less 8 of the pixel and 2 of head-room: Pillow's choice.
inline constexpr int kWeightBits = 22;
inline constexpr int32_t kHalf = 1 << (kWeightBits - 1);  // every sum starts here, to round

// Output pixel i is the sum over t < taps of weights[i * stride + t] * input[first[i] + t -
// origin]. All have as many taps, though some weigh nothing and may lie past the input's end: a
// loop of varying length mispredicts its end.
struct Taps {
  int64_t outputs;
  int64_t taps;
  int64_t stride;
  int64_t origin;
  int64_t inputs;  // pixels from `origin` on that exist
  const int32_t* first;
  const int32_t* weights;

  // Words of memory that a horizontal pass works in: 16 bytes a sample.
  int64_t scratch() const { return (inputs + taps + outputs) * 3 * 2; }
};

// Each of `rows` rows to taps.outputs RGB pixels. `source` points to pixel taps.origin of the first
// row; strides are in bytes.
COLDPRESS_KERNEL(horizontal, const uint8_t* source, int64_t source_stride, int64_t rows,
                 const Taps& taps, uint8_t* target, int64_t target_stride, uint64_t* scratch)

// One output row of `bytes` bytes from `taps` consecutive source rows.
COLDPRESS_KERNEL(vertical, const uint8_t* source, int64_t source_stride, const int32_t* weights,
                 int64_t taps, int64_t bytes, uint8_t* target)

}  // namespace coldpress::image
