// What the launchers of the quantised products share.
#pragma once

#include "core/launch.h"
#include "core/quantized.h"

namespace coldpress {

constexpr int64_t kBlockRows = 6;  // rows of a register block
constexpr int64_t kTileRowsQuantized =
    48;  // rows that stay in L2 from one end of an op to the other

inline int64_t thread_count() { return torch::stable::get_num_threads(); }

inline QuantizedWeights quantized_weights(const Tensor& packed, const Tensor& columns,
                                          const Tensor& bias, int64_t K, const char* what) {
  const int64_t N = bias.size(0), panels = ceil_div(N, kPanelQuantized);
  STD_TORCH_CHECK(K > 0 && K <= 65536, "coldpress::", what, ": K is ", K, ", expected 1 to 65536");
  const bool words = packed.scalar_type() == ScalarType::Short;
  const int64_t group = words ? 2 : 4;
  STD_TORCH_CHECK((words || packed.scalar_type() == ScalarType::Char) && packed.is_cpu() &&
                      packed.is_contiguous() && packed.dim() == 4 && packed.size(0) == panels &&
                      packed.size(1) == ceil_div(K, group) && packed.size(2) == kPanelQuantized &&
                      packed.size(3) == group && columns.dim() == 2 && columns.size(0) == 2 &&
                      columns.size(1) == panels * kPanelQuantized && bias.dim() == 1,
                  "coldpress::", what, ": packed weights do not fit x (M, K) and bias (N)");
  const float* scales = packed_floats(columns, what);
  return {static_cast<const int32_t*>(packed.const_data_ptr()),
          scales,
          scales + panels * kPanelQuantized,
          packed_floats(bias, what),
          K,
          N,
          words};
}

inline Norm norm_of(const Tensor& weight, const Tensor& bias, double eps, bool first, int64_t D,
                    const char* op) {
  STD_TORCH_CHECK(weight.numel() == D && bias.numel() == D, "coldpress::", op,
                  ": weight and bias of the normalisation must have the width of x");
  return {packed_floats(weight, op), packed_floats(bias, op), static_cast<float>(eps), first};
}

}  // namespace coldpress
