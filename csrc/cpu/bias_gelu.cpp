// bias_gelu: gelu(x + bias), for matrix products whose epilogue cannot carry it.
//
// Bound by arithmetic (about 30 operations a value); one read and one write of x.
#include "core/kernel.h"

namespace coldpress {

COLDPRESS_KERNEL(bias_gelu_rows, const float* x, const float* bias, Activation activation,
                 int64_t rows, int64_t D, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void bias_gelu_rows(const float* x, const float* bias, Activation activation, int64_t rows,
                    int64_t D, float* out) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t d = 0; d < D; d += kLanes) {
      const int64_t at = row * D + d;
      const Vec sum = load_first(x + at, D - d) + load_first(bias + d, D - d);
      store_first(activate(activation, sum), out + at, D - d);
    }
  }
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch.h"

namespace coldpress {
namespace {

constexpr int64_t kTaskRows = 32;

Tensor bias_gelu(const Tensor& x, const Tensor& bias, bool tanh) {
  const int64_t D = x.size(-1), rows = row_count(x);
  STD_TORCH_CHECK(bias.numel() == D, "coldpress::bias_gelu: bias must have the width of x");
  Tensor out = torch::stable::empty_like(x);
  const float* x_data = packed_floats(x, "bias_gelu: x");
  const float* bias_data = packed_floats(bias, "bias_gelu: bias");
  float* out_data = out_floats(out);
  const auto kernel = COLDPRESS_SELECT(bias_gelu_rows);
  const Activation activation = tanh ? Activation::gelu_tanh : Activation::gelu;
  for_each_task(ceil_div(rows, kTaskRows), [&](int64_t task) {
    const int64_t row = task * kTaskRows;
    kernel(x_data + row * D, bias_data, activation, std::min(kTaskRows, rows - row), D,
           out_data + row * D);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("bias_gelu", TORCH_BOX(&bias_gelu)); }

}  // namespace coldpress
#endif
