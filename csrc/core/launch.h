// What every launcher needs from torch, and nothing a kernel may see.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/kernel.h"

namespace coldpress {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Tensors arrive already validated by the Python wrapper of the op (ops/<op>.py), which gives the
// messages; these checks only keep a direct call of torch.ops.coldpress.* memory-safe.
// `what` is op and argument, as in "linear: x".
inline const float* floats(const Tensor& t, const char* what) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float && t.is_cpu(), "coldpress::", what,
                  " must be a float32 tensor on the CPU, like every other argument");
  return static_cast<const float*>(t.const_data_ptr());
}

inline const float* packed_floats(const Tensor& t, const char* what) {
  STD_TORCH_CHECK(t.is_contiguous(), "coldpress::", what,
                  " must be contiguous; pass .contiguous()");
  return floats(t, what);
}

// A number for each of `rows`, or null where there is no tensor.
inline const float* optional_rows(const std::optional<Tensor>& t, int64_t rows, const char* what) {
  if (!t.has_value()) return nullptr;
  STD_TORCH_CHECK(t->dim() == 1 && t->numel() == rows, "coldpress::", what, " must be (", rows,
                  ",)");
  return packed_floats(*t, what);
}

inline float* out_floats(Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

// cu_seqlens (B + 1), checked to cut `tokens` into B sequences of at least `shortest` tokens.
inline const int32_t* bounds(const Tensor& t, int64_t tokens, int64_t shortest, const char* op) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Int && t.is_cpu() && t.is_contiguous() &&
                      t.dim() == 1 && t.numel() >= 1,
                  "coldpress::", op, ": cu_seqlens must be a contiguous int32 vector on the CPU");
  const auto* ends = static_cast<const int32_t*>(t.const_data_ptr());
  const int64_t B = t.numel() - 1;
  STD_TORCH_CHECK(ends[0] == 0 && ends[B] == tokens, "coldpress::", op,
                  ": cu_seqlens must run from 0 to the number of tokens, ", tokens);
  for (int64_t b = 0; b < B; ++b) {
    STD_TORCH_CHECK(ends[b + 1] - ends[b] >= shortest, "coldpress::", op, ": sequence ", b, " has ",
                    ends[b + 1] - ends[b], " tokens, expected at least ", shortest);
  }
  return ends;
}

// Rows of a tensor (..., D); none where D is 0.
inline int64_t row_count(const Tensor& t) { return t.size(-1) > 0 ? t.numel() / t.size(-1) : 0; }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline Activation activation_named(const std::string& name) {
  if (name == "none") return Activation::none;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_tanh") return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  if (name == "relu6") return Activation::relu6;
  if (name == "quick_gelu") return Activation::quick_gelu;
  STD_TORCH_CHECK(name == "silu", "coldpress: unknown activation ", name);
  return Activation::silu;
}

// Runs task(i) for 0 <= i < n on torch's own threads (torch.set_num_threads), each thread taking
// the next one when it is free. Tasks write disjoint outputs, so the schedule cannot change a
// result.
template <class Task>
void for_each_task(int64_t n, const Task& task) {
  if (n == 1) return task(0);
  std::atomic<int64_t> next{0};
  const int64_t workers = std::min<int64_t>(n, torch::stable::get_num_threads());
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t i = next++; i < n; i = next++) task(i);
    }
  });
}

// Scratch memory of one task, 64-byte aligned.
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<float*>(::operator new(count * sizeof(float), kAlign))) {}
  ~Scratch() { ::operator delete(data_, kAlign); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* get() const { return data_; }

 private:
  static constexpr std::align_val_t kAlign{64};
  float* data_;
};

}  // namespace coldpress
