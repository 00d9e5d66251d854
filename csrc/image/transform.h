// Where every output pixel comes from: resize and centre crop as the model's own (PIL) processor
// does them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace coldpress::image {

inline constexpr int64_t kChannels = 3;  // interleaved 8-bit RGB everywhere in this folder

enum class Filter { nearest, box, bilinear, hamming, bicubic, lanczos };

// Throws std::invalid_argument for a name that is not one of the six.
Filter filter_from_name(std::string_view name);

struct Size {
  int64_t height;
  int64_t width;
  int64_t area() const { return height * width; }
  bool operator==(const Size&) const = default;
};

// At most one of `shortest_edge` and `exact` is set; with neither the image keeps its size.
struct Transform {
  std::optional<int64_t> shortest_edge;
  std::optional<Size> exact;
  std::optional<Size> crop;
  Filter filter = Filter::bicubic;
  bool half_to_even = false;  // rounding of the crop's offset; see `centre`
  bool fast_decode = false;   // see JpegReader::shrink; only JPEG files can be decoded so

  Size resized(Size input) const;
  Size output(Size input) const { return crop.value_or(resized(input)); }
  // The size of every output, or nothing where it depends on the input.
  std::optional<Size> fixed_output() const { return crop ? crop : exact; }
};

// One axis: of the `resized` positions only [begin, end) are kept; they land at `pad` in an output
// of `output`.
struct Axis {
  int64_t input;
  int64_t resized;
  int64_t output;
  int64_t begin;
  int64_t end;
  int64_t pad;
  int64_t kept() const { return end - begin; }
};

// Centre crop; an image smaller than the crop is surrounded by zeros (the odd pixel goes before
// it). Half a pixel is rounded down as Hugging Face does, or to even as torchvision does.
Axis centre(int64_t input, int64_t resized, int64_t output, bool half_to_even);

}  // namespace coldpress::image
