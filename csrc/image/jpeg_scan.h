// The scan of a baseline JPEG, read by our Huffman decoder inside libjpeg.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
// jpeglib.h uses size_t and FILE without including their headers.
#include <jpeglib.h>

#include "image/huffman.h"

namespace coldpress::image {

class BaselineScan {
 public:
  // Whether the scan that `decoder` has just started is one of these: all components at once,
  // Huffman codes, no restarts. libjpeg reads any other.
  static bool suits(jpeg_decompress_struct& decoder);

  explicit BaselineScan(const jpeg_decompress_struct& decoder);

  // Reads the next MCU into its blocks, which are zero, or, with null, past it. After the last one
  // the decoder's source goes on behind the scan. False where the data are damaged.
  bool read_mcu(jpeg_decompress_struct& decoder, JBLOCKROW* blocks);

 private:
  struct Block {
    const HuffmanTable* dc;
    const HuffmanTable* ac;
    int32_t* last_dc;
  };

  bool finish(jpeg_decompress_struct& decoder) const;

  HuffmanReader reader_;
  int64_t left_;  // MCUs
  std::array<std::optional<HuffmanTable>, NUM_HUFF_TBLS> dc_, ac_;
  std::array<int32_t, MAX_COMPS_IN_SCAN> last_dc_{};
  std::array<Block, D_MAX_BLOCKS_IN_MCU> blocks_{};
  int count_;  // blocks of an MCU
};

}  // namespace coldpress::image
