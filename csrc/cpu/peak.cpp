// peak: how much arithmetic, and how much traffic with memory, a core of this machine can do at
// most: what the other kernels are measured against (see coldpress/bench).
//
// Bound by the multiply-add units alone: twelve independent sums (five pairs with AVX2, which has
// sixteen registers) hide a latency of four cycles at two instructions a cycle, and nothing is
// loaded. One core of a Zen 5: fp32 286 GFLOP/s, int8 1,145, int16 and bf16 573.
//
// Not an op: it computes nothing, and takes no tensor. coldpress/_library.py calls it.
#include <cstdint>

#include "core/isa.h"
#include "core/kernel.h"

namespace coldpress {

enum class Arithmetic { fp32, int8, int16, bf16 };

// `rounds` times as many multiply-adds as fit in registers; *operations says how many they were,
// counted as two each: 0 where this level has no instruction for the type. `sink` takes 16 floats.
COLDPRESS_KERNEL(multiply_add, Arithmetic type, int64_t rounds, double* operations, float* sink)
// Reads `count` floats, a multiple of 128, `rounds` times.
COLDPRESS_KERNEL(read_memory, const float* data, int64_t count, int64_t rounds, float* sink)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

#if defined(COLDPRESS_ISA_IS_avx2)
constexpr int kChains = 5;
#else
constexpr int kChains = 12;
#endif

// step(sum, a, b) is one multiply-add of vectors, `each` operations; returns all of them. The sums
// belong to one loop alone: shared between loops GCC 12 would keep them in memory.
template <class Step>
inline double repeat(int64_t rounds, double each, float* sink, Step&& step) {
  const Vec a = Vec::load(sink), b = Vec::load(sink);
  Vec sums[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = Vec::set(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) step(sums[i], a, b);
  }
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sums[0] = sums[0] + sums[i];
  sums[0].store(sink);
  return static_cast<double>(rounds) * kChains * each;
}

}  // namespace

void multiply_add(Arithmetic type, int64_t rounds, double* operations, float* sink) {
  *operations = 0;
  if (type == Arithmetic::fp32) {
    *operations =
        repeat(rounds, 2 * kLanes, sink, [](Vec& sum, Vec a, Vec b) { sum = fma(a, b, sum); });
  }
#if defined(COLDPRESS_ISA_IS_avx512_vnni)
#define COLDPRESS_REPEAT(name, instruction, each)                         \
  if (type == Arithmetic::name) {                                         \
    *operations = repeat(rounds, each, sink, [](Vec& sum, Vec a, Vec b) { \
      asm(instruction " %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));  \
    });                                                                   \
  }
  COLDPRESS_REPEAT(int8, "vpdpbusd", 8 * kLanes)
  COLDPRESS_REPEAT(int16, "vpdpwssd", 4 * kLanes)
  COLDPRESS_REPEAT(bf16, "vdpbf16ps", 4 * kLanes)
#undef COLDPRESS_REPEAT
#endif
}

void read_memory(const float* data, int64_t count, int64_t rounds, float* sink) {
  constexpr int kStreams = 8;
  Vec sums[kStreams];
  for (int i = 0; i < kStreams; ++i) sums[i] = Vec::set(0.0f);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t at = 0; at < count; at += kStreams * kLanes) {
#pragma GCC unroll 8
      for (int i = 0; i < kStreams; ++i) sums[i] = sums[i] + Vec::load(data + at + i * kLanes);
    }
  }
  for (int i = 1; i < kStreams; ++i) sums[0] = sums[0] + sums[i];
  sums[0].store(sink);
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include <cstring>

namespace {

bool has_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

}  // namespace

extern "C" {

// Operations done, a multiply-add counted as two; 0 where there is no instruction for `type`, one
// of fp32 int8 int16 bf16.
__attribute__((visibility("default"))) double coldpress_multiply_add(const char* type,
                                                                     int64_t rounds) {
  using coldpress::Arithmetic;
  Arithmetic arithmetic = Arithmetic::fp32;
  if (std::strcmp(type, "int8") == 0) arithmetic = Arithmetic::int8;
  if (std::strcmp(type, "int16") == 0) arithmetic = Arithmetic::int16;
  if (std::strcmp(type, "bf16") == 0) {
    if (!has_bf16()) return 0;
    arithmetic = Arithmetic::bf16;
  }
  double operations = 0;
  float sink[16];
  for (float& value : sink) value = 1.0f;
  using namespace coldpress;  // the macro names the levels from inside
  COLDPRESS_SELECT(multiply_add)(arithmetic, rounds, &operations, sink);
  return operations;
}

__attribute__((visibility("default"))) void coldpress_read_memory(const float* data, int64_t count,
                                                                  int64_t rounds) {
  float sink[16];
  using namespace coldpress;
  COLDPRESS_SELECT(read_memory)(data, count, rounds, sink);
}

__attribute__((visibility("default"))) void coldpress_copy_memory(const float* from, float* to,
                                                                  int64_t count, int64_t rounds) {
  for (int64_t round = 0; round < rounds; ++round) std::memcpy(to, from, count * sizeof(float));
}

}  // extern "C"
#endif
