// The one place that speaks to capstone: lengths of instructions, and whether one can be moved.
#ifndef RINGWALL_PLATFORM_SYSTRAP_DISASSEMBLER_H_
#define RINGWALL_PLATFORM_SYSTRAP_DISASSEMBLER_H_

#include <cstdint>
#include <optional>

#include "platform/systrap/patcher.h"

namespace ringwall::systrap {

// Not thread-safe.
class Disassembler {
 public:
  Disassembler();
  ~Disassembler();
  Disassembler(const Disassembler&) = delete;
  Disassembler& operator=(const Disassembler&) = delete;

  // Has capstone sort its tables, for which the C library asks for the memory's size: before the
  // filter goes up.
  static void Prepare();

  // The length of the instruction at addr; 0 when the bytes are none or leave the view.
  uint8_t Length(const CodeView& code, uint64_t addr);
  // The instruction at addr when it can run elsewhere.
  std::optional<MovedInsn> Movable(const CodeView& code, uint64_t addr);
  // Whether control cannot go on behind the instruction at addr, or it is mere padding.
  bool IsPadding(const CodeView& code, uint64_t addr);

 private:
  void SetDetail(bool on);

  uintptr_t handle_ = 0;
  void* insn_ = nullptr;
  bool detail_ = false;
};

}  // namespace ringwall::systrap

#endif  // RINGWALL_PLATFORM_SYSTRAP_DISASSEMBLER_H_
