// layer_norm: normalised = (s - mean) / sqrt(var + eps) * weight + bias with s = x + residual.
//
// Bound by memory: a row is read once into L1, then passed over three times there (sum, squared
// deviations, scale). Two passes for the variance instead of E[x^2] - E[x]^2: no cancellation.
#include "core/kernel.h"

namespace coldpress {

// `residual` and `summed` may be null together; every pointer addresses (rows, D) contiguous
// floats.
COLDPRESS_KERNEL(layer_norm_rows, const float* x, const float* residual, const float* weight,
                 const float* bias, float eps, int64_t rows, int64_t D, float* normed,
                 float* summed)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/norm.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
void layer_norm_rows(const float* x, const float* residual, const float* weight, const float* bias,
                     float eps, int64_t rows, int64_t D, float* normed, float* summed) {
  const Norm norm{weight, bias, eps, false};
  for (int64_t row = 0; row < rows; ++row) {
    const float* values = x + row * D;
    if (residual != nullptr) {
      add_row(values, residual + row * D, D, summed + row * D);
      values = summed + row * D;
    }
    normalise_row(values, norm, D, normed + row * D);
  }
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch.h"

namespace coldpress {
namespace {

constexpr int64_t kTaskRows = 64;

void run(const Tensor& x, const float* residual, const Tensor& weight, const Tensor& bias,
         double eps, Tensor& normed, float* summed) {
  const int64_t D = x.size(-1), rows = row_count(x);
  STD_TORCH_CHECK(weight.numel() == D && bias.numel() == D,
                  "coldpress::layer_norm: weight and bias must have the width of x");
  const float* x_data = packed_floats(x, "layer_norm: x");
  const float* w_data = packed_floats(weight, "layer_norm: weight");
  const float* b_data = packed_floats(bias, "layer_norm: bias");
  float* normed_data = out_floats(normed);
  const auto kernel = COLDPRESS_SELECT(layer_norm_rows);
  for_each_task(ceil_div(rows, kTaskRows), [&](int64_t task) {
    const int64_t at = task * kTaskRows * D;
    kernel(x_data + at, residual ? residual + at : nullptr, w_data, b_data, static_cast<float>(eps),
           std::min(kTaskRows, rows - task * kTaskRows), D, normed_data + at,
           summed ? summed + at : nullptr);
  });
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  Tensor normed = torch::stable::empty_like(x);
  run(x, nullptr, weight, bias, eps, normed, nullptr);
  return normed;
}

std::tuple<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& residual,
                                          const Tensor& weight, const Tensor& bias, double eps) {
  STD_TORCH_CHECK(residual.numel() == x.numel(),
                  "coldpress::add_layer_norm: residual must have the shape of x");
  Tensor normed = torch::stable::empty_like(x);
  Tensor summed = torch::stable::empty_like(x);
  run(x, packed_floats(residual, "add_layer_norm: residual"), weight, bias, eps, normed,
      out_floats(summed));
  return {normed, summed};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) {
  m.impl("layer_norm", TORCH_BOX(&layer_norm));
  m.impl("add_layer_norm", TORCH_BOX(&add_layer_norm));
}

}  // namespace coldpress
#endif
