#include "image/transform.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

namespace coldpress::image {

Filter filter_from_name(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Filter>, 6> kNames{{
      {"nearest", Filter::nearest},
      {"box", Filter::box},
      {"bilinear", Filter::bilinear},
      {"hamming", Filter::hamming},
      {"bicubic", Filter::bicubic},
      {"lanczos", Filter::lanczos},
  }};
  for (const auto& [known, filter] : kNames) {
    if (known == name) return filter;
  }
  throw std::invalid_argument("unknown filter '" + std::string(name) +
                              "', expected nearest, box, bilinear, hamming, bicubic or lanczos");
}

Size Transform::resized(Size input) const {
  if (exact) return *exact;
  if (!shortest_edge) return input;
  // int(edge * long / short) of the Python processors: below 2**53 their float division truncates
  // to the same integer as this one.
  const int64_t edge = *shortest_edge;
  if (input.width <= input.height) return {edge * input.height / input.width, edge};
  return {edge, edge * input.width / input.height};
}

Axis centre(int64_t input, int64_t resized, int64_t output, bool half_to_even) {
  const int64_t spare = resized - output;
  const int64_t up = half_to_even && spare > 0 && spare % 4 == 3 ? 1 : 0;
  const int64_t offset = (spare >> 1) + up;  // floor, also where the image is the smaller one
  const int64_t begin = std::max<int64_t>(offset, 0);
  const int64_t end = std::min(offset + output, resized);
  return {input, resized, output, begin, end, begin - offset};
}

}  // namespace coldpress::image
