// varlen_attention: softmax(Q K^T * scale) V inside each sequence of a packed batch, no padding, in
// fp32 (core/attention.h) or on words (core/attention_words.h).
//
// A query may be kept from keys far from it (a window), and a bias by distance or of each key added
// to scores.
//
// Bound by FMA or vpdpwssd throughput and by the exponential. One head of a sequence is a task.
#include "core/distances.h"
#include "core/kernel.h"

namespace coldpress {

// One head: `queries` rows q, T rows k and v. `scratch` holds attention_scratch(T, width) floats,
// attention_scratch_words(T, width) for words.
COLDPRESS_KERNEL(attention_head, const float* q, int64_t q_stride, int64_t queries, const float* k,
                 const float* v, int64_t stride, int64_t T, int64_t width, float scale, bool words,
                 float* scratch, float* out, int64_t out_stride, const Distances& distances)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/attention.h"
#include "core/attention_words.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void attention_head(const float* q, int64_t q_stride, int64_t queries, const float* k,
                    const float* v, int64_t stride, int64_t T, int64_t width, float scale,
                    bool words, float* scratch, float* out, int64_t out_stride,
                    const Distances& distances) {
  const auto attend = words ? attend_head_words : attend_head;
  attend(q, q_stride, queries, k, v, stride, T, width, scale, scratch, out, out_stride, distances);
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/attention_scratch.h"
#include "core/launch.h"

namespace coldpress {
namespace {

// Rows (T, H, D) whose heads and widths lie contiguous.
void check_rows(const Tensor& t, int64_t tokens, int64_t heads, int64_t width, int64_t stride) {
  STD_TORCH_CHECK(
      t.dim() == 3 && t.size(0) == tokens && t.size(1) == heads && t.size(2) == width &&
          (tokens < 2 || t.stride(0) == stride) && (heads < 2 || t.stride(1) == width) &&
          (width < 2 || t.stride(2) == 1),
      "coldpress::varlen_attention: k and v must be (T, H, D) alike, with one stride between "
      "tokens, q (Tq, H, D), all with contiguous heads and widths; pass .contiguous() of all "
      "three");
}

struct Biases {
  const float* data = nullptr;
  int64_t reach = 0;
};

// bias (H, 2 * reach + 1).
Biases biases_of(const std::optional<Tensor>& bias, int64_t heads) {
  if (!bias.has_value()) return {};
  STD_TORCH_CHECK(bias->dim() == 2 && bias->size(0) == heads && bias->size(1) % 2 == 1,
                  "coldpress::varlen_attention: bias must be (H, 2 * reach + 1)");
  return {packed_floats(*bias, "varlen_attention: bias"), bias->size(1) / 2};
}

// Distances are between tokens, so every token is a query, and no two are farther apart than the
// bias reaches.
void check_distances(const int32_t* ends, const int32_t* q_ends, int64_t sequences, int64_t reach) {
  for (int64_t b = 0; b < sequences; ++b) {
    STD_TORCH_CHECK(ends[b + 1] == q_ends[b + 1] && ends[b + 1] - ends[b] <= reach + 1,
                    "coldpress::varlen_attention: with bias or window every token must be a query, "
                    "and no sequence be longer than bias reaches");
  }
}

Tensor varlen_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens,
                        const Tensor& cu_seqlens_q, double scale, bool words,
                        const std::optional<Tensor>& bias, int64_t left, int64_t right,
                        const std::optional<Tensor>& key_bias) {
  const int64_t queries = q.size(0), tokens = k.size(0), heads = q.size(1), width = q.size(2);
  const int64_t q_stride = q.stride(0), stride = k.stride(0);
  check_rows(q, queries, heads, width, q_stride);
  check_rows(k, tokens, heads, width, stride);
  check_rows(v, tokens, heads, width, stride);
  const int32_t* ends = bounds(cu_seqlens, tokens, 0, "varlen_attention");
  const int32_t* q_ends = bounds(cu_seqlens_q, queries, 0, "varlen_attention");
  const int64_t sequences = cu_seqlens.numel() - 1;
  STD_TORCH_CHECK(cu_seqlens_q.numel() == cu_seqlens.numel(),
                  "coldpress::varlen_attention: cu_seqlens must bound as many sequences as for q");
  const Biases biases = biases_of(bias, heads);
  Distances distances{nullptr, biases.reach, left < 0 ? kUnbounded : left,
                      right < 0 ? kUnbounded : right};
  if (bias.has_value() || matter(distances)) {
    check_distances(ends, q_ends, sequences, bias.has_value() ? biases.reach : tokens);
  }
  const float* key_bias_data = optional_rows(key_bias, tokens, "varlen_attention: key_bias");
  Tensor out = torch::stable::new_empty(q, {queries, heads * width});
  const float* q_data = floats(q, "varlen_attention: q");
  const float* k_data = floats(k, "varlen_attention: k");
  const float* v_data = floats(v, "varlen_attention: v");
  float* out_data = out_floats(out);
  const auto kernel = COLDPRESS_SELECT(attention_head);
  for_each_task(sequences * heads, [&](int64_t task) {
    const int64_t sequence = task / heads, head = task % heads;
    const int64_t begin = ends[sequence], T = ends[sequence + 1] - begin;
    const int64_t first = q_ends[sequence], n = q_ends[sequence + 1] - first;
    const int64_t at = begin * stride + head * width;
    Distances near = distances;
    if (biases.data != nullptr) near.bias = biases.data + head * (2 * near.reach + 1) + near.reach;
    if (key_bias_data != nullptr) near.keys = key_bias_data + begin;
    const Scratch scratch(words ? attention_scratch_words(T, width) : attention_scratch(T, width));
    kernel(q_data + first * q_stride + head * width, q_stride, n, k_data + at, v_data + at, stride,
           T, width, static_cast<float>(scale), words, scratch.get(),
           out_data + (first * heads + head) * width, heads * width, near);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) {
  m.impl("varlen_attention", TORCH_BOX(&varlen_attention));
}

}  // namespace coldpress
#endif
