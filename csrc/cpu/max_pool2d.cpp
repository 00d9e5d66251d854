// max_pool2d: the greatest value under each window, channel by channel, on channels-last images.
//
// Bound by loads; a few per mille of a ResNet.
#include "core/conv_shape.h"
#include "core/kernel.h"

namespace coldpress {

// Row `oy` of the output (OW, C) of one image x (H, W, C). A NaN under the window stays.
COLDPRESS_KERNEL(max_pool_row, const float* x, const Conv& conv, int64_t oy, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void max_pool_row(const float* x, const Conv& conv, int64_t oy, float* out) {
  const int64_t y = oy * conv.stride - conv.top, C = conv.C;
  const int64_t above = y < 0 ? -y : 0;
  const int64_t below = y + conv.kernel_h > conv.H ? conv.H - y : conv.kernel_h;
  for (int64_t ox = 0; ox < conv.OW; ++ox) {
    const int64_t column = ox * conv.stride - conv.left;
    const int64_t from = column < 0 ? -column : 0;
    const int64_t to = column + conv.kernel_w > conv.W ? conv.W - column : conv.kernel_w;
    for (int64_t c = 0; c < C; c += kLanes) {
      const float* window = x + (y * conv.W + column) * C + c;
      Vec greatest = load_first(window + (above * conv.W + from) * C, C - c);
      for (int64_t ky = above; ky < below; ++ky) {
        for (int64_t kx = from; kx < to; ++kx) {
          const Vec value = load_first(window + (ky * conv.W + kx) * C, C - c);
          // Neither less nor greater: equal, or a NaN, which the mean keeps.
          const Vec same = (value + greatest) * Vec::set(0.5f);
          greatest =
              select_less(greatest, value, value, select_less(value, greatest, greatest, same));
        }
      }
      store_first(greatest, out + ox * C + c, C - c);
    }
  }
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_conv.h"

namespace coldpress {
namespace {

Tensor max_pool2d(const Tensor& x, const std::vector<int64_t>& kernel, int64_t stride,
                  const std::vector<int64_t>& padding) {
  const Conv conv = conv_of(x, kernel, stride, padding, x.size(-1), "max_pool2d");
  STD_TORCH_CHECK(*std::max_element(padding.begin(), padding.end()) <
                      *std::min_element(kernel.begin(), kernel.end()),
                  "coldpress::max_pool2d: padding must be smaller than the window");
  Tensor out = torch::stable::new_empty(x, {x.size(0), conv.OH, conv.OW, conv.C});
  const float* x_data = packed_floats(x, "max_pool2d: x");
  float* out_data = out_floats(out);
  const auto run = COLDPRESS_SELECT(max_pool_row);
  for_each_task(x.size(0) * conv.OH, [&](int64_t row) {
    run(x_data + row / conv.OH * conv.H * conv.W * conv.C, conv, row % conv.OH,
        out_data + row * conv.OW * conv.C);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("max_pool2d", TORCH_BOX(&max_pool2d)); }

}  // namespace coldpress
#endif
