// Classic BPF (net/core/filter.c, kernel/seccomp.c): verifier and interpreter of the programs that
// guests attach to sockets (SO_ATTACH_FILTER) and to themselves (seccomp). Programs are hostile:
// Create accepts exactly what Linux accepts, and Run of what it accepted is bounded by the program's
// length, since jumps only go forward.
#ifndef RINGWALL_SENTRY_BPF_BPF_H_
#define RINGWALL_SENTRY_BPF_BPF_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sentry/base/result.h"

namespace ringwall::bpf {

// struct sock_filter.
struct Insn {
  uint16_t code;
  uint8_t jt, jf;
  uint32_t k;
};
static_assert(sizeof(Insn) == 8);
inline constexpr size_t kMaxInsns = 4096;

// The scratch words, M[].
inline constexpr size_t kScratchWords = 16;

// A packet as a socket filter sees it. Numbers are in host order.
struct Packet {
  std::span<const std::byte> data;  // what plain offsets count from
  // What offsets from SKF_NET_OFF and SKF_LL_OFF count from, to the packet's end; empty: not there.
  std::span<const std::byte> network, link;
  uint16_t protocol = 0;  // skb->protocol
  uint32_t packet_type = 0;
  std::optional<uint32_t> if_index, hardware_type;  // not set: no device
  uint32_t mark = 0, queue = 0, rx_hash = 0, cpu = 0;
  uint32_t vlan_tag = 0, vlan_present = 0, vlan_protocol = 0;
  uint32_t payload_offset = 0;
  uint32_t (*random)() = nullptr;  // 0 without
};

// Immutable, so free to be used by any number of threads.
class SocketFilter {
 public:
  // EINVAL for what Linux refuses: no or more than 4,096 instructions, unknown ones, jumps out of
  // the program, scratch words that are read before they are written, constants out of range.
  static Result<SocketFilter> Create(std::span<const Insn> program);
  // How many bytes of the packet are to be kept; 0 drops it.
  uint32_t Run(const Packet& packet) const;
  // As it was given, for SO_GET_FILTER.
  std::span<const Insn> source() const { return program_; }

 private:
  explicit SocketFilter(std::vector<Insn> program) : program_(std::move(program)) {}
  std::vector<Insn> program_;
};

// struct seccomp_data.
struct SeccompData {
  int32_t nr;
  uint32_t arch;
  uint64_t instruction_pointer;
  uint64_t args[6];
};
static_assert(sizeof(SeccompData) == 64);

class SeccompFilter {
 public:
  // EINVAL as above, and for what seccomp does not know: packets' loads, MOD.
  static Result<SeccompFilter> Create(std::span<const Insn> program);
  // The SECCOMP_RET_* value with its data.
  uint32_t Run(const SeccompData& data) const;
  // The result when it depends on number and architecture alone.
  std::optional<uint32_t> ConstantResult(int32_t nr, uint32_t arch) const;
  // How many instructions Linux makes of it, which is what it limits.
  size_t cost() const;
  // As it was given, for PTRACE_SECCOMP_GET_FILTER.
  std::span<const Insn> source() const { return program_; }

 private:
  explicit SeccompFilter(std::vector<Insn> program) : program_(std::move(program)) {}
  std::vector<Insn> program_;
};

}  // namespace ringwall::bpf

#endif  // RINGWALL_SENTRY_BPF_BPF_H_
