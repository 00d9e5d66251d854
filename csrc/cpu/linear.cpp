// linear: y = activation(x W^T + bias) with W packed into panels of 64 columns (ops/linear.py).
//
// Bound by FMA throughput. A panel (K x 64 floats, 96 KB at K = 384) stays in L2 while row blocks
// of x pass over it; a 6 x K strip of x stays in L1. Bias and activation are applied in registers,
// so the output is written once. One core of a Zen 5: 265 to 277 of 286 GFLOP/s (93 to 97 %).
#include "core/kernel.h"

namespace coldpress {

constexpr int64_t kPanel = 64;

// Rows [0, rows) of one panel of columns: `packed` (K, 64), `columns` of them real.
COLDPRESS_KERNEL(linear_panel, const float* x, int64_t rows, int64_t K, const float* packed,
                 const float* bias, int64_t columns, Activation activation, float* out,
                 int64_t out_stride)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/gemm.h"
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

template <Activation activation>
void panel(const float* x, int64_t rows, int64_t K, const float* packed, const float* bias,
           int64_t columns, float* out, int64_t out_stride) {
  const auto from = [&](int64_t first) {
    return [=](int64_t row, int64_t vec, Vec sum) {
      const int64_t at = first + vec * kLanes, left = columns - at;
      sum = activate(activation, sum + load_first(bias + at, left));
      store_first(sum, out + row * out_stride + at, left);
    };
  };
  int64_t at = 0;
  for (; at + kTileVecs * kLanes <= round_up(columns, kLanes); at += kTileVecs * kLanes) {
    matmul<kTileVecs>(x, K, 1, packed + at, kPanel, rows, K, from(at));
  }
  for (; at < columns; at += kLanes) matmul<1>(x, K, 1, packed + at, kPanel, rows, K, from(at));
}

}  // namespace

void linear_panel(const float* x, int64_t rows, int64_t K, const float* packed, const float* bias,
                  int64_t columns, Activation activation, float* out, int64_t out_stride) {
  with_activation(activation, [&](auto known) {
    panel<known()>(x, rows, K, packed, bias, columns, out, out_stride);
  });
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch.h"

namespace coldpress {
namespace {

// Rows a task takes at a time: a multiple of the 6-row register block, small enough that one text
// of thirty tokens still feeds several threads through its panels.
constexpr int64_t kTaskRows = 96;

Tensor linear(const Tensor& x, const Tensor& packed, const Tensor& bias,
              const std::string& activation) {
  const int64_t M = x.size(0), K = x.size(1), N = bias.size(0), panels = packed.size(0);
  STD_TORCH_CHECK(x.dim() == 2 && bias.dim() == 1 && packed.dim() == 3 && packed.size(1) == K &&
                      packed.size(2) == kPanel && panels == ceil_div(N, kPanel),
                  "coldpress::linear: packed weights do not fit x (M, K) and bias (N)");
  Tensor out = torch::stable::new_empty(x, {M, N});
  const float* x_data = packed_floats(x, "linear: x");
  const float* w_data = packed_floats(packed, "linear: packed");
  const float* b_data = packed_floats(bias, "linear: bias");
  float* out_data = out_floats(out);
  const Activation epilogue = activation_named(activation);
  const auto kernel = COLDPRESS_SELECT(linear_panel);
  const int64_t blocks = ceil_div(M, kTaskRows);
  for_each_task(panels * blocks, [&](int64_t task) {
    const int64_t panel = task / blocks, row = task % blocks * kTaskRows;
    const int64_t rows = std::min(kTaskRows, M - row), column = panel * kPanel;
    kernel(x_data + row * K, rows, K, w_data + panel * K * kPanel, b_data + column,
           std::min(kPanel, N - column), epilogue, out_data + row * N + column, N);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("linear", TORCH_BOX(&linear)); }

}  // namespace coldpress
#endif
