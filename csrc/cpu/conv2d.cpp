// conv2d: y = activation(conv(x, W) + bias [+ residual]) on channels-last images, as an implicit
// matrix product with W packed into panels of 64 output channels (ops/conv2d.py).
//
// Bound by FMA throughput. The block of core/conv.h gathers its rows through pointers, so the input
// is never copied. Weights that do not fit into L2 pass through it in chunks of whole segments,
// each used by 16 blocks of rows before the next: the partial sums wait in the output, and since
// storing a float loses nothing the chain of additions stays one.
//
// One core of a Zen 5 beside another busy one, single ResNet-50 layers in fp32: 223 to 251 of 286
// GFLOP/s (78 to 88 %) at 230 to 14 pixels, 199 to 213 at 7 x 7, 169 to 221 where a residual and a
// wide output bind it to memory; fetching the lines of both ahead was worth 9 % of the network. Few
// input channels leave a block little to do: 1 x 1 from 16, 32 or 96 channels 135, 172 and 220.
#include "core/conv_shape.h"
#include "core/kernel.h"

namespace coldpress {

// Output pixels [pixel, pixel + pixels) of one panel: `packed` (K, 64), `columns` of them real.
// bias, residual (may be null) and out begin at the panel's first channel. `zeros` holds C zeros.
COLDPRESS_KERNEL(conv2d_panel, const float* x, const Conv& conv, const float* zeros, int64_t pixel,
                 int64_t pixels, const float* packed, const float* bias, int64_t columns,
                 const float* residual, Activation activation, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/conv.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void conv2d_panel(const float* x, const Conv& conv, const float* zeros, int64_t pixel,
                  int64_t pixels, const float* packed, const float* bias, int64_t columns,
                  const float* residual, Activation activation, float* out) {
  convolve(activation, {x, conv, zeros, packed, bias, columns, residual, out, true}, pixel, pixels);
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_conv.h"

namespace coldpress {
namespace {

// Pixels a task takes at a time: a multiple of both register blocks (6 and 8 rows).
constexpr int64_t kTaskPixels = 96;
// Floats of weights that stay in L2 beside everything else; then all panels visit a tile of pixels
// before the next tile, else all tiles visit a panel.
constexpr int64_t kResident = 128 * 1024;

Tensor conv2d(const Tensor& x, const Tensor& packed, const Tensor& bias,
              const std::optional<Tensor>& residual, const std::vector<int64_t>& kernel,
              int64_t stride, const std::vector<int64_t>& padding, const std::string& activation) {
  const int64_t N = bias.numel();
  const Conv conv = conv_of(x, kernel, stride, padding, N, "conv2d");
  const int64_t K = conv.kernel_h * conv.kernel_w * conv.C, panels = ceil_div(N, kConvPanel);
  STD_TORCH_CHECK(packed.dim() == 3 && packed.size(0) == panels && packed.size(1) == K &&
                      packed.size(2) == kConvPanel,
                  "coldpress::conv2d: packed weights do not fit x, bias and kernel");
  ConvOperands at = operands_of(conv, x, packed, bias, residual, "conv2d");
  float* out_data = out_floats(at.out);
  const Activation epilogue = activation_named(activation);
  const auto run = COLDPRESS_SELECT(conv2d_panel);
  const Scratch zeros(conv.C);
  std::fill(zeros.get(), zeros.get() + conv.C, 0.0f);
  const int64_t pixels = x.size(0) * conv.OH * conv.OW, tiles = ceil_div(pixels, kTaskPixels);
  const bool resident = K * N <= kResident;
  for_each_task(panels * tiles, [&](int64_t task) {
    const int64_t panel = resident ? task % panels : task / tiles;
    const int64_t pixel = (resident ? task / panels : task % tiles) * kTaskPixels;
    const int64_t column = panel * kConvPanel;
    run(at.x, conv, zeros.get(), pixel, std::min(kTaskPixels, pixels - pixel),
        at.packed + panel * K * kConvPanel, at.bias + column, std::min(kConvPanel, N - column),
        at.residual ? at.residual + column : nullptr, epilogue, out_data + column);
  });
  return at.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("conv2d", TORCH_BOX(&conv2d)); }

}  // namespace coldpress
#endif
