#include "image/huffman.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace coldpress::image {
namespace {

constexpr int kLongest = 16;  // bits of a code
constexpr int kCoefficients = 64;
constexpr int kEnough = 32;  // bits for any code with its value
// Zeros after the data: a block is at most 64 codes and values of 31 bits, a refill reads 8 bytes.
constexpr int64_t kPadding = kCoefficients * 4 + 16;

// Natural position of the k-th coefficient of the zigzag.
constexpr auto kNatural = [] {
  std::array<uint8_t, kCoefficients> natural{};
  for (int k = 0, row = 0, column = 0; k < kCoefficients; ++k) {
    natural[k] = static_cast<uint8_t>(row * 8 + column);
    const bool up = (row + column) % 2 == 0;
    int& along = up ? column : row;
    int& across = up ? row : column;
    if (along == 7) {
      ++across;
    } else {
      ++along;
      if (across > 0) --across;
    }
  }
  return natural;
}();

// The value of `size` bits at the top of `window`: those of negative ones start with 0.
int32_t value_at(uint64_t window, int size) {
  const auto bits = static_cast<int32_t>((window >> 1) >> (63 - size));
  const auto negative = static_cast<int32_t>(~static_cast<int64_t>(window) >> 63);  // 0 or all ones
  return bits + (negative & (1 - (1 << size)));
}

uint64_t load_big_endian(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap64(word);
  return word;
}

}  // namespace

HuffmanTable::HuffmanTable(std::span<const uint8_t, 16> counts, std::span<const uint8_t> symbols,
                           bool dc)
    : dc_(dc) {
  std::copy(symbols.begin(), symbols.end(), symbols_.begin());
  int32_t code = 0, index = 0;
  for (int length = 1; length <= kLongest; ++length, code *= 2) {
    first_[length] = index - code;
    for (int i = 0; i < counts[length - 1]; ++i, ++code, ++index) {
      if (length > kLookBits) continue;
      const int rest = kLookBits - length;
      std::fill_n(codes_.begin() + (code << rest), 1 << rest, meaning(symbols_[index], length));
    }
    beyond_[length] = code << (kLongest - length);
  }
}

HuffmanTable::Code HuffmanTable::meaning(uint8_t symbol, int length) const {
  const int size = dc_ ? symbol : symbol & 15, zeros = dc_ ? 0 : symbol >> 4;
  const bool ends = !dc_ && size == 0 && zeros != 15;
  return {static_cast<uint8_t>(length + size), static_cast<uint8_t>(length),
          static_cast<uint8_t>(size), ends ? kEndOfBlock : static_cast<uint8_t>(zeros)};
}

HuffmanTable::Code HuffmanTable::longer(uint64_t window) const {
  const auto next = static_cast<int32_t>(window >> (64 - kLongest));
  for (int length = kLookBits + 1; length <= kLongest; ++length) {
    if (next >= beyond_[length]) continue;
    return meaning(symbols_[first_[length] + (next >> (kLongest - length))], length);
  }
  return {0, 0, 0, kEndOfBlock};
}

HuffmanReader::HuffmanReader(std::span<const uint8_t> scan) {
  data_.reserve(scan.size() + kPadding);
  const uint8_t *from = scan.data(), *const end = from + scan.size();
  while (true) {
    const void* found = from < end ? std::memchr(from, 0xff, end - from) : nullptr;
    const auto* ff = found != nullptr ? static_cast<const uint8_t*>(found) : end;
    data_.insert(data_.end(), from, ff);
    from = ff;
    if (end - ff < 2 || ff[1] != 0) break;
    data_.push_back(0xff);
    from += 2;
  }
  length_ = from - scan.data();
  const auto size = static_cast<int64_t>(data_.size());
  data_.resize(size + kPadding);
  next_ = data_.data();
  end_ = next_ + size;
}

bool HuffmanReader::read_block(const HuffmanTable& dc, const HuffmanTable& ac, int32_t& last_dc,
                               int16_t* block) {
  uint64_t window = window_;
  int64_t count = count_;
  const uint8_t* next = next_;
  const auto refill = [&] {  // to 56 bits or more
    // Bits below `count` belong to the byte at `next`, where the next refill finds them again.
    window |= load_big_endian(next) >> count;
    next += (63 - count) >> 3;
    count |= 56;
  };

  refill();
  HuffmanTable::Code code = dc.at(window);
  last_dc += value_at(window << code.length, code.size);
  block[0] = static_cast<int16_t>(last_dc);
  bool sound = code.length > 0 && block[0] == last_dc;

  int k = 0;
  const auto read_next = [&] {  // whether there may be another one
    window <<= code.bits;
    count -= code.bits;
    if (count < kEnough) [[unlikely]]
      refill();
    code = ac.at(window);
    k += code.run + 1;
    if (k >= kCoefficients) return false;
    block[kNatural[k]] = static_cast<int16_t>(value_at(window << code.length, code.size));
    return k < kCoefficients - 1;
  };
  do {
    refill();  // for two: their bits rarely exceed what it brings
  } while (read_next() && read_next());
  if (k >= kCoefficients) {
    sound = sound && code.length > 0 && code.run == HuffmanTable::kEndOfBlock;
  }

  window_ = window << code.bits;
  count_ = count - code.bits;
  next_ = next;
  return sound && bits_left() >= 0;
}

}  // namespace coldpress::image
