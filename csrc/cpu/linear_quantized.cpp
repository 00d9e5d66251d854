// linear_quantized: y = activation(x W^T + bias), the product in bytes or words (see
// core/linear_quantized.h).
//
// Bound by vpdpbusd (vpdpwssd) throughput. A task quantises a tile of rows into L1 and takes it
// through all panels; a panel (24 KB at K = 384) stays in L1 while row blocks pass over it.
//
// One core of a Zen 5, register-loop peak 1,145 GOP/s: the inner loop runs at 99 % of it; with
// quantising and dequantising 950 at (1024, 384, 1152) (83 %), 1,000 at (1576, 768, 2304) (87 %).
// Tiles of 24 to 192 rows are equal within 5 %, the noise of these runs. Words: 465 to 490 of 573
// (81 to 85 %), 1.9 times fp32; every 128 products their sums go to memory, which costs 6 %.
#include "core/kernel.h"
#include "core/quantized.h"

namespace coldpress {

// Panels [first, last) for `rows` rows of x (rows, K); out is (rows, N). `scratch` holds
// quantized_scratch(rows, K) floats.
COLDPRESS_KERNEL(linear_quantized_tile, const float* x, int64_t rows, const QuantizedWeights& w,
                 int64_t first, int64_t last, Activation activation, float* scratch, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/linear_quantized.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void linear_quantized_tile(const float* x, int64_t rows, const QuantizedWeights& w, int64_t first,
                           int64_t last, Activation activation, float* scratch, float* out) {
  in_format(w, [&](auto format) {
    using F = decltype(format);
    const QuantizedRows quantized = place_rows<F>(scratch, rows, w.K);
    quantize_rows<F>(x, rows, w.K, quantized);
    linear_rows<F>(activation, quantized, rows, w, first, last, out + first * kPanelQuantized, w.N);
  });
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_quantized.h"

namespace coldpress {
namespace {

Tensor linear_quantized(const Tensor& x, const Tensor& packed, const Tensor& columns,
                        const Tensor& bias, const std::string& activation) {
  STD_TORCH_CHECK(x.dim() == 2, "coldpress::linear_quantized: x must be (M, K)");
  const int64_t M = x.size(0), K = x.size(1), N = bias.size(0);
  const QuantizedWeights w = quantized_weights(packed, columns, bias, K, "linear_quantized");
  Tensor out = torch::stable::new_empty(x, {M, N});
  const float* x_data = packed_floats(x, "linear_quantized: x");
  float* out_data = out_floats(out);
  const Activation epilogue = activation_named(activation);
  const auto kernel = COLDPRESS_SELECT(linear_quantized_tile);
  const int64_t tiles = ceil_div(M, kTileRowsQuantized), panels = ceil_div(N, kPanelQuantized);
  // Few rows: threads share the panels of a tile, each quantising it for itself.
  const int64_t splits = tiles == 0 ? 1 : std::min(panels, ceil_div(thread_count(), tiles));
  for_each_task(tiles * splits, [&](int64_t task) {
    const int64_t row = task / splits * kTileRowsQuantized,
                  rows = std::min(kTileRowsQuantized, M - row);
    const int64_t first = task % splits * panels / splits;
    const int64_t last = (task % splits + 1) * panels / splits;
    const Scratch scratch(quantized_scratch(rows, K));
    kernel(x_data + row * K, rows, w, first, last, epilogue, scratch.get(), out_data + row * N);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) {
  m.impl("linear_quantized", TORCH_BOX(&linear_quantized));
}

}  // namespace coldpress
#endif
