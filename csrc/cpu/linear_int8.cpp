// linear_int8: y = activation(x W^T + bias), the product in bytes (see core/gemm_int8.h).
//
// Bound by vpdpbusd throughput. A task quantises a tile of rows into L1 and takes it through all
// panels; a panel (24 KB at K = 384) stays in L1 while row blocks pass over it.
//
// One core of a Zen 5, register-loop peak 1,145 GOP/s: the inner loop runs at 99 % of it; with
// quantising and dequantising 950 at (1024, 384, 1152) (83 %), 1,000 at (1576, 768, 2304) (87 %).
// Tiles of 24 to 192 rows are equal within 5 %, the noise of these runs.
#include "core/kernel.h"
#include "core/packed_int8.h"

namespace coldpress {

// Panels [first, last) for `rows` rows of x (rows, K); out is (rows, N). `scratch` holds
// int8_scratch(rows, K) floats.
COLDPRESS_KERNEL(linear_int8_tile, const float* x, int64_t rows, const PackedInt8& w, int64_t first,
                 int64_t last, Activation activation, float* scratch, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/gemm_int8.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void linear_int8_tile(const float* x, int64_t rows, const PackedInt8& w, int64_t first,
                      int64_t last, Activation activation, float* scratch, float* out) {
  const QuantizedRows quantized = place_rows(scratch, rows, w.K);
  for (int64_t row = 0; row < rows; ++row) quantize_row(x + row * w.K, w.K, quantized, row);
  linear_rows_int8(activation, quantized, rows, w, first, last, out + first * kPanelInt8, w.N);
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_int8.h"

namespace coldpress {
namespace {

Tensor linear_int8(const Tensor& x, const Tensor& packed, const Tensor& columns, const Tensor& bias,
                   const std::string& activation) {
  STD_TORCH_CHECK(x.dim() == 2, "coldpress::linear_int8: x must be (M, K)");
  const int64_t M = x.size(0), K = x.size(1), N = bias.size(0);
  const PackedInt8 w = packed_int8(packed, columns, bias, K, "linear_int8");
  Tensor out = torch::stable::new_empty(x, {M, N});
  const float* x_data = packed_floats(x, "linear_int8: x");
  float* out_data = out_floats(out);
  const Activation epilogue = activation_named(activation);
  const auto kernel = COLDPRESS_SELECT(linear_int8_tile);
  const int64_t tiles = ceil_div(M, kTileInt8), panels = ceil_div(N, kPanelInt8);
  // Few rows: threads share the panels of a tile, each quantising it for itself.
  const int64_t splits = tiles == 0 ? 1 : std::min(panels, ceil_div(thread_count(), tiles));
  for_each_task(tiles * splits, [&](int64_t task) {
    const int64_t row = task / splits * kTileInt8, rows = std::min(kTileInt8, M - row);
    const int64_t first = task % splits * panels / splits;
    const int64_t last = (task % splits + 1) * panels / splits;
    const Scratch scratch(int8_scratch(rows, K));
    kernel(x_data + row * K, rows, w, first, last, epilogue, scratch.get(), out_data + row * N);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("linear_int8", TORCH_BOX(&linear_int8)); }

}  // namespace coldpress
#endif
