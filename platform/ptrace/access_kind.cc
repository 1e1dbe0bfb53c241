// A decoder of just so much of x86-64 as says which operand is written: prefixes, opcode map, opcode
// and the register field of ModRM. Intel's manual, volume 2, appendix A.
#include "platform/ptrace/access_kind.h"

#include <cstddef>
#include <initializer_list>

namespace ringwall {
namespace {

struct Insn {
  int map = 0;       // 0: one byte; 1: 0F; 2: 0F 38; 3: 0F 3A
  int prefix = 0;    // 0, 0x66, 0xf3, 0xf2
  bool vector = false;  // VEX or EVEX
  uint8_t opcode = 0;
  int reg = 0;          // of ModRM
};

bool In(uint8_t value, std::initializer_list<int> set) {
  for (const int v : set) {
    if (v == value) return true;
  }
  return false;
}

bool Decode(std::span<const uint8_t> code, Insn* insn) {
  size_t at = 0;
  const auto next = [&](uint8_t* byte) {
    if (at >= code.size()) return false;
    *byte = code[at++];
    return true;
  };
  uint8_t b;
  for (;;) {
    if (!next(&b)) return false;
    if (b == 0x66 || b == 0xf2 || b == 0xf3) {
      if (insn->prefix == 0 || b != 0x66) insn->prefix = b;
    } else if ((b & 0xf0) != 0x40 && !In(b, {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67, 0xf0})) {
      // REX only counts before the opcode, but may stand anywhere.
      break;
    }
  }
  static constexpr int kPrefixes[] = {0, 0x66, 0xf3, 0xf2};
  if (b == 0xc5 || b == 0xc4 || b == 0x62) {
    uint8_t p0 = 0, p1 = 0, p2 = 0;
    insn->vector = true;
    if (!next(&p0)) return false;
    if (b == 0xc5) {
      insn->map = 1;
      insn->prefix = kPrefixes[p0 & 3];
    } else {
      if (!next(&p1) || (b == 0x62 && !next(&p2))) return false;
      insn->map = p0 & (b == 0x62 ? 7 : 31);
      insn->prefix = kPrefixes[p1 & 3];
    }
    if (!next(&b)) return false;
  } else {
    if (b == 0x0f) {
      insn->map = 1;
      if (!next(&b)) return false;
      if (b == 0x38 || b == 0x3a) {
        insn->map = b == 0x38 ? 2 : 3;
        if (!next(&b)) return false;
      }
    }
  }
  insn->opcode = b;
  uint8_t modrm = 0;
  insn->reg = next(&modrm) ? modrm >> 3 & 7 : 0;
  return true;
}

bool OneByteWrites(const Insn& i, const abi::Registers& regs, uint64_t addr) {
  const uint8_t op = i.opcode;
  // Arithmetic with the memory operand first; not the comparison.
  if (op < 0x38 && (op & 7) < 2) return true;
  // What only touches the stack besides: push, call, enter.
  constexpr uint64_t kPushed = 64, kEntered = 65536 + 32 * 8;
  const bool stack = addr < regs.rsp && regs.rsp - addr <= kPushed;
  if ((op >= 0x50 && op < 0x58) || In(op, {0x68, 0x6a, 0x9c, 0xe8})) return true;
  switch (op) {
    case 0x80:
    case 0x81:
    case 0x83:
      return i.reg != 7;
    case 0xf6:
    case 0xf7:
      return i.reg == 2 || i.reg == 3;
    case 0xfe:
      return true;
    case 0xc8:  // enter: pushes what it reads by rbp
      return addr < regs.rsp && regs.rsp - addr <= kEntered;
    case 0xff:
      return i.reg < 2 || stack;
    case 0xa4:
    case 0xa5:  // movs: from rsi to rdi
      return addr >= regs.rdi - 8 && addr < regs.rdi + 8;
    case 0xd9:
      return i.reg == 2 || i.reg == 3 || i.reg >= 6;
    case 0xdb:
    case 0xdf:
      return (i.reg >= 1 && i.reg <= 3) || i.reg == 7 || (op == 0xdf && i.reg == 6);
    case 0xdd:
      return (i.reg >= 1 && i.reg <= 3) || i.reg >= 6;
    default:
      return In(op, {0x6c, 0x6d, 0x86, 0x87, 0x88, 0x89, 0x8c, 0x8f, 0xa2, 0xa3, 0xaa, 0xab, 0xc0,
                     0xc1, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3});
  }
}

bool TwoByteWrites(const Insn& i) {
  const uint8_t op = i.opcode;
  if (op == 0x7e) return i.prefix != 0xf3;
  if (In(op, {0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xd6, 0xe7})) return true;
  if (op == 0xae) return i.reg == 0 || i.reg == 3 || (!i.vector && (i.reg == 4 || i.reg == 6));
  if (i.vector) return op == 0x91;  // kmov
  if (op >= 0x90 && op < 0xa0) return true;  // setcc
  if (op == 0xba) return i.reg >= 5;
  if (op == 0xc7) return i.reg == 1 || i.reg == 4;
  return In(op, {0xa0, 0xa4, 0xa5, 0xa8, 0xab, 0xac, 0xad, 0xb0, 0xb1, 0xb3, 0xbb, 0xc0, 0xc1, 0xc3,
                 0xf7});
}

bool Map38Writes(const Insn& i) {
  const uint8_t op = i.opcode;
  if (!i.vector) return (op == 0xf1 && i.prefix != 0xf2) || op == 0xf8 || op == 0xf9;
  if (i.prefix == 0xf3) return (op & 0x0f) < 6 && op >= 0x10 && op < 0x40;  // vpmov to smaller
  return In(op, {0x2e, 0x2f, 0x63, 0x8a, 0x8b, 0x8e, 0xa0, 0xa1, 0xa2, 0xa3});
}

bool Map3aWrites(const Insn& i) {
  return In(i.opcode, {0x14, 0x15, 0x16, 0x17}) ||
         (i.vector && In(i.opcode, {0x19, 0x1b, 0x1d, 0x39, 0x3b}));
}

}  // namespace

bool WritesAt(std::span<const uint8_t> code, const abi::Registers& regs, uint64_t fault_addr) {
  Insn insn;
  if (!Decode(code, &insn)) return false;
  switch (insn.map) {
    case 0:
      return !insn.vector && OneByteWrites(insn, regs, fault_addr);
    case 1:
      return TwoByteWrites(insn);
    case 2:
      return Map38Writes(insn);
    case 3:
      return Map3aWrites(insn);
    default:
      return false;
  }
}

bool IsX87(std::span<const uint8_t> code) {
  Insn insn;
  if (!Decode(code, &insn) || insn.vector) return false;
  const uint8_t op = insn.opcode;
  if (insn.map == 0) return op == 0x9b || (op & 0xf8) == 0xd8;
  return insn.map == 1 && insn.prefix == 0 && ((op >= 0x60 && op < 0x80) || op >= 0xd0);  // MMX
}

}  // namespace ringwall
