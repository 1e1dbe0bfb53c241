// Decides whether a `syscall` instruction of guest code can be reached through a jump to a
// trampoline instead, and writes that trampoline. Pure functions over bytes: reading and writing
// guest memory, and stopping the other threads meanwhile, are the caller's (patch_table.h).
//
// Two kinds of plan. *Ahead*: one instruction of at least five bytes before the syscall becomes the
// jump; all between it and the syscall is copied, and stays in place too, so that a thread or a
// branch that arrives behind the jump still finds the old code and traps as before. *Over*: the
// syscall itself and its neighbours become the jump; only when no direct branch in reach targets
// the inside. Either way an address in a trampoline has a counterpart in the original code.
//
// The bytes are hostile: whatever they are, a plan only ever changes the guest's own code.
#ifndef RINGWALL_PLATFORM_SYSTRAP_PATCHER_H_
#define RINGWALL_PLATFORM_SYSTRAP_PATCHER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace ringwall::systrap {

inline constexpr size_t kJumpSize = 5;          // jmp rel32
inline constexpr size_t kMaxReplaced = 32;      // bytes of the original code that one patch covers
inline constexpr size_t kMaxMoved = 8;          // instructions moved on either side
inline constexpr size_t kTrampolineSlot = 192;  // bytes for one trampoline

// Guest text: bytes[i] lies at base + i. All of it belongs to one mapping.
struct CodeView {
  uint64_t base = 0;
  std::span<const uint8_t> bytes;

  bool Contains(uint64_t addr, uint64_t size) const {
    return addr >= base && addr - base <= bytes.size() && size <= bytes.size() - (addr - base);
  }
  const uint8_t* At(uint64_t addr) const { return bytes.data() + (addr - base); }
};

// One instruction that can run at another address.
struct MovedInsn {
  enum class Kind : uint8_t {
    kPlain,        // position independent
    kRipRelative,  // a 32-bit displacement from the next instruction, at disp_offset
    kJcc,          // conditional jump to `target`
    kJmp,          // direct jump to `target`
    kEnd,          // position independent, and control does not go on behind it (ret, jmp *reg)
  };
  Kind kind = Kind::kPlain;
  uint8_t size = 0;
  uint8_t disp_offset = 0;
  uint8_t condition = 0;  // kJcc: the low nibble of the opcode
  uint64_t addr = 0;
  uint64_t target = 0;  // kJcc, kJmp; kRipRelative: what it refers to
  std::array<uint8_t, 15> bytes = {};

  bool FallsThrough() const { return kind != Kind::kJmp && kind != Kind::kEnd; }
};

struct SitePlan {
  uint64_t site = 0;   // the syscall instruction
  uint64_t start = 0;  // first replaced byte
  uint8_t length = 0;  // replaced bytes; the first five become the jump
  std::array<uint8_t, kMaxReplaced> original = {};
  uint8_t before_count = 0, after_count = 0;
  std::array<MovedInsn, kMaxMoved> before, after;
  // Where the original code goes on behind what was moved.
  uint64_t resume = 0;

  bool Covers(uint64_t addr) const { return addr >= start && addr < start + length; }
};

// nullopt when no safe plan is found. `observed_rax` is rax at a system call made from this site:
// it proves that a `mov $nr, %eax` right before it is what it seems.
std::optional<SitePlan> PlanSite(const CodeView& code, uint64_t site, uint64_t observed_rax);

// What trampolines need to know about the stub.
struct StubGates {
  // The upper 32 bits of every region's address: GS's base must have them for the short way.
  uint32_t regions_high = 0;
  // Where the address of the stub's patched entry is stored, within reach of the trampoline.
  uint64_t entry_pointer = 0;
};

// An instruction boundary in a trampoline, and the address of the original code that a thread there
// has got to.
struct TrampolinePoint {
  uint8_t offset = 0;
  uint64_t original = 0;
};

struct Trampoline {
  using Point = TrampolinePoint;
  uint8_t size = 0;
  uint8_t point_count = 0;
  std::array<uint8_t, kTrampolineSlot> bytes = {};
  std::array<Point, 2 * kMaxMoved + 16> points = {};  // ascending

  std::span<const Point> Points() const { return {points.data(), point_count}; }
};

// The original address for any offset in a trampoline.
uint64_t OriginalAt(std::span<const TrampolinePoint> points, uint64_t offset);

// nullopt when something the moved code refers to is out of reach from `addr`.
std::optional<Trampoline> BuildTrampoline(const SitePlan& plan, uint64_t addr,
                                          const StubGates& gates);

// The bytes to write at plan.start (plan.length of them); nullopt when `trampoline` is out of
// reach.
std::optional<std::array<uint8_t, kMaxReplaced>> JumpBytes(const SitePlan& plan,
                                                           uint64_t trampoline);

// The offset in the trampoline at which a thread goes on whose address lies inside the replaced
// bytes, or nullopt when none stands for it.
std::optional<uint8_t> OffsetForOriginal(std::span<const TrampolinePoint> points, uint64_t site,
                                         uint64_t rip);

}  // namespace ringwall::systrap

#endif  // RINGWALL_PLATFORM_SYSTRAP_PATCHER_H_
