// mlp_quantized: the feed-forward half of a transformer block, f(x) = activation(x U^T + u) D^T + d
// with residual and normalisation, both products in bytes or words (see core/linear_quantized.h).
//
// Bound by vpdpbusd throughput. A tile of rows goes all the way through, so that its hidden
// activations (48 x 1536 floats: 295 KB) never leave L2: the first product's epilogue writes them
// once, they become integers row by row, and the second product reads those.
//
// One core of a Zen 5, int8, peak 1,145 GOP/s: 885 to 925 at D = 384 (77 to 81 %), 980 to 1,000 at
// 768 (86 to 87 %). Of 12,300 cycles a row at D = 384 the products take 9,216, GELU 900, its
// quantisation 350, residual and normalisation 235. Tiles of 24 to 144 rows are equal, and so is
// fetching the next panel ahead. Against the separate ops: 19.5 -> 18.3 us a token for six layers
// of MiniLM, both in one run on a busy machine.
#include "core/kernel.h"
#include "core/quantized.h"

namespace coldpress {

// `rows` rows of x (rows, up.K) -> y alike. `scratch` holds mlp_scratch(rows, up.K, up.N) floats.
COLDPRESS_KERNEL(mlp_quantized_tile, const float* x, int64_t rows, const QuantizedWeights& up,
                 const QuantizedWeights& down, Activation activation, const Norm& norm,
                 float* scratch, float* y)

namespace {

constexpr int64_t mlp_scratch(int64_t rows, int64_t D, int64_t hidden) {
  return D + rows * hidden + quantized_scratch(rows, D) + quantized_scratch(rows, hidden);
}

}  // namespace
}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/residual_quantized.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void mlp_quantized_tile(const float* x, int64_t rows, const QuantizedWeights& up,
                        const QuantizedWeights& down, Activation activation, const Norm& norm,
                        float* scratch, float* y) {
  in_format(up, [&](auto format) {
    using F = decltype(format);
    const auto panels = [](const QuantizedWeights& w) {
      return (w.N + kPanelQuantized - 1) / kPanelQuantized;
    };
    const int64_t D = up.K;
    float* buffer = scratch;
    float* hidden = buffer + D;
    float* rest = hidden + rows * up.N;
    const QuantizedRows inputs = place_rows<F>(rest, rows, D);
    const QuantizedRows inner = place_rows<F>(rest + quantized_scratch(rows, D), rows, up.N);
    quantize_inputs<F>(x, rows, D, norm, buffer, inputs);
    linear_rows<F>(activation, inputs, rows, up, 0, panels(up), hidden, up.N);
    quantize_rows<F>(hidden, rows, up.N, inner);
    linear_rows<F, Activation::none>(inner, rows, down, 0, panels(down), y, D);
    finish_rows(x, rows, D, norm, y);
  });
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_quantized.h"

namespace coldpress {
namespace {

Tensor mlp_quantized(const Tensor& x, const Tensor& up, const Tensor& up_columns,
                     const Tensor& up_bias, const Tensor& down, const Tensor& down_columns,
                     const Tensor& down_bias, const std::string& activation,
                     const Tensor& norm_weight, const Tensor& norm_bias, double eps,
                     bool norm_first) {
  STD_TORCH_CHECK(x.dim() == 2 && down_bias.numel() == x.size(1),
                  "coldpress::mlp_quantized: x must be (T, D), and down must have D outputs");
  const int64_t T = x.size(0), D = x.size(1), hidden = up_bias.size(0);
  const QuantizedWeights first = quantized_weights(up, up_columns, up_bias, D, "mlp_quantized: up");
  const QuantizedWeights second =
      quantized_weights(down, down_columns, down_bias, hidden, "mlp_quantized: down");
  STD_TORCH_CHECK(first.words == second.words,
                  "coldpress::mlp_quantized: up and down must have the same type");
  const Norm norm = norm_of(norm_weight, norm_bias, eps, norm_first, D, "mlp_quantized");
  Tensor y = torch::stable::empty_like(x);
  const float* x_data = packed_floats(x, "mlp_quantized: x");
  float* y_data = out_floats(y);
  const Activation epilogue = activation_named(activation);
  const auto kernel = COLDPRESS_SELECT(mlp_quantized_tile);
  // Few rows: smaller tiles, down to one register block, so that every thread has one.
  const int64_t share = ceil_div(ceil_div(T, thread_count()), kBlockRows) * kBlockRows;
  const int64_t tile = std::clamp(share, kBlockRows, kTileRowsQuantized);
  for_each_task(ceil_div(T, tile), [&](int64_t task) {
    const int64_t row = task * tile, rows = std::min(tile, T - row);
    const Scratch scratch(mlp_scratch(rows, D, hidden));
    kernel(x_data + row * D, rows, first, second, epilogue, norm, scratch.get(), y_data + row * D);
  });
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("mlp_quantized", TORCH_BOX(&mlp_quantized)); }

}  // namespace coldpress
#endif
