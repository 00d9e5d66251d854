#include "image/jpeg.h"

#if defined(COLDPRESS_WITH_JPEG)
#include "image/jpeg_scan.h"
#endif

// Only libjpeg-turbo gives Pillow's bytes: the IJG library upsamples chroma differently since
// version 7.
#if defined(LIBJPEG_TURBO_VERSION_NUMBER)
#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <optional>

// What libjpeg calls for every MCU. Its jpegint.h, which is not installed, has had these two fields
// at the head of this structure from libjpeg 6b to libjpeg-turbo 3; a later one keeps its own.
struct jpeg_entropy_decoder {
  void (*start_pass)(j_decompress_ptr decoder);
  boolean (*decode_mcu)(j_decompress_ptr decoder, JBLOCKROW* blocks);
};

namespace coldpress::image {
namespace {

constexpr bool kScanCanBeReplaced = LIBJPEG_TURBO_VERSION_NUMBER < 4'000'000;
constexpr int64_t kRowsPerCall = 16;

// Columns decoded on either side of those wanted: at the edge of what is decoded, upsampling lacks
// the neighbour that it has in the whole image.
constexpr int64_t kMargin = 8;

// What libjpeg's calls back need: `client_data` of the decoder points here.
struct Context {
  jpeg_error_mgr errors{};
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = "";  // the error, or the first warning
  std::optional<BaselineScan> scan;
};

template <typename Decoder>
Context& context_of(Decoder decoder) {
  return *static_cast<Context*>(decoder->client_data);
}

[[noreturn]] void on_error(j_common_ptr decoder) {
  Context& context = context_of(decoder);
  context.errors.format_message(decoder, context.message);
  std::longjmp(context.jump, 1);
}

void on_message(j_common_ptr decoder, int level) {
  Context& context = context_of(decoder);
  if (level < 0 && context.errors.num_warnings++ == 0) {
    context.errors.format_message(decoder, context.message);
  }
}

void no_output(j_common_ptr) {}

boolean decode_mcu(j_decompress_ptr decoder, JBLOCKROW* blocks) {
  Context& context = context_of(decoder);
  if (context.scan->read_mcu(*decoder, blocks)) return TRUE;
  std::strcpy(context.message, "damaged scan");
  std::longjmp(context.jump, 1);
}

// A progressive file without its last refinements: libjpeg then smooths blocks, differently in each
// version.
bool lacks_refinements(const jpeg_decompress_struct& decoder) {
  if (decoder.coef_bits == nullptr) return false;
  const int* bits = &decoder.coef_bits[0][0];
  return std::any_of(bits, bits + decoder.num_components * DCTSIZE2, [](int b) { return b != 0; });
}

}  // namespace

std::string jpeg_library() {
  constexpr int kVersion = LIBJPEG_TURBO_VERSION_NUMBER;  // 2001005 is 2.1.5
  return "libjpeg-turbo " + std::to_string(kVersion / 1'000'000) + "." +
         std::to_string(kVersion / 1'000 % 1'000) + "." + std::to_string(kVersion % 1'000);
}

struct JpegReader::State {
  jpeg_decompress_struct decoder{};
  Context context;
  int64_t column_begin = 0;
  ~State() { jpeg_destroy_decompress(&decoder); }
};

// Runs calls into libjpeg, which reports errors by a jump over `call`: it must own nothing.
template <typename Call>
void JpegReader::attempt(Call call) {
  if (setjmp(state_->context.jump) == 0) {
    call();
  } else {
    throw NotNative(state_->context.message);
  }
  if (state_->context.errors.num_warnings > 0) throw NotNative(state_->context.message);
}

JpegReader::JpegReader(std::span<const uint8_t> file) : state_(std::make_unique<State>()) {
  jpeg_decompress_struct& decoder = state_->decoder;
  decoder.err = jpeg_std_error(&state_->context.errors);
  decoder.err->error_exit = on_error;
  decoder.err->emit_message = on_message;
  decoder.err->output_message = no_output;
  decoder.client_data = &state_->context;
  attempt([&] {
    jpeg_create_decompress(&decoder);
    jpeg_mem_src(&decoder, file.data(), file.size());
    jpeg_read_header(&decoder, TRUE);
    jpeg_calc_output_dimensions(&decoder);
  });
  const J_COLOR_SPACE space = decoder.jpeg_color_space;
  if (space != JCS_GRAYSCALE && space != JCS_YCbCr && space != JCS_RGB) {
    throw NotNative("not a grayscale, YCbCr or RGB JPEG");
  }
}

JpegReader::~JpegReader() = default;

Size JpegReader::size() const {
  return {state_->decoder.output_height, state_->decoder.output_width};
}

void JpegReader::shrink(Size least) {
  const Size whole = size();
  unsigned denominator = 8;
  while (denominator > 1 &&
         (whole.height < least.height * denominator || whole.width < least.width * denominator)) {
    denominator /= 2;
  }
  state_->decoder.scale_denom = denominator;
  attempt([&] { jpeg_calc_output_dimensions(&state_->decoder); });
}

void JpegReader::start(int64_t begin, int64_t end) {
  jpeg_decompress_struct& decoder = state_->decoder;
  decoder.out_color_space = JCS_RGB;
  decoder.dct_method = JDCT_ISLOW;
  decoder.do_fancy_upsampling = TRUE;
  const auto width = static_cast<int64_t>(decoder.output_width);
  auto offset = static_cast<JDIMENSION>(std::max<int64_t>(begin - kMargin, 0));
  auto columns = static_cast<JDIMENSION>(std::min(end + kMargin, width)) - offset;
  attempt([&] {
    jpeg_start_decompress(&decoder);
    jpeg_crop_scanline(&decoder, &offset, &columns);  // moves the offset to the edge of a block
  });
  if (lacks_refinements(decoder)) throw NotNative("progressive JPEG without its last scans");
  state_->column_begin = offset;
  if (kScanCanBeReplaced && BaselineScan::suits(decoder)) {
    state_->context.scan.emplace(decoder);
    decoder.entropy->decode_mcu = decode_mcu;
  }
}

int64_t JpegReader::column_begin() const { return state_->column_begin; }
int64_t JpegReader::columns() const { return state_->decoder.output_width; }

void JpegReader::read(uint8_t* rows, int64_t stride, int64_t count) {
  attempt([&] {
    for (int64_t done = 0; done < count;) {
      JSAMPROW pointers[kRowsPerCall];
      const int64_t wanted = std::min(count - done, kRowsPerCall);
      for (int64_t i = 0; i < wanted; ++i) pointers[i] = rows + (done + i) * stride;
      done += jpeg_read_scanlines(&state_->decoder, pointers, static_cast<JDIMENSION>(wanted));
    }
  });
}

void JpegReader::skip(int64_t count) {
  if (count == 0) return;
  attempt([&] { jpeg_skip_scanlines(&state_->decoder, static_cast<JDIMENSION>(count)); });
}

void JpegReader::finish() {
  attempt([&] { jpeg_finish_decompress(&state_->decoder); });
}

}  // namespace coldpress::image

#else

namespace coldpress::image {

struct JpegReader::State {};

std::string jpeg_library() { return ""; }

JpegReader::JpegReader(std::span<const uint8_t>) { throw NotNative("built without libjpeg-turbo"); }
JpegReader::~JpegReader() = default;
Size JpegReader::size() const { return {0, 0}; }
void JpegReader::shrink(Size) {}
void JpegReader::start(int64_t, int64_t) {}
int64_t JpegReader::column_begin() const { return 0; }
int64_t JpegReader::columns() const { return 0; }
void JpegReader::read(uint8_t*, int64_t, int64_t) {}
void JpegReader::skip(int64_t) {}
void JpegReader::finish() {}

}  // namespace coldpress::image

#endif
