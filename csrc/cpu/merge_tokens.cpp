// merge_tokens: the most similar patches of each image become one, as in ToMe (Bolya et al., 2023).
//
// Bound by the products of all pairs: half of the patches times the other half, the register block
// of core/gemm.h, 64 of them in the lanes. An image is a task, so that which patches meet and the
// order of every sum depend on it alone. One core of a Zen 5: 25 us for 196 patches of 768 numbers
// by keys of 64, of which 8 or 13 are merged.
#include "core/kernel.h"

namespace coldpress {

// What is done to one image.
struct Merge {
  int64_t tokens;  // with the first `prefix` of them left as they are
  int64_t prefix;
  int64_t width;   // of a token
  int64_t keys;    // width of what tokens are compared by
  int64_t merged;  // how many patches go into others, at most every second one
};

// x (tokens, width), keys (tokens, keys), sizes (tokens) -> the same without `merged` of the
// tokens. `scratch` holds merge_scratch(merge) floats.
COLDPRESS_KERNEL(merge_image, const Merge& merge, const float* x, const float* keys,
                 const int32_t* sizes, float* scratch, float* out, int32_t* out_sizes)

namespace {

// Even patches receive, odd ones are sent.
constexpr int64_t receivers(const Merge& merge) { return (merge.tokens - merge.prefix + 1) / 2; }
constexpr int64_t senders(const Merge& merge) { return (merge.tokens - merge.prefix) / 2; }

constexpr int64_t merge_scratch(const Merge& merge) {
  const int64_t lanes = (merge.keys + 15) / 16 * 16, block = (receivers(merge) + 63) / 64 * 64;
  return (merge.tokens - merge.prefix) * lanes + lanes * 64 + senders(merge) * (block + 2) +
         2 * receivers(merge);
}

}  // namespace
}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/attention_lanes.h"
#include "core/gemm.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

constexpr float kUnlike = -2.0f;  // below every cosine: what a key that is not a number has

// Where the parts lie in scratch memory; rows are those of the patches alone.
struct Parts {
  float* units;       // (patches, lanes): keys of length 1
  float* transposed;  // (lanes, 64)
  float* scores;      // (senders, block)
  float* best;        // (senders): greatest score of a row
  int32_t* target;    // (senders): its column, or -1 where the patch stays
  int32_t* gained;    // (receivers): sizes of what comes in
  int32_t* places;    // (receivers): row in the output
  int64_t lanes, block;
};

Parts place_parts(const Merge& merge, float* scratch) {
  Parts parts;
  const auto take = [&](int64_t count) {
    float* at = scratch;
    scratch += count;
    return at;
  };
  parts.lanes = round_up(merge.keys, kLanes);
  parts.block = round_up(receivers(merge), 64);
  parts.units = take((merge.tokens - merge.prefix) * parts.lanes);
  parts.transposed = take(parts.lanes * 64);
  parts.scores = take(senders(merge) * parts.block);
  parts.best = take(senders(merge));
  parts.target = reinterpret_cast<int32_t*>(take(senders(merge)));
  parts.gained = reinterpret_cast<int32_t*>(take(receivers(merge)));
  parts.places = reinterpret_cast<int32_t*>(take(receivers(merge)));
  return parts;
}

void normalize(const float* keys, int64_t patches, int64_t width, const Parts& parts) {
  for (int64_t i = 0; i < patches; ++i) {
    const float* key = keys + i * width;
    Vec squares = Vec::set(0.0f);
    for (int64_t d = 0; d < width; d += kLanes) {
      const Vec value = load_first(key + d, width - d);
      squares = fma(value, value, squares);
    }
    const float norm = __builtin_sqrtf(reduce_add(squares));
    const Vec scale = Vec::set(1.0f / (norm < 1e-12f ? 1e-12f : norm));
    for (int64_t d = 0; d < width; d += kLanes) {
      (load_first(key + d, width - d) * scale).store(parts.units + i * parts.lanes + d);
    }
  }
}

// Cosines (senders, block) of every odd patch with every even one.
void compare(const Merge& merge, const Parts& parts) {
  const int64_t stride = 2 * parts.lanes;
  for_each_query_block(receivers(merge), [&](auto vecs, int64_t first, int64_t n) {
    constexpr int V = decltype(vecs)::value;
    rows_to_lanes<V>(parts.units + first * stride, stride, n, merge.keys, parts.transposed,
                     [](Vec value, int64_t) { return value; });
    matmul<V>(parts.units + parts.lanes, stride, 1, parts.transposed, V * kLanes, senders(merge),
              merge.keys, [&](int64_t row, int64_t vec, Vec sum) {
                sum.store(parts.scores + row * parts.block + first + vec * kLanes);
              });
  });
}

// The `merged` senders with the greatest scores get the receiver they are most like; of equals, the
// first ones.
void match(const Merge& merge, const Parts& parts) {
  const int64_t rows = senders(merge), columns = receivers(merge);
  for (int64_t a = 0; a < rows; ++a) {
    const float* scores = parts.scores + a * parts.block;
    float best = kUnlike;
    int32_t target = 0;
    for (int64_t b = 0; b < columns; ++b) {
      if (scores[b] > best) {
        best = scores[b];
        target = static_cast<int32_t>(b);
      }
    }
    parts.best[a] = best;
    parts.target[a] = target;
  }
  for (int64_t a = 0; a < rows; ++a) {
    int64_t ahead = 0;
    for (int64_t other = 0; other < rows; ++other) {
      ahead +=
          parts.best[other] > parts.best[a] || (parts.best[other] == parts.best[a] && other < a);
    }
    if (ahead >= merge.merged) parts.target[a] = -1;
  }
}

// y = map(y, x) of rows of `width` floats.
template <class Map>
void update(float* y, const float* x, int64_t width, Map map) {
  for (int64_t d = 0; d < width; d += kLanes) {
    store_first(map(load_first(y + d, width - d), load_first(x + d, width - d)), y + d, width - d);
  }
}

Vec as_vec(int32_t value) { return Vec::set(static_cast<float>(value)); }

// What stays is copied in order; a receiver is the average of itself and, in order, of what it got,
// each as many times as it stands for patches.
void average(const Merge& merge, const float* x, const int32_t* sizes, const Parts& parts,
             float* out, int32_t* out_sizes) {
  const int64_t D = merge.width, patches = merge.tokens - merge.prefix;
  for (int64_t b = 0; b < receivers(merge); ++b) parts.gained[b] = 0;
  for (int64_t a = 0; a < senders(merge); ++a) {
    if (parts.target[a] >= 0) parts.gained[parts.target[a]] += sizes[merge.prefix + 2 * a + 1];
  }
  int64_t row = 0;
  const auto keep = [&](int64_t token, int32_t gained) {
    const Vec factor = as_vec(gained > 0 ? sizes[token] : 1);
    update(out + row * D, x + token * D, D, [=](Vec, Vec value) { return value * factor; });
    out_sizes[row++] = sizes[token] + gained;
  };
  for (int64_t token = 0; token < merge.prefix; ++token) keep(token, 0);
  for (int64_t i = 0; i < patches; ++i) {
    if (i % 2 == 0) {
      parts.places[i / 2] = static_cast<int32_t>(row);
      keep(merge.prefix + i, parts.gained[i / 2]);
    } else if (parts.target[i / 2] < 0) {
      keep(merge.prefix + i, 0);
    }
  }
  for (int64_t a = 0; a < senders(merge); ++a) {
    if (parts.target[a] < 0) continue;
    const int64_t token = merge.prefix + 2 * a + 1;
    const Vec size = as_vec(sizes[token]);
    update(out + parts.places[parts.target[a]] * D, x + token * D, D,
           [=](Vec sum, Vec value) { return fma(value, size, sum); });
  }
  for (int64_t b = 0; b < receivers(merge); ++b) {
    if (parts.gained[b] == 0) continue;
    float* sum = out + parts.places[b] * D;
    const Vec size = as_vec(out_sizes[parts.places[b]]);
    update(sum, sum, D, [=](Vec value, Vec) { return value / size; });
  }
}

}  // namespace

void merge_image(const Merge& merge, const float* x, const float* keys, const int32_t* sizes,
                 float* scratch, float* out, int32_t* out_sizes) {
  const Parts parts = place_parts(merge, scratch);
  normalize(keys + merge.prefix * merge.keys, merge.tokens - merge.prefix, merge.keys, parts);
  compare(merge, parts);
  match(merge, parts);
  average(merge, x, sizes, parts, out, out_sizes);
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include <tuple>

#include "core/launch.h"

namespace coldpress {
namespace {

std::tuple<Tensor, Tensor> merge_tokens(const Tensor& x, const Tensor& keys, const Tensor& sizes,
                                        const Tensor& cu_seqlens, int64_t prefix, int64_t merged) {
  STD_TORCH_CHECK(x.dim() == 2 && keys.dim() == 2 && keys.size(0) == x.size(0) &&
                      sizes.numel() == x.size(0) && prefix >= 0 && merged >= 0,
                  "coldpress::merge_tokens: x must be (T, D), keys (T, W), sizes (T,)");
  STD_TORCH_CHECK(sizes.scalar_type() == ScalarType::Int && sizes.is_cpu() && sizes.is_contiguous(),
                  "coldpress::merge_tokens: sizes must be a contiguous int32 tensor on the CPU");
  const int64_t T = x.size(0), D = x.size(1), W = keys.size(1), B = cu_seqlens.numel() - 1;
  const int32_t* ends = bounds(cu_seqlens, T, prefix + 2 * merged, "merge_tokens");
  Tensor out = torch::stable::new_empty(x, {T - B * merged, D});
  Tensor out_sizes = torch::stable::new_empty(sizes, {T - B * merged});
  const float* x_data = packed_floats(x, "merge_tokens: x");
  const float* keys_data = packed_floats(keys, "merge_tokens: keys");
  const auto* sizes_data = static_cast<const int32_t*>(sizes.const_data_ptr());
  float* out_data = out_floats(out);
  auto* out_sizes_data = static_cast<int32_t*>(out_sizes.mutable_data_ptr());
  const auto kernel = COLDPRESS_SELECT(merge_image);
  for_each_task(B, [&](int64_t b) {
    const int64_t first = ends[b], row = first - b * merged;
    const Merge merge{ends[b + 1] - first, prefix, D, W, merged};
    const Scratch scratch(merge_scratch(merge));
    kernel(merge, x_data + first * D, keys_data + first * W, sizes_data + first, scratch.get(),
           out_data + row * D, out_sizes_data + row);
  });
  return {out, out_sizes};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("merge_tokens", TORCH_BOX(&merge_tokens)); }

}  // namespace coldpress
#endif
