// attention_quantized: the attention half of a transformer block with residual and normalisation,
// its projections in bytes or words (core/linear_quantized.h), scores and mixing on words
// (core/attention_words.h).
//
// Bound by vpdpbusd and vpdpwssd throughput. A task takes whole sequences, about a hundred tokens,
// all the way through. Queries, keys and values exist for 64 columns at a time (one head of 64, two
// of 32): 98 KB for 128 tokens, read from L2 with a stride of 768 bytes. As one matrix of 3 D
// columns they would be read back from L3, each row in a page of its own: 17.7 -> 15.4 us a token
// for six layers of MiniLM.
//
// One core of a Zen 5, int8, us a token and layer: 2.0 for texts of 104 tokens, D = 384 (1.0 of it
// the projections at their peak, 0.3 scores and mixing at theirs), 7.2 for 197 tokens, D = 768 (4.1
// and 1.1). With scores and mixing in fp32: 2.2 and 8.1.
#include "core/attention_scratch.h"
#include "core/kernel.h"
#include "core/quantized.h"

namespace coldpress {

// Sequences ends[0] .. ends[count] of x (tokens, D), ends[0] being its first row, -> y alike.
// key_bias (tokens) is added to the scores of each key, unless it is null. `scratch` holds
// block_scratch(tokens, longest, D) floats.
COLDPRESS_KERNEL(attention_quantized_tile, const float* x, const int32_t* ends, int64_t count,
                 int64_t heads, float scale, const QuantizedWeights& qkv,
                 const QuantizedWeights& out, const Norm& norm, const float* key_bias,
                 float* scratch, float* y)

namespace {

constexpr int64_t block_scratch(int64_t tokens, int64_t longest, int64_t D) {
  return D + quantized_scratch(tokens, D) + tokens * 3 * kPanelQuantized + tokens * D +
         attention_scratch_words(longest, kPanelQuantized);
}

}  // namespace
}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/attention_words.h"
#include "core/residual_quantized.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void attention_quantized_tile(const float* x, const int32_t* ends, int64_t count, int64_t heads,
                              float scale, const QuantizedWeights& qkv, const QuantizedWeights& out,
                              const Norm& norm, const float* key_bias, float* scratch, float* y) {
  in_format(qkv, [&](auto format) {
    using F = decltype(format);
    const int64_t tokens = ends[count] - ends[0], D = qkv.K, panels = D / kPanelQuantized;
    const int64_t width = D / heads, stride = 3 * kPanelQuantized;
    float* buffer = scratch;
    const QuantizedRows rows = place_rows<F>(buffer + D, tokens, D);
    float* projected = buffer + D + quantized_scratch(tokens, D);  // (tokens, 3, 64)
    float* mixed = projected + tokens * stride;                    // (tokens, D)
    float* work = mixed + tokens * D;
    quantize_inputs<F>(x, tokens, D, norm, buffer, rows);
    for (int64_t panel = 0; panel < panels; ++panel) {
      for (int64_t part = 0; part < 3; ++part) {
        const int64_t from = part * panels + panel;
        linear_rows<F, Activation::none>(rows, tokens, qkv, from, from + 1,
                                         projected + part * kPanelQuantized, stride);
      }
      for (int64_t b = 0; b < count; ++b) {
        const int64_t begin = ends[b] - ends[0], T = ends[b + 1] - ends[b];
        Distances everywhere = kEverywhere;
        if (key_bias != nullptr) everywhere.keys = key_bias + begin;
        for (int64_t at = 0; at < kPanelQuantized; at += width) {
          const float* q = projected + begin * stride + at;
          attend_head_words(q, stride, T, q + kPanelQuantized, q + 2 * kPanelQuantized, stride, T,
                            width, scale, work, mixed + begin * D + panel * kPanelQuantized + at, D,
                            everywhere);
        }
      }
    }
    quantize_rows<F>(mixed, tokens, D, rows);
    linear_rows<F, Activation::none>(rows, tokens, out, 0, panels, y, D);
    finish_rows(x, tokens, D, norm, y);
  });
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_quantized.h"

namespace coldpress {
namespace {

constexpr int64_t kGroupTokens = 96;  // enough rows for the weights that pass by, few enough for L2

// First sequence of each group of consecutive ones, and the number of sequences behind the last.
std::vector<int64_t> groups(const int32_t* ends, int64_t sequences) {
  std::vector<int64_t> firsts{0};
  for (int64_t b = 1; b < sequences; ++b) {
    if (ends[b] - ends[firsts.back()] >= kGroupTokens) firsts.push_back(b);
  }
  if (sequences > 0) firsts.push_back(sequences);
  return firsts;
}

Tensor attention_quantized(const Tensor& x, const Tensor& cu_seqlens, int64_t heads, double scale,
                           const Tensor& qkv, const Tensor& qkv_columns, const Tensor& qkv_bias,
                           const Tensor& out, const Tensor& out_columns, const Tensor& out_bias,
                           const Tensor& norm_weight, const Tensor& norm_bias, double eps,
                           bool norm_first, const std::optional<Tensor>& key_bias) {
  STD_TORCH_CHECK(x.dim() == 2, "coldpress::attention_quantized: x must be (T, D)");
  const int64_t T = x.size(0), D = x.size(1);
  STD_TORCH_CHECK(
      heads > 0 && D % kPanelQuantized == 0 && D % heads == 0 &&
          kPanelQuantized % (D / heads) == 0 && qkv_bias.numel() == 3 * D && out_bias.numel() == D,
      "coldpress::attention_quantized: D must be a multiple of 64, and 64 one of the head "
      "width; qkv and out must have 3 D and D outputs");
  const int32_t* ends = bounds(cu_seqlens, T, 0, "attention_quantized");
  const QuantizedWeights into =
      quantized_weights(qkv, qkv_columns, qkv_bias, D, "attention_quantized: qkv");
  const QuantizedWeights back =
      quantized_weights(out, out_columns, out_bias, D, "attention_quantized: out");
  STD_TORCH_CHECK(into.words == back.words,
                  "coldpress::attention_quantized: qkv and out must have the same type");
  const Norm norm = norm_of(norm_weight, norm_bias, eps, norm_first, D, "attention_quantized");
  const float* key_bias_data = optional_rows(key_bias, T, "attention_quantized: key_bias");
  Tensor y = torch::stable::empty_like(x);
  const float* x_data = packed_floats(x, "attention_quantized: x");
  float* y_data = out_floats(y);
  const auto kernel = COLDPRESS_SELECT(attention_quantized_tile);
  const std::vector<int64_t> firsts = groups(ends, cu_seqlens.numel() - 1);
  for_each_task(static_cast<int64_t>(firsts.size()) - 1, [&](int64_t task) {
    const int64_t first = firsts[task], count = firsts[task + 1] - first;
    const int64_t row = ends[first], tokens = ends[first + count] - row;
    int64_t longest = 0;
    for (int64_t b = first; b < first + count; ++b) {
      longest = std::max<int64_t>(longest, ends[b + 1] - ends[b]);
    }
    const Scratch scratch(block_scratch(tokens, longest, D));
    kernel(x_data + row * D, ends + first, count, heads, static_cast<float>(scale), into, back,
           norm, key_bias_data == nullptr ? nullptr : key_bias_data + row, scratch.get(),
           y_data + row * D);
  });
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) {
  m.impl("attention_quantized", TORCH_BOX(&attention_quantized));
}

}  // namespace coldpress
#endif
