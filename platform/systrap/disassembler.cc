#include "platform/systrap/disassembler.h"

#include <capstone/capstone.h>

#include <algorithm>
#include <cstring>

#include "sentry/base/check.h"

// capstone's table of CPUs refers to all of them, which would link 84,000 relocations of tables
// that nobody uses. These empty definitions come before the library's, so that only x86 is linked.
#define RW_NO_CPU(name)                                            \
  extern "C" int name##_global_init(void*) { return CS_ERR_ARCH; } \
  extern "C" int name##_option(void*, int, size_t) { return CS_ERR_ARCH; }
RW_NO_CPU(ARM)
RW_NO_CPU(AArch64)
RW_NO_CPU(Mips)
RW_NO_CPU(PPC)
RW_NO_CPU(Sparc)
RW_NO_CPU(SystemZ)
RW_NO_CPU(XCore)
RW_NO_CPU(M68K)
RW_NO_CPU(TMS320C64x)
RW_NO_CPU(M680X)
RW_NO_CPU(EVM)
#undef RW_NO_CPU

namespace ringwall::systrap {
namespace {

constexpr size_t kMaxInsn = 15;

// Decodes one instruction into `insn`; false when it is none.
bool Decode(uintptr_t handle, const CodeView& code, uint64_t addr, cs_insn* insn) {
  if (!code.Contains(addr, 1)) return false;
  const uint8_t* bytes = code.At(addr);
  size_t left = std::min<size_t>(kMaxInsn, code.bytes.size() - (addr - code.base));
  uint64_t at = addr;
  return cs_disasm_iter(handle, &bytes, &left, &at, insn);
}

bool InGroup(const cs_detail& detail, uint8_t group) {
  return std::find(detail.groups, detail.groups + detail.groups_count, group) !=
         detail.groups + detail.groups_count;
}

// Direct jumps by their own bytes: capstone names the target, but not which form it was. Prefixes
// (branch hints, bnd, the 66 that Intel and AMD read differently) make it none of ours.
std::optional<MovedInsn> DirectJump(const cs_insn& insn, MovedInsn moved) {
  const uint8_t* b = insn.bytes;
  int32_t relative = 0;
  if (insn.size == 2 && (b[0] & 0xf0) == 0x70) {
    moved.kind = MovedInsn::Kind::kJcc;
    moved.condition = b[0] & 0xf;
    relative = static_cast<int8_t>(b[1]);
  } else if (insn.size == 6 && b[0] == 0x0f && (b[1] & 0xf0) == 0x80) {
    moved.kind = MovedInsn::Kind::kJcc;
    moved.condition = b[1] & 0xf;
    std::memcpy(&relative, b + 2, 4);
  } else if (insn.size == 2 && b[0] == 0xeb) {
    moved.kind = MovedInsn::Kind::kJmp;
    relative = static_cast<int8_t>(b[1]);
  } else if (insn.size == 5 && b[0] == 0xe9) {
    moved.kind = MovedInsn::Kind::kJmp;
    std::memcpy(&relative, b + 1, 4);
  } else {
    return std::nullopt;
  }
  moved.target = moved.addr + insn.size + static_cast<int64_t>(relative);
  return moved;
}

bool NeverMoved(unsigned id) {
  switch (id) {
    case X86_INS_SYSCALL:
    case X86_INS_SYSENTER:
    case X86_INS_UD2:
    case X86_INS_HLT:
    case X86_INS_XBEGIN:  // its fallback is relative
    case X86_INS_XABORT:
    case X86_INS_LOOP:
    case X86_INS_LOOPE:
    case X86_INS_LOOPNE:
    case X86_INS_JRCXZ:
    case X86_INS_JECXZ:
    case X86_INS_JCXZ:
      return true;
    default:
      return false;
  }
}

}  // namespace

Disassembler::Disassembler() {
  csh handle = 0;
  RW_CHECK(cs_open(CS_ARCH_X86, CS_MODE_64, &handle) == CS_ERR_OK);
  handle_ = handle;
  SetDetail(true);  // so that the instruction is made with room for it
  detail_ = true;
  insn_ = cs_malloc(handle_);
  RW_CHECK(insn_ != nullptr);
}

Disassembler::~Disassembler() {
  cs_free(static_cast<cs_insn*>(insn_), 1);
  csh handle = handle_;
  cs_close(&handle);
}

void Disassembler::Prepare() {
  Disassembler decoder;
  decoder.SetDetail(true);
  static constexpr uint8_t kAdd[] = {0x01, 0xc8};  // add %ecx, %eax: names registers
  const uint8_t* code = kAdd;
  size_t left = sizeof(kAdd);
  uint64_t addr = 0;
  cs_disasm_iter(decoder.handle_, &code, &left, &addr, static_cast<cs_insn*>(decoder.insn_));
}

void Disassembler::SetDetail(bool on) {
  if (detail_ == on) return;
  cs_option(handle_, CS_OPT_DETAIL, on ? CS_OPT_ON : CS_OPT_OFF);
  detail_ = on;
}

uint8_t Disassembler::Length(const CodeView& code, uint64_t addr) {
  SetDetail(false);
  cs_insn* insn = static_cast<cs_insn*>(insn_);
  if (!Decode(handle_, code, addr, insn)) return 0;
  return static_cast<uint8_t>(insn->size);
}

bool Disassembler::IsPadding(const CodeView& code, uint64_t addr) {
  SetDetail(false);
  cs_insn* insn = static_cast<cs_insn*>(insn_);
  if (!Decode(handle_, code, addr, insn)) return false;
  return insn->id == X86_INS_NOP || insn->id == X86_INS_INT3;
}

std::optional<MovedInsn> Disassembler::Movable(const CodeView& code, uint64_t addr) {
  SetDetail(true);
  cs_insn* insn = static_cast<cs_insn*>(insn_);
  if (!Decode(handle_, code, addr, insn)) return std::nullopt;
  if (insn->size == 0 || insn->size > kMaxInsn || NeverMoved(insn->id)) return std::nullopt;
  const cs_detail& detail = *insn->detail;
  MovedInsn moved;
  moved.addr = addr;
  moved.size = static_cast<uint8_t>(insn->size);
  std::copy_n(code.At(addr), insn->size, moved.bytes.begin());
  if (InGroup(detail, X86_GRP_CALL) || InGroup(detail, X86_GRP_INT) ||
      InGroup(detail, X86_GRP_IRET) || InGroup(detail, X86_GRP_PRIVILEGE)) {
    return std::nullopt;
  }
  const cs_x86& x86 = detail.x86;
  bool rip_relative = false;
  for (uint8_t i = 0; i < x86.op_count; ++i) {
    const cs_x86_op& op = x86.operands[i];
    if (op.type == X86_OP_REG && op.reg == X86_REG_RIP) return std::nullopt;
    if (op.type != X86_OP_MEM) continue;
    if (op.mem.base == X86_REG_EIP) return std::nullopt;
    if (op.mem.base == X86_REG_RIP) rip_relative = true;
  }
  if (InGroup(detail, X86_GRP_RET)) {
    moved.kind = MovedInsn::Kind::kEnd;
    // Only the near return; a far one goes by a segment that a 64-bit-only kernel does not have.
    return moved.bytes[0] == 0xc3 || moved.bytes[0] == 0xc2 || moved.bytes[0] == 0xf3
               ? std::optional<MovedInsn>(moved)
               : std::nullopt;
  }
  if (InGroup(detail, X86_GRP_JUMP)) {
    if (std::optional<MovedInsn> direct = DirectJump(*insn, moved)) return direct;
    if (InGroup(detail, X86_GRP_BRANCH_RELATIVE) || rip_relative) return std::nullopt;
    // Indirect through a register or memory: FF /4.
    moved.kind = MovedInsn::Kind::kEnd;
    return insn->id == X86_INS_JMP ? std::optional<MovedInsn>(moved) : std::nullopt;
  }
  if (rip_relative) {
    const uint8_t at = x86.encoding.disp_offset;
    if (x86.encoding.disp_size != 4 || at == 0 || at + 4 > insn->size) return std::nullopt;
    moved.kind = MovedInsn::Kind::kRipRelative;
    moved.disp_offset = at;
    int32_t disp = 0;
    std::memcpy(&disp, moved.bytes.data() + at, 4);
    moved.target = addr + insn->size + static_cast<int64_t>(disp);
  }
  return moved;
}

}  // namespace ringwall::systrap
