// How much scratch memory a head of attention takes: known to kernels and launchers.
#pragma once

#include <cstdint>

namespace coldpress {
namespace {

constexpr int64_t kQueries = 64;

// Floats of scratch for one head of a sequence of T tokens, in fp32.
constexpr int64_t attention_scratch(int64_t T, int64_t width) {
  return ((width + 15) / 16 * 16 + T) * kQueries;
}

// The same on words: besides, keys, values and a block of queries with their scales.
constexpr int64_t attention_scratch_words(int64_t T, int64_t width) {
  const int64_t lanes = (width + 15) / 16 * 16;
  return attention_scratch(T + 1, width) + (T + 1) * lanes + 2 * lanes;
}

}  // namespace
}  // namespace coldpress
