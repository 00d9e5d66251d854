// What the launchers of the convolutions share.
#pragma once

#include "core/conv_shape.h"
#include "core/launch.h"

namespace coldpress {

// Sizes of the convolution of x (B, H, W, C) with a window, checked; `op` is for the messages.
inline Conv conv_of(const Tensor& x, const std::vector<int64_t>& kernel, int64_t stride,
                    const std::vector<int64_t>& padding, int64_t N, const char* op,
                    int64_t dilation = 1) {
  STD_TORCH_CHECK(
      x.dim() == 4 && kernel.size() == 2 && padding.size() == 4 && stride > 0 && dilation > 0,
      "coldpress::", op,
      ": expected x (B, H, W, C), kernel (h, w), a positive stride and "
      "padding (top, bottom, left, right)");
  const int64_t H = x.size(1), W = x.size(2), C = x.size(3);
  const int64_t high = H + padding[0] + padding[1], wide = W + padding[2] + padding[3];
  const int64_t tall = (kernel[0] - 1) * dilation + 1, broad = (kernel[1] - 1) * dilation + 1;
  STD_TORCH_CHECK(C > 0 && std::min(kernel[0], kernel[1]) > 0 && high >= tall && wide >= broad &&
                      *std::min_element(padding.begin(), padding.end()) >= 0,
                  "coldpress::", op, ": the window must fit into the padded image");
  Conv conv;
  conv.H = H;
  conv.W = W;
  conv.C = C;
  conv.N = N;
  conv.OH = (high - tall) / stride + 1;
  conv.OW = (wide - broad) / stride + 1;
  conv.kernel_h = kernel[0];
  conv.kernel_w = kernel[1];
  conv.stride = stride;
  conv.dilation = dilation;
  conv.top = padding[0];
  conv.left = padding[2];
  conv.inside = *std::max_element(padding.begin(), padding.end()) == 0;
  return conv;
}

// What a convolution with packed weights reads and writes.
struct ConvOperands {
  const float* x;
  const float* packed;
  const float* bias;
  const float* residual;  // of the shape of out, or null
  Tensor out;             // (B, OH, OW, N)
};

// The operands of a convolution, checked but for the shape of `packed`.
inline ConvOperands operands_of(const Conv& conv, const Tensor& x, const Tensor& packed,
                                const Tensor& bias, const std::optional<Tensor>& residual,
                                const std::string& op) {
  Tensor out = torch::stable::new_empty(x, {x.size(0), conv.OH, conv.OW, conv.N});
  STD_TORCH_CHECK(!residual || residual->numel() == out.numel(), "coldpress::", op,
                  ": residual must have the shape of the output");
  const auto read = [&](const Tensor& t, const char* name) {
    return packed_floats(t, (op + ": " + name).c_str());
  };
  return {read(x, "x"), read(packed, "packed"), read(bias, "bias"),
          residual ? read(*residual, "residual") : nullptr, out};
}

}  // namespace coldpress
