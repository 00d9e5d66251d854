// Portable kernels.
//
// The horizontal pass packs two image rows into the halves of 64-bit words, so that one
// multiplication serves both. A bias keeps either half positive whatever the negative lobes of a
// filter do (they reach about -0.3 of the pixel range), so nothing borrows across the halves.
#include <algorithm>

#include "image/resample_kernels.h"
#include "image/transform.h"

namespace coldpress::image::scalar {
namespace {

uint8_t clip8(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

constexpr int32_t kBias = 256;  // in units of a pixel's value
constexpr uint64_t kStart = (static_cast<uint64_t>(kBias) << kWeightBits) + kHalf;
constexpr uint64_t kStartTwice = (kStart << 32) + kStart;

uint8_t clip8_biased(uint32_t sum) {
  return static_cast<uint8_t>(std::clamp(static_cast<int32_t>(sum >> kWeightBits) - kBias, 0, 255));
}

void weigh_pair(const uint64_t* pixels, const Taps& taps, uint64_t* sums) {
  for (int64_t x = 0; x < taps.outputs; ++x, sums += kChannels) {
    const int32_t* weights = taps.weights + x * taps.stride;
    const uint64_t* pixel = pixels + (taps.first[x] - taps.origin) * kChannels;
    uint64_t red = kStartTwice, green = kStartTwice, blue = kStartTwice;
    for (int64_t t = 0; t < taps.taps; ++t, pixel += kChannels) {
      const auto weight = static_cast<uint64_t>(static_cast<int64_t>(weights[t]));
      red += weight * pixel[0];
      green += weight * pixel[1];
      blue += weight * pixel[2];
    }
    sums[0] = red;
    sums[1] = green;
    sums[2] = blue;
  }
}

}  // namespace

void horizontal(const uint8_t* source, int64_t source_stride, int64_t rows, const Taps& taps,
                uint8_t* target, int64_t target_stride, uint64_t* scratch) {
  const int64_t bytes = taps.inputs * kChannels, outputs = taps.outputs * kChannels;
  uint64_t* pixels = scratch;
  uint64_t* sums = pixels + bytes + taps.taps * kChannels;
  for (int64_t row = 0; row < rows; row += 2) {
    const int64_t partner = std::min(row + 1, rows - 1);  // the last of an odd number meets itself
    const uint8_t* low = source + row * source_stride;
    const uint8_t* high = source + partner * source_stride;
    for (int64_t i = 0; i < bytes; ++i) pixels[i] = low[i] | (static_cast<uint64_t>(high[i]) << 32);
    weigh_pair(pixels, taps, sums);
    uint8_t* target_low = target + row * target_stride;
    uint8_t* target_high = target + partner * target_stride;
    for (int64_t i = 0; i < outputs; ++i) {
      target_low[i] = clip8_biased(static_cast<uint32_t>(sums[i]));
      target_high[i] = clip8_biased(static_cast<uint32_t>(sums[i] >> 32));
    }
  }
}

void vertical(const uint8_t* source, int64_t source_stride, const int32_t* weights, int64_t taps,
              int64_t bytes, uint8_t* target) {
  constexpr int64_t kBlock = 256;  // 1 KiB of sums stays in the first-level cache over all taps
  int32_t sums[kBlock];
  for (int64_t begin = 0; begin < bytes; begin += kBlock) {
    const int64_t count = std::min(kBlock, bytes - begin);
    std::fill_n(sums, count, kHalf);
    for (int64_t t = 0; t < taps; ++t) {
      const uint8_t* row = source + t * source_stride + begin;
      const int32_t weight = weights[t];
      for (int64_t i = 0; i < count; ++i) sums[i] += weight * row[i];
    }
    for (int64_t i = 0; i < count; ++i) target[begin + i] = clip8(sums[i]);
  }
}

}  // namespace coldpress::image::scalar
