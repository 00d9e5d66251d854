// How one source file becomes one kernel per instruction set.
//
// Every csrc/cpu/<op>.cpp is compiled once per ISA level with COLDPRESS_ISA_LEVEL set to the
// level's name, and once more with COLDPRESS_LAUNCHER for the part that knows torch. The kernel is
// declared with COLDPRESS_KERNEL at the top, defined inside namespace COLDPRESS_ISA_LEVEL, and
// called by the launcher through COLDPRESS_SELECT, which picks the level of this process.
//
// A kernel takes raw pointers and must not call anything inline from the standard library: such a
// function would be emitted with, say, AVX-512 instructions, and the linker may keep that copy for
// everybody.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#define COLDPRESS_KERNEL(name, ...) \
  namespace scalar {                \
  void name(__VA_ARGS__);           \
  }                                 \
  namespace avx2 {                  \
  void name(__VA_ARGS__);           \
  }                                 \
  namespace avx512 {                \
  void name(__VA_ARGS__);           \
  }                                 \
  namespace avx512_vnni {           \
  void name(__VA_ARGS__);           \
  }
#define COLDPRESS_SELECT(name)                                                     \
  (::coldpress::active_isa() == ::coldpress::Isa::avx512_vnni ? &avx512_vnni::name \
   : ::coldpress::active_isa() == ::coldpress::Isa::avx512    ? &avx512::name      \
   : ::coldpress::active_isa() == ::coldpress::Isa::avx2      ? &avx2::name        \
                                                              : &scalar::name)
#else
#define COLDPRESS_KERNEL(name, ...) \
  namespace scalar {                \
  void name(__VA_ARGS__);           \
  }
#define COLDPRESS_SELECT(name) (&scalar::name)
#endif

namespace coldpress {

// What an epilogue does to ``x W + bias``.
enum class Activation { none, gelu, gelu_tanh, relu, relu6, quick_gelu, silu };

// Weights of a layer normalisation; `first`: in front of the layer it belongs to, not behind.
struct Norm {
  const float* weight;
  const float* bias;
  float eps;
  bool first;
};

// How a sequence of token vectors becomes one vector.
enum class Pooling { mean, cls, last };

}  // namespace coldpress
