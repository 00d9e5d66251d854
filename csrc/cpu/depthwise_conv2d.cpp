// depthwise_conv2d: y = activation(x * taps + bias), a window of its own for every channel, on
// channels-last images.
//
// Bound by loads: a multiply-add needs one of the input, and one of a tap for seven or eight of
// them. 3 x 3 on one core of a Zen 5: 15 to 24 cycles a vector of outputs, whose nine multiply-adds
// alone need 4.5 (19 to 31 % of the FMA peak), the input coming from L2 or farther.
#include "core/conv_shape.h"
#include "core/kernel.h"

namespace coldpress {

// Row `oy` of the output (OW, C) of one image x (H, W, C).
COLDPRESS_KERNEL(depthwise_output_row, const float* x, const Conv& conv, const float* taps,
                 const float* bias, Activation activation, int64_t oy, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/depthwise.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void depthwise_output_row(const float* x, const Conv& conv, const float* taps, const float* bias,
                          Activation activation, int64_t oy, float* out) {
  const float* rows[kLargestWindow];
  for (int64_t ky = 0; ky < conv.kernel_h; ++ky) {
    const int64_t y = oy * conv.stride - conv.top + ky * conv.dilation;
    rows[ky] = y >= 0 && y < conv.H ? x + y * conv.W * conv.C : nullptr;
  }
  const DepthwisePart all{conv.C, conv.C, conv.C, conv.C};
  depthwise_row(activation, rows, conv, all, taps, bias, out);
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_conv.h"

namespace coldpress {
namespace {

Tensor depthwise_conv2d(const Tensor& x, const Tensor& taps, const Tensor& bias,
                        const std::vector<int64_t>& kernel, int64_t stride, int64_t dilation,
                        const std::vector<int64_t>& padding, const std::string& activation) {
  const Conv conv = conv_of(x, kernel, stride, padding, bias.numel(), "depthwise_conv2d", dilation);
  STD_TORCH_CHECK(conv.N == conv.C && taps.numel() == conv.kernel_h * conv.kernel_w * conv.C &&
                      conv.kernel_h <= kLargestWindow,
                  "coldpress::depthwise_conv2d: taps must be (h * w, C) and bias (C), h at most ",
                  kLargestWindow);
  Tensor out = torch::stable::new_empty(x, {x.size(0), conv.OH, conv.OW, conv.C});
  const float* x_data = packed_floats(x, "depthwise_conv2d: x");
  const float* t_data = packed_floats(taps, "depthwise_conv2d: taps");
  const float* b_data = packed_floats(bias, "depthwise_conv2d: bias");
  float* out_data = out_floats(out);
  const Activation epilogue = activation_named(activation);
  const auto run = COLDPRESS_SELECT(depthwise_output_row);
  for_each_task(x.size(0) * conv.OH, [&](int64_t row) {
    run(x_data + row / conv.OH * conv.H * conv.W * conv.C, conv, t_data, b_data, epilogue,
        row % conv.OH, out_data + row * conv.OW * conv.C);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) {
  m.impl("depthwise_conv2d", TORCH_BOX(&depthwise_conv2d));
}

}  // namespace coldpress
#endif
