#include "core/isa.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace coldpress {
namespace {

constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "avx512-vnni"};
constexpr int kLevels = 4;

bool runnable(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    case Isa::avx512:
      return runnable(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
    case Isa::avx512_vnni:
      return runnable(Isa::avx512) && __builtin_cpu_supports("avx512vnni");
  }
  return false;
#else
  return isa == Isa::scalar;
#endif
}

// -1 when no level has that name.
int level_of(const char* name) {
  for (int level = 0; level < kLevels; ++level) {
    if (std::strcmp(name, kNames[level]) == 0) return level;
  }
  return -1;
}

Isa detect() {
  int best = 0;
  for (int level = 0; level < kLevels; ++level) {
    if (runnable(static_cast<Isa>(level))) best = level;
  }
  const char* forced = std::getenv("COLDPRESS_ISA");
  if (forced == nullptr || *forced == '\0') return static_cast<Isa>(best);
  const int level = level_of(forced);
  if (level >= 0 && runnable(static_cast<Isa>(level))) return static_cast<Isa>(level);
  std::fprintf(stderr, "coldpress: COLDPRESS_ISA=%s cannot run here (can: %s); using %s\n", forced,
               coldpress_isa_levels(), kNames[best]);
  return static_cast<Isa>(best);
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{detect()};
  return isa;
}

}  // namespace

Isa active_isa() { return current().load(std::memory_order_relaxed); }

}  // namespace coldpress

const char* coldpress_isa() { return coldpress::kNames[static_cast<int>(coldpress::active_isa())]; }

const char* coldpress_isa_levels() {
  static const std::string names = [] {
    std::string joined;
    for (int level = 0; level < coldpress::kLevels; ++level) {
      if (!coldpress::runnable(static_cast<coldpress::Isa>(level))) continue;
      if (!joined.empty()) joined += ',';
      joined += coldpress::kNames[level];
    }
    return joined;
  }();
  return names.c_str();
}

int coldpress_set_isa(const char* name) {
  const int level = coldpress::level_of(name);
  if (level < 0 || !coldpress::runnable(static_cast<coldpress::Isa>(level))) return 1;
  coldpress::current().store(static_cast<coldpress::Isa>(level), std::memory_order_relaxed);
  return 0;
}
