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

  Size size() const;

  // Starts the decompression; of a progressive file, all of it happens here.
  void start();

  // The next `count` rows, `stride` bytes apart.
  void read(uint8_t* rows, int64_t stride, int64_t count);

  // Checks that the file was whole. Call after the last row.
  void finish();

 private:
  struct State;
  template <typename Call>
  void attempt(Call call);

  std::unique_ptr<State> state_;
};

}  // namespace coldpress::image
