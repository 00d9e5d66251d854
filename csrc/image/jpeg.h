// JPEG to RGB rows with bytes equal to Pillow's, for files that libjpeg-turbo reads without a
// single warning. About any other file (damaged, CMYK, incomplete progressive) Pillow has the last
// word, so the reader declines it by throwing NotNative: what Pillow accepts and rejects is never
// decided twice.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include "image/transform.h"

namespace coldpress::image {

struct NotNative : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// "libjpeg-turbo 3.1.0", or "" when built without it.
std::string jpeg_library();

class JpegReader {
 public:
  // Reads the header and allocates nothing that depends on the image's size. `file` must outlive
  // the reader.
  explicit JpegReader(std::span<const uint8_t> file);
  ~JpegReader();
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  // Of the image that read() will give.
  Size size() const;

  // Decodes at 1/2, 1/4 or 1/8 of the size where that is still at least `least` both ways. Faster,
  // and not the bytes of the full decoding. Call before start().
  void shrink(Size least);

  // Starts the decompression; of a progressive file, all of it happens here. Only the columns
  // [begin, end) and a few around them are turned into pixels.
  void start(int64_t begin, int64_t end);

  // The columns of the rows that read() gives.
  int64_t column_begin() const;
  int64_t columns() const;

  // The next `count` rows, `stride` bytes apart.
  void read(uint8_t* rows, int64_t stride, int64_t count);

  // Passes over the next `count` rows, which must not be the last. Their codes are read all the
  // same, so that damage is noticed; the transform, upsampling and colours are saved.
  void skip(int64_t count);

  // Checks that the file was whole. Call after the last row was read.
  void finish();

 private:
  struct State;
  template <typename Call>
  void attempt(Call call);

  std::unique_ptr<State> state_;
};

}  // namespace coldpress::image
