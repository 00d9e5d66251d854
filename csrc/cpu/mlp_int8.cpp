// mlp_int8: activation(x U^T + u) D^T + d, both products in bytes (see core/gemm_int8.h).
//
// Bound by vpdpbusd throughput. A tile of rows goes through both layers at once, so that its hidden
// activations (48 x 1536 floats: 295 KB) never leave L2: they are written once as floats by the
// first product's epilogue, quantised row by row, and read as bytes by the second.
#include "core/kernel.h"

namespace coldpress {

struct PackedInt8;

// `rows` rows of x (rows, up.K) -> out (rows, down.N), up.N = down.K. `scratch` holds the floats
// (rows, up.N) and twice int8_scratch of them.
COLDPRESS_KERNEL(mlp_int8_tile, const float* x, int64_t rows, const PackedInt8& up,
                 const PackedInt8& down, Activation activation, float* scratch, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/gemm_int8.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void mlp_int8_tile(const float* x, int64_t rows, const PackedInt8& up, const PackedInt8& down,
                   Activation activation, float* scratch, float* out) {
  const auto panels = [](const PackedInt8& w) { return (w.N + kPanelInt8 - 1) / kPanelInt8; };
  float* hidden = scratch;
  const QuantizedRows inputs = place_rows(hidden + rows * up.N, rows, up.K);
  const QuantizedRows inner =
      place_rows(hidden + rows * up.N + int8_scratch(rows, up.K), rows, up.N);
  for (int64_t row = 0; row < rows; ++row) quantize_row(x + row * up.K, up.K, inputs, row);
  linear_rows_int8(activation, inputs, rows, up, 0, panels(up), hidden, up.N);
  for (int64_t row = 0; row < rows; ++row) quantize_row(hidden + row * up.N, up.N, inner, row);
  linear_rows_int8(Activation::none, inner, rows, down, 0, panels(down), out, down.N);
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_int8.h"

namespace coldpress {
namespace {

Tensor mlp_int8(const Tensor& x, const Tensor& up, const Tensor& up_columns, const Tensor& up_bias,
                const Tensor& down, const Tensor& down_columns, const Tensor& down_bias,
                const std::string& activation) {
  STD_TORCH_CHECK(x.dim() == 2, "coldpress::mlp_int8: x must be (M, K)");
  const int64_t M = x.size(0), K = x.size(1), hidden = up_bias.size(0), N = down_bias.size(0);
  const PackedInt8 first = packed_int8(up, up_columns, up_bias, K, "mlp_int8: up");
  const PackedInt8 second = packed_int8(down, down_columns, down_bias, hidden, "mlp_int8: down");
  Tensor out = torch::stable::new_empty(x, {M, N});
  const float* x_data = packed_floats(x, "mlp_int8: x");
  float* out_data = out_floats(out);
  const Activation epilogue = activation_named(activation);
  const auto kernel = COLDPRESS_SELECT(mlp_int8_tile);
  // Few rows: smaller tiles, down to one register block, so that every thread has one.
  const int64_t share = ceil_div(ceil_div(M, thread_count()), kBlockInt8) * kBlockInt8;
  const int64_t tile = std::clamp(share, kBlockInt8, kTileInt8);
  for_each_task(ceil_div(M, tile), [&](int64_t task) {
    const int64_t row = task * tile, rows = std::min(tile, M - row);
    const Scratch scratch(rows * hidden + int8_scratch(rows, K) + int8_scratch(rows, hidden));
    kernel(x_data + row * K, rows, first, second, epilogue, scratch.get(), out_data + row * N);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("mlp_int8", TORCH_BOX(&mlp_int8)); }

}  // namespace coldpress
#endif
