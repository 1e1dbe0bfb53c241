// Whether the instruction at a fault was about to write. The host tells a tracer the address of a
// page fault, but not the processor's error code that a signal frame shows.
#ifndef RINGWALL_PLATFORM_PTRACE_ACCESS_KIND_H_
#define RINGWALL_PLATFORM_PTRACE_ACCESS_KIND_H_

#include <cstdint>
#include <span>

#include "sentry/abi/registers.h"

namespace ringwall {

// `code`: the bytes at the instruction, as many as could be read. Unknown instructions read.
bool WritesAt(std::span<const uint8_t> code, const abi::Registers& regs, uint64_t fault_addr);

// Whether `code` begins with an instruction that waits for what the x87 has still to report, so that SIGFPE
// is of trap 16 and not of a vector instruction's 19.
bool IsX87(std::span<const uint8_t> code);

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_PTRACE_ACCESS_KIND_H_
