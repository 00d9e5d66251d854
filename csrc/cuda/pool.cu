// pool on CUDA: mean, first or last token of each sequence, L2-normalised and cast in one pass.
//
// Bound by memory: every token vector is read once. One block owns a sequence and a thread owns
// columns, so tokens are read coalesced and added without a reduction across threads, in blocks of
// 32 and then the blocks, as on the CPU; the pooled row waits in shared memory, in float32, for its
// norm. Long sequences in a small batch leave the GPU half empty: splitting them would tie the
// order of the sum to the batch. Gain: not yet measured.
#include "cuda/common.cuh"

namespace coldpress {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int64_t kBlock = 32;  // of tokens
constexpr int64_t kSharedFloats = 48 * 1024 / sizeof(float) - kWarps;

enum class Pooling { mean, cls, last };

// The sum of column d of tokens [begin, end).
template <class In>
__device__ float sum_tokens(const In* tokens, int64_t begin, int64_t end, int64_t D, int64_t d) {
  float sum = 0.0f;
  for (int64_t block = begin; block < end; block += kBlock) {
    const int64_t stop = block + kBlock < end ? block + kBlock : end;
    float part = to_float(tokens[block * D + d]);
    for (int64_t t = block + 1; t < stop; ++t) part += to_float(tokens[t * D + d]);
    sum += part;
  }
  return sum;
}

// tokens: (T, D); ends: (B + 1), one sequence a block; out: (B, D). Bounds live on the device,
// where the launcher cannot check them without waiting: a sequence that is empty or out of range
// gives NaN.
template <class In, class Out>
__global__ void pool_kernel(const In* tokens, const int32_t* ends, int64_t T, int64_t D,
                            Pooling pooling, bool normalize, Out* out) {
  extern __shared__ float pooled[];  // (D)
  __shared__ float partial[kWarps];
  const int64_t begin = ends[blockIdx.x], end = ends[blockIdx.x + 1];
  const bool valid = 0 <= begin && begin < end && end <= T;
  const int64_t one = pooling == Pooling::last ? end - 1 : begin;
  float squares = 0.0f;
  for (int64_t d = threadIdx.x; d < D; d += kThreads) {
    float value = nanf("");
    if (valid) {
      value = pooling == Pooling::mean
                  ? sum_tokens(tokens, begin, end, D, d) / static_cast<float>(end - begin)
                  : to_float(tokens[one * D + d]);
    }
    pooled[d] = value;
    squares += value * value;
  }
  float norm = 1.0f;
  if (normalize) {
    squares = warp_sum(squares);
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = squares;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) total += partial[warp];
    norm = sqrtf(total);
    norm = norm < 1e-12f ? 1e-12f : norm;
  }
  for (int64_t d = threadIdx.x; d < D; d += kThreads) {
    out[int64_t{blockIdx.x} * D + d] = from_float<Out>(pooled[d] / norm);
  }
}

Pooling pooling_named(const std::string& name) {
  if (name == "mean") return Pooling::mean;
  if (name == "cls") return Pooling::cls;
  STD_TORCH_CHECK(name == "last", "coldpress::pool: unknown pooling ", name);
  return Pooling::last;
}

Tensor pool(const Tensor& tokens, const Tensor& cu_seqlens, const std::string& pooling,
            bool normalize, ScalarType dtype) {
  STD_TORCH_CHECK(tokens.dim() == 2 && tokens.size(1) <= kSharedFloats,
                  "coldpress::pool: expected tokens (T, D) with D at most ", kSharedFloats);
  check_like(tokens, tokens, "pool: tokens");
  STD_TORCH_CHECK(cu_seqlens.scalar_type() == ScalarType::Int && cu_seqlens.is_cuda() &&
                      cu_seqlens.get_device_index() == tokens.get_device_index() &&
                      cu_seqlens.is_contiguous() && cu_seqlens.dim() == 1 && cu_seqlens.numel() > 0,
                  "coldpress::pool: cu_seqlens must be a contiguous int32 vector on the device of "
                  "the tokens");
  const int64_t T = tokens.size(0), D = tokens.size(1), B = cu_seqlens.numel() - 1;
  const Pooling how = pooling_named(pooling);
  Tensor out = torch::stable::new_empty(tokens, {B, D}, dtype);
  const Launch launch(tokens);
  dispatch_floating(tokens.scalar_type(), "pool", [&](auto in) {
    dispatch_floating(dtype, "pool", [&](auto result) {
      using In = decltype(in);
      using Out = decltype(result);
      launch("pool", pool_kernel<In, Out>, B, kThreads, D * sizeof(float), elements<In>(tokens),
             elements<int32_t>(cu_seqlens), T, D, how, normalize, mutable_elements<Out>(out));
    });
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) { m.impl("pool", TORCH_BOX(&pool)); }

}  // namespace coldpress
