// A batch of JPEG files to resized and cropped RGB images, one image per thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "image/transform.h"

namespace coldpress::image {

using Bytes = std::span<const uint8_t>;

// Calls work(i) for every i < count on at most `threads` threads, the calling one among them.
// `work` must not throw.
void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& work);

// Decodes, resizes and crops one file into the memory that `allocate(size)` returns for its output.
// Returns "" or why the file is not for the native decoder; the memory then holds anything.
std::string load_jpeg(Bytes file, const Transform& transform, int64_t max_pixels,
                      const std::function<uint8_t*(Size)>& allocate);

}  // namespace coldpress::image
