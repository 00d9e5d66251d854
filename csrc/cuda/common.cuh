// What the CUDA kernels share: element types, 16-byte packs, fixed-order reductions, launch checks.
//
// Reductions never use atomics and never depend on the grid: a row is reduced by the same threads
// in the same order whatever batch it comes in, so results are deterministic and batch-invariant.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>

namespace coldpress {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int kWarp = 32;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ inline T from_float(float x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

// Sixteen bytes of a row. A thread owns the same elements whether it may load them at once
// (`aligned`) or one by one, so alignment changes the speed and never a bit.
template <class T>
struct Pack {
  static constexpr int kSize = 16 / sizeof(T);
  alignas(16) T values[kSize];

  // Elements [begin, begin + kSize) of a row of D; those behind its end are zero.
  __device__ static Pack load(const T* row, int64_t begin, int64_t D, bool aligned) {
    Pack pack;
    if (aligned) {
      *reinterpret_cast<uint4*>(pack.values) = *reinterpret_cast<const uint4*>(row + begin);
    } else {
      pack = Pack{};
      each(D - begin, [&](int i) { pack.values[i] = row[begin + i]; });
    }
    return pack;
  }

  // The same of `rows` rows, kRows at most, so many elements apart; instead of those behind the
  // last one the first comes again. No load is conditional, so all of them are under way at once.
  template <int kRows>
  __device__ static void load(Pack (&packs)[kRows], const T* first, int64_t apart, int64_t begin,
                              int64_t D, bool aligned, unsigned rows) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      packs[r] = load(first + (r < rows ? r : 0) * apart, begin, D, aligned);
    }
  }

  __device__ void store(T* row, int64_t begin, int64_t D, bool aligned) const {
    if (aligned) {
      *reinterpret_cast<uint4*>(row + begin) = *reinterpret_cast<const uint4*>(values);
    } else {
      each(D - begin, [&](int i) { row[begin + i] = values[i]; });
    }
  }

  // Calls body(i) for the first `left` elements; unrolled, so that a pack stays in registers.
  template <class Body>
  __device__ static void each(int64_t left, const Body& body) {
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      if (i < left) body(i);
    }
  }
};

// True when every row of D elements at each of the pointers is made of whole, aligned packs.
template <class T, class... Pointers>
bool aligned_rows(int64_t D, Pointers... pointers) {
  const bool at_16 = ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
  return at_16 && D % Pack<T>::kSize == 0;
}

// How a block of threads covers rows of D elements: `lanes` threads lie side by side on packs of a
// row, a warp at most, `rows` rows at once; wider rows are cut into `slices`. Nothing but D and the
// size of an element decides.
struct Tile {
  unsigned lanes, rows, slices;

  template <class T>
  static Tile of(int64_t D, int threads) {
    const int64_t packs = (D + Pack<T>::kSize - 1) / Pack<T>::kSize;
    unsigned lanes = 1;
    while (lanes < packs && lanes < kWarp) lanes *= 2;
    return {lanes, threads / lanes, static_cast<unsigned>((packs + lanes - 1) / lanes)};
  }

  // The slices of a row lie in neighbouring blocks.
  __device__ unsigned block_row() const { return blockIdx.x / slices; }
  __device__ unsigned row() const { return threadIdx.x / lanes; }

  // First element of this thread's pack.
  template <class T>
  __device__ int64_t begin() const {
    const unsigned pack = blockIdx.x % slices * lanes + threadIdx.x % lanes;
    return int64_t{pack} * Pack<T>::kSize;
  }
};

// The butterfly adds the same pairs in every lane: all lanes hold the same bits.
__device__ inline float warp_sum(float value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

__device__ inline float warp_max(float value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// What rows are quantised to: a conversion rounds to nearest, to the largest finite value at most.
using Code = __nv_fp8_e4m3;
constexpr float kMostCode = 448.0f;

// The codes of a pack: kSize bytes of a row.
template <int kSize>
struct Codes {
  alignas(kSize) Code values[kSize];

  // To a place that is a multiple of kSize.
  __device__ void store(Code* place) const {
    using Word = std::conditional_t<kSize == 8, uint2, uint32_t>;
    static_assert(sizeof(Word) == kSize);
    *reinterpret_cast<Word*>(place) = *reinterpret_cast<const Word*>(values);
  }
};

// Calls body(T{}) with the device type of a floating-point ScalarType.
template <class Body>
void dispatch_floating(ScalarType type, const char* op, const Body& body) {
  switch (type) {
    case ScalarType::Float:
      return body(float{});
    case ScalarType::Half:
      return body(__half{});
    case ScalarType::BFloat16:
      return body(__nv_bfloat16{});
    default:
      STD_TORCH_CHECK(false, "coldpress::", op, ": expected float32, float16 or bfloat16");
  }
}

// The same for what networks run in 16 bits alone.
template <class Body>
void dispatch_halves(ScalarType type, const char* op, const Body& body) {
  if (type == ScalarType::Half) return body(__half{});
  STD_TORCH_CHECK(type == ScalarType::BFloat16, "coldpress::", op,
                  ": expected float16 or bfloat16");
  body(__nv_bfloat16{});
}

// Calls body(std::bool_constant) for what a kernel has to know when it is compiled.
template <class Body>
void dispatch_bool(bool value, const Body& body) {
  if (value) return body(std::true_type{});
  body(std::false_type{});
}

// As on the CPU, ops/<op>.py gives the friendly messages; this keeps a direct call memory-safe.
inline void check_like(const Tensor& t, const Tensor& x, const char* what) {
  STD_TORCH_CHECK(t.is_cuda() && t.get_device_index() == x.get_device_index() &&
                      t.scalar_type() == x.scalar_type(),
                  "coldpress::", what, " must have the dtype and the CUDA device of the input");
  STD_TORCH_CHECK(t.is_contiguous(), "coldpress::", what,
                  " must be contiguous; pass .contiguous()");
}

template <class T>
const T* elements(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

template <class T>
T* mutable_elements(Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of a tensor (..., D); none where D is 0.
inline int64_t row_count(const Tensor& t) { return t.size(-1) > 0 ? t.numel() / t.size(-1) : 0; }

// The device of a tensor made current, and its current stream; nothing here waits for the GPU.
class Launch {
 public:
  explicit Launch(const Tensor& t) : guard_(t.get_device_index()) {
    void* stream = nullptr;
    // Not by torch's own macro, whose name was another one before 2.12.
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream) == 0,
                    "coldpress: torch has no CUDA stream for this device");
    stream_ = static_cast<cudaStream_t>(stream);
  }

  // Runs kernel<<<blocks, threads, shared_bytes>>>(args...); no block, no launch.
  template <class... Parameters, class... Args>
  void operator()(const char* op, void (*kernel)(Parameters...), int64_t blocks, int threads,
                  size_t shared_bytes, Args... args) const {
    start(op, kernel, dim3(checked(op, blocks)), threads, shared_bytes, args...);
  }

  // The same over (x, y) blocks, y below 65,536.
  template <class... Parameters, class... Args>
  void grid(const char* op, void (*kernel)(Parameters...), int64_t x, int64_t y, int threads,
            Args... args) const {
    start(op, kernel, dim3(checked(op, x), checked(op, y)), threads, 0, args...);
  }

 private:
  static unsigned checked(const char* op, int64_t blocks) {
    STD_TORCH_CHECK(blocks < (int64_t{1} << 31), "coldpress::", op,
                    ": too many rows for one launch");
    return static_cast<unsigned>(blocks);
  }

  template <class... Parameters, class... Args>
  void start(const char* op, void (*kernel)(Parameters...), dim3 blocks, int threads,
             size_t shared_bytes, Args... args) const {
    if (blocks.x == 0 || blocks.y == 0) return;
    kernel<<<blocks, threads, shared_bytes, stream_>>>(args...);
    const cudaError_t error = cudaGetLastError();
    STD_TORCH_CHECK(error == cudaSuccess, "coldpress::", op, ": ", cudaGetErrorString(error));
  }

  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace coldpress
