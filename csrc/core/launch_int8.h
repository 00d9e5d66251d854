// What the launchers of the int8 products share.
#pragma once

#include "core/launch.h"
#include "core/packed_int8.h"

namespace coldpress {

constexpr int64_t kBlockInt8 = 6;  // rows of a register block
constexpr int64_t kTileInt8 = 48;  // rows that stay in L2 from one end of an op to the other

inline int64_t thread_count() { return torch::stable::get_num_threads(); }

inline PackedInt8 packed_int8(const Tensor& packed, const Tensor& columns, const Tensor& bias,
                              int64_t K, const char* what) {
  const int64_t N = bias.size(0), panels = ceil_div(N, kPanelInt8);
  STD_TORCH_CHECK(K > 0 && K <= 65536, "coldpress::", what, ": K is ", K, ", expected 1 to 65536");
  STD_TORCH_CHECK(packed.scalar_type() == ScalarType::Char && packed.is_cpu() &&
                      packed.is_contiguous() && packed.dim() == 4 && packed.size(0) == panels &&
                      packed.size(1) == ceil_div(K, 4) && packed.size(2) == kPanelInt8 &&
                      packed.size(3) == 4 && columns.dim() == 2 && columns.size(0) == 2 &&
                      columns.size(1) == panels * kPanelInt8 && bias.dim() == 1,
                  "coldpress::", what, ": packed weights do not fit x (M, K) and bias (N)");
  const float* scales = packed_floats(columns, what);
  return {static_cast<const int8_t*>(packed.const_data_ptr()),
          scales,
          scales + panels * kPanelInt8,
          packed_floats(bias, what),
          K,
          N};
}

inline Norm norm_of(const Tensor& weight, const Tensor& bias, double eps, bool first, int64_t D,
                    const char* op) {
  STD_TORCH_CHECK(weight.numel() == D && bias.numel() == D, "coldpress::", op,
                  ": weight and bias of the normalisation must have the width of x");
  return {packed_floats(weight, op), packed_floats(bias, op), static_cast<float>(eps), first};
}

}  // namespace coldpress
