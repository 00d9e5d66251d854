// Sizes of a convolution, for launchers and kernels alike.
#pragma once

#include <cstdint>

namespace coldpress {

// Output channels of a panel of packed weights.
constexpr int64_t kConvPanel = 64;

// Rows of a depthwise window, at most.
constexpr int64_t kLargestWindow = 16;

// A convolution of x (B, H, W, C), window kernel_h x kernel_w, to (B, OH, OW, N).
struct Conv {
  int64_t H, W, C, N, OH, OW;
  int64_t kernel_h, kernel_w, stride, dilation, top, left;
  // Whether every window lies inside the image, so that its rows are whole segments.
  bool inside;
};

}  // namespace coldpress
