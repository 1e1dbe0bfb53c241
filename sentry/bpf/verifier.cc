// What a program must be to be run (bpf_check_classic, seccomp_check_filter).
#include <linux/bpf_common.h>
#include <linux/filter.h>

#include <algorithm>

#include "sentry/bpf/bpf.h"

namespace ringwall::bpf {

namespace {

// A byte-sized offset that names no byte of the packet but something the kernel knows about it.
constexpr uint32_t kAncillaryBase = static_cast<uint32_t>(SKF_AD_OFF);

bool IsAncillary(uint32_t k) {
  return k >= kAncillaryBase && k - kAncillaryBase < SKF_AD_MAX && (k - kAncillaryBase) % 4 == 0;
}

Result<void> CheckAlu(const Insn& insn) {
  const bool constant = BPF_SRC(insn.code) == BPF_K;
  if ((insn.code & ~0xfc) != 0 || (insn.code & 0xff00) != 0) return Errno(EINVAL);
  switch (BPF_OP(insn.code)) {
    case BPF_ADD:
    case BPF_SUB:
    case BPF_MUL:
    case BPF_AND:
    case BPF_OR:
    case BPF_XOR:
      return {};
    case BPF_DIV:
    case BPF_MOD:
      if (constant && insn.k == 0) return Errno(EINVAL);
      return {};
    case BPF_LSH:
    case BPF_RSH:
      if (constant && insn.k >= 32) return Errno(EINVAL);
      return {};
    case BPF_NEG:
      if (!constant) return Errno(EINVAL);
      return {};
    default:
      return Errno(EINVAL);
  }
}

Result<void> CheckJump(const Insn& insn, size_t behind) {
  switch (insn.code) {
    case BPF_JMP | BPF_JA:
      if (insn.k >= behind) return Errno(EINVAL);
      return {};
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JEQ | BPF_X:
    case BPF_JMP | BPF_JGE | BPF_K:
    case BPF_JMP | BPF_JGE | BPF_X:
    case BPF_JMP | BPF_JGT | BPF_K:
    case BPF_JMP | BPF_JGT | BPF_X:
    case BPF_JMP | BPF_JSET | BPF_K:
    case BPF_JMP | BPF_JSET | BPF_X:
      if (insn.jt >= behind || insn.jf >= behind) return Errno(EINVAL);
      return {};
    default:
      return Errno(EINVAL);
  }
}

// `behind`: how many instructions follow.
Result<void> CheckInsn(const Insn& insn, size_t behind) {
  switch (insn.code) {
    case BPF_LD | BPF_W | BPF_ABS:
    case BPF_LD | BPF_H | BPF_ABS:
    case BPF_LD | BPF_B | BPF_ABS:
      if (insn.k >= kAncillaryBase && !IsAncillary(insn.k)) return Errno(EINVAL);
      return {};
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LD | BPF_W | BPF_IND:
    case BPF_LD | BPF_H | BPF_IND:
    case BPF_LD | BPF_B | BPF_IND:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_IMM:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_B | BPF_MSH:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
      return {};
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX:
      if (insn.k >= kScratchWords) return Errno(EINVAL);
      return {};
    default:
      break;
  }
  if (BPF_CLASS(insn.code) == BPF_ALU) return CheckAlu(insn);
  if (BPF_CLASS(insn.code) == BPF_JMP) return CheckJump(insn, behind);
  return Errno(EINVAL);
}

// No scratch word may be read that some way through the program has not written: it would show
// what was left on the stack (check_load_and_stores).
Result<void> CheckScratch(std::span<const Insn> program) {
  // The words that every way to an instruction has written. Jumps go forward, so one pass does.
  std::vector<uint16_t> written(program.size(), 0xffff);
  uint16_t now = 0;
  for (size_t i = 0; i < program.size(); i++) {
    const Insn& insn = program[i];
    now &= written[i];
    switch (insn.code) {
      case BPF_ST:
      case BPF_STX:
        now = static_cast<uint16_t>(now | 1u << insn.k);
        break;
      case BPF_LD | BPF_MEM:
      case BPF_LDX | BPF_MEM:
        if ((now & 1u << insn.k) == 0) return Errno(EINVAL);
        break;
      case BPF_JMP | BPF_JA:
        written[i + 1 + insn.k] &= now;
        now = 0xffff;
        break;
      default:
        if (BPF_CLASS(insn.code) != BPF_JMP) break;
        written[i + 1 + insn.jt] &= now;
        written[i + 1 + insn.jf] &= now;
        now = 0xffff;
        break;
    }
  }
  return {};
}

Result<void> Check(std::span<const Insn> program) {
  if (program.empty() || program.size() > kMaxInsns) return Errno(EINVAL);
  for (size_t i = 0; i < program.size(); i++) {
    TRY(CheckInsn(program[i], program.size() - 1 - i));
  }
  if (BPF_CLASS(program.back().code) != BPF_RET) return Errno(EINVAL);
  return CheckScratch(program);
}

Result<void> CheckSeccompInsn(const Insn& insn) {
  switch (insn.code) {
    case BPF_LD | BPF_W | BPF_ABS:
      if (insn.k >= sizeof(SeccompData) || insn.k % 4 != 0) return Errno(EINVAL);
      return {};
    case BPF_LD | BPF_H | BPF_ABS:
    case BPF_LD | BPF_B | BPF_ABS:
    case BPF_LD | BPF_W | BPF_IND:
    case BPF_LD | BPF_H | BPF_IND:
    case BPF_LD | BPF_B | BPF_IND:
    case BPF_LDX | BPF_B | BPF_MSH:
    case BPF_ALU | BPF_MOD | BPF_K:
    case BPF_ALU | BPF_MOD | BPF_X:
      return Errno(EINVAL);
    default:
      return {};
  }
}

// The length in instructions of eBPF (bpf_convert_filter).
size_t ConvertedSize(const Insn& insn) {
  switch (BPF_CLASS(insn.code)) {
    case BPF_RET:
      return BPF_RVAL(insn.code) == BPF_K ? 2 : 1;
    case BPF_ALU:
      // A division by X looks for 0 first.
      return insn.code == (BPF_ALU | BPF_DIV | BPF_X) ? 5 : 1;
    case BPF_JMP: {
      if (BPF_OP(insn.code) == BPF_JA) return 1;
      const size_t constant =
          BPF_SRC(insn.code) == BPF_K && static_cast<int32_t>(insn.k) < 0 ? 1 : 0;
      const bool one = insn.jf == 0 || (insn.jt == 0 && BPF_OP(insn.code) != BPF_JSET);
      return constant + (one ? 1 : 2);
    }
    default:
      return 1;
  }
}

}  // namespace

size_t SeccompFilter::cost() const {
  constexpr size_t kPrologue = 3;
  size_t n = kPrologue;
  for (const Insn& insn : program_) n += ConvertedSize(insn);
  return n;
}

Result<SocketFilter> SocketFilter::Create(std::span<const Insn> program) {
  TRY(Check(program));
  return SocketFilter(std::vector<Insn>(program.begin(), program.end()));
}

Result<SeccompFilter> SeccompFilter::Create(std::span<const Insn> program) {
  TRY(Check(program));
  for (const Insn& insn : program) {
    TRY(CheckSeccompInsn(insn));
  }
  return SeccompFilter(std::vector<Insn>(program.begin(), program.end()));
}

}  // namespace ringwall::bpf
