// Which instruction set the kernels of this process use: the best the machine has, or what
// COLDPRESS_ISA (read once, at load) or coldpress_set_isa() says.
#pragma once

namespace coldpress {

enum class Isa { scalar = 0, avx2 = 1, avx512 = 2, avx512_vnni = 3 };

Isa active_isa();

}  // namespace coldpress

extern "C" {
// Name of the active level; never null.
__attribute__((visibility("default"))) const char* coldpress_isa();
// Comma-separated names of the levels that this machine and this build can run, slowest first.
__attribute__((visibility("default"))) const char* coldpress_isa_levels();
// Switches every kernel of the process to a level. Returns 0, or 1 when it is unknown or not
// runnable.
__attribute__((visibility("default"))) int coldpress_set_isa(const char* name);
}
