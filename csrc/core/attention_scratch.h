// How much scratch memory a head of attention takes: known to kernels and launchers.
#pragma once

#include <cstdint>

namespace coldpress {
namespace {

constexpr int64_t kQueries = 64;

// Floats of scratch for one head of a sequence of T tokens.
constexpr int64_t attention_scratch(int64_t T, int64_t width) {
  return ((width + 15) / 16 * 16 + T) * kQueries;
}

}  // namespace
}  // namespace coldpress
