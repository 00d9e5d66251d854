#if defined(COLDPRESS_WITH_JPEG)
#include "image/jpeg_scan.h"

#include <span>

namespace coldpress::image {
namespace {

std::span<const uint8_t> unread(const jpeg_decompress_struct& decoder) {
  return {decoder.src->next_input_byte, decoder.src->bytes_in_buffer};
}

// The table of a slot, made where it is first asked for.
const HuffmanTable* table(std::optional<HuffmanTable>& slot, const JHUFF_TBL& source, bool dc) {
  if (!slot) {
    const std::span<const uint8_t, 17> bits(source.bits);  // the first entry means nothing
    slot.emplace(bits.subspan<1>(), source.huffval, dc);
  }
  return &*slot;
}

}  // namespace

bool BaselineScan::suits(jpeg_decompress_struct& decoder) {
  return !decoder.progressive_mode && !decoder.arith_code && decoder.restart_interval == 0 &&
         !jpeg_has_multiple_scans(&decoder);
}

BaselineScan::BaselineScan(const jpeg_decompress_struct& decoder)
    : reader_(unread(decoder)),
      left_(static_cast<int64_t>(decoder.MCUs_per_row) * decoder.MCU_rows_in_scan),
      count_(decoder.blocks_in_MCU) {
  for (int i = 0; i < count_; ++i) {
    const int component = decoder.MCU_membership[i];
    const int dc = decoder.cur_comp_info[component]->dc_tbl_no;
    const int ac = decoder.cur_comp_info[component]->ac_tbl_no;
    blocks_[i] = {table(dc_[dc], *decoder.dc_huff_tbl_ptrs[dc], true),
                  table(ac_[ac], *decoder.ac_huff_tbl_ptrs[ac], false), &last_dc_[component]};
  }
}

bool BaselineScan::read_mcu(jpeg_decompress_struct& decoder, JBLOCKROW* blocks) {
  JBLOCK ignored;
  for (int i = 0; i < count_; ++i) {
    const Block& block = blocks_[i];
    int16_t* coefficients = blocks != nullptr ? *blocks[i] : ignored;
    if (!reader_.read_block(*block.dc, *block.ac, *block.last_dc, coefficients)) return false;
  }
  return --left_ > 0 || finish(decoder);
}

bool BaselineScan::finish(jpeg_decompress_struct& decoder) const {
  decoder.src->next_input_byte += reader_.length();
  decoder.src->bytes_in_buffer -= reader_.length();
  return reader_.at_end();
}

}  // namespace coldpress::image
#endif
