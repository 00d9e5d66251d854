// Portable kernels. All arithmetic is exact in integers: every version must give the same bytes.
//
// The horizontal pass packs two image rows into the halves of 64-bit words, so that one
// multiplication serves both. A bias keeps either half positive whatever the negative lobes of a
// filter do (they reach about -0.3 of the pixel range), so nothing borrows across the halves.
#include "image/resample_kernels.h"

#include <algorithm>
#include <memory>

#include "image/transform.h"

namespace coldpress::image {
namespace {

constexpr int32_t kHalf = 1 << (kWeightBits - 1);

uint8_t clip8(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

constexpr int32_t kBias = 256;  // in units of a pixel's value
constexpr uint64_t kStart = (static_cast<uint64_t>(kBias) << kWeightBits) + kHalf;
constexpr uint64_t kStartTwice = (kStart << 32) + kStart;

uint8_t clip8_biased(uint32_t sum) {
  return static_cast<uint8_t>(std::clamp(static_cast<int32_t>(sum >> kWeightBits) - kBias, 0, 255));
}

// `pixels` starts at coefficients.input_begin() and has room for `taps` beyond the last one.
void weigh_pair(const uint64_t* pixels, const Coefficients& coefficients, int64_t taps,
                uint64_t* sums) {
  const int64_t origin = coefficients.input_begin();
  for (int64_t x = 0; x < coefficients.size(); ++x, sums += kChannels) {
    const int32_t* weights = &coefficients.weights[x * coefficients.stride];
    const uint64_t* pixel = pixels + (coefficients.first[x] - origin) * kChannels;
    uint64_t red = kStartTwice, green = kStartTwice, blue = kStartTwice;
    for (int64_t t = 0; t < taps; ++t, pixel += kChannels) {
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

void horizontal(const uint8_t* source, int64_t source_stride, int64_t rows,
                const Coefficients& coefficients, uint8_t* target, int64_t target_stride) {
  const int64_t bytes = (coefficients.input_end() - coefficients.input_begin()) * kChannels;
  const int64_t outputs = coefficients.size() * kChannels;
  // As many taps everywhere, though some weigh nothing: a loop of varying length mispredicts its
  // end.
  const int64_t taps = *std::max_element(coefficients.count.begin(), coefficients.count.end());
  const auto pixels = std::make_unique<uint64_t[]>(bytes + taps * kChannels);
  const auto sums = std::make_unique_for_overwrite<uint64_t[]>(outputs);
  for (int64_t row = 0; row < rows; row += 2) {
    const int64_t partner = std::min(row + 1, rows - 1);  // the last of an odd number meets itself
    const uint8_t* low = source + row * source_stride;
    const uint8_t* high = source + partner * source_stride;
    for (int64_t i = 0; i < bytes; ++i) pixels[i] = low[i] | (static_cast<uint64_t>(high[i]) << 32);
    weigh_pair(pixels.get(), coefficients, taps, sums.get());
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

}  // namespace

const ResampleKernels& resample_kernels() {
  static constexpr ResampleKernels kPortable{horizontal, vertical};
  return kPortable;
}

}  // namespace coldpress::image
