// Writes the trampolines that patcher.h describes. What a trampoline does between the moved
// instructions:
//
//     rdgsbase %rcx             a system call changes rcx and r11 anyway, so they are free here;
//     rorx $32, %rcx, %rcx      nothing in this piece may change a flag
//     lea -high(%rcx), %ecx
//     jrcxz 1f                  GS still points at a region?
//     syscall                   no: trap
//     jmp 2f
//  1: movabs $site+2, %rcx
//     lea 2f(%rip), %r11
//     jmp *entry(%rip)          the stub saves the rest
//  2:
#include <algorithm>
#include <cstring>

#include "platform/systrap/patcher.h"
#include "sentry/base/check.h"

namespace ringwall::systrap {
namespace {

constexpr uint64_t kSyscallSize = 2;

class Writer {
 public:
  Writer(Trampoline& out, uint64_t addr) : out_(out), addr_(addr) {}

  // Starts an instruction that stands for `original`.
  void Point(uint64_t original) {
    RW_CHECK(out_.point_count < out_.points.size());
    out_.points[out_.point_count++] = {out_.size, original};
  }
  void Bytes(std::initializer_list<int> bytes) {
    for (const int b : bytes) Byte(static_cast<uint8_t>(b));
  }
  void Raw(const uint8_t* bytes, size_t n) {
    for (size_t i = 0; i < n; ++i) Byte(bytes[i]);
  }
  template <typename T>
  void Value(T value) {
    uint8_t bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    Raw(bytes, sizeof value);
  }
  // A 32-bit displacement to `target`, counted from behind itself and `more` bytes.
  void Relative(uint64_t target, uint64_t more = 0) {
    const int64_t distance = static_cast<int64_t>(target - (here() + 4 + more));
    if (distance != static_cast<int32_t>(distance)) reachable_ = false;
    Value(static_cast<int32_t>(distance));
  }
  void Moved(const MovedInsn& insn) {
    Point(insn.addr);
    switch (insn.kind) {
      case MovedInsn::Kind::kPlain:
      case MovedInsn::Kind::kEnd:
        Raw(insn.bytes.data(), insn.size);
        break;
      case MovedInsn::Kind::kRipRelative:
        Raw(insn.bytes.data(), insn.disp_offset);
        Relative(insn.target, insn.size - insn.disp_offset - 4);
        Raw(insn.bytes.data() + insn.disp_offset + 4, insn.size - insn.disp_offset - 4);
        break;
      case MovedInsn::Kind::kJcc:
        Bytes({0x0f, 0x80 | insn.condition});
        Relative(insn.target);
        break;
      case MovedInsn::Kind::kJmp:
        Jump(insn.target);
        break;
    }
  }
  void Jump(uint64_t target) {
    Byte(0xe9);
    Relative(target);
  }
  uint64_t here() const { return addr_ + out_.size; }
  bool good() const { return reachable_ && fits_; }

 private:
  void Byte(uint8_t b) {
    if (out_.size == kTrampolineSlot) {
      fits_ = false;  // long instructions; the site stays as it is
      return;
    }
    out_.bytes[out_.size++] = b;
  }
  Trampoline& out_;
  const uint64_t addr_;
  bool reachable_ = true;
  bool fits_ = true;
};

}  // namespace

uint64_t OriginalAt(std::span<const TrampolinePoint> points, uint64_t offset) {
  uint64_t original = points.empty() ? 0 : points[0].original;
  for (const TrampolinePoint& point : points) {
    if (point.offset > offset) break;
    original = point.original;
  }
  return original;
}

std::optional<Trampoline> BuildTrampoline(const SitePlan& plan, uint64_t addr,
                                          const StubGates& gates) {
  Trampoline out;
  Writer w(out, addr);
  for (size_t i = 0; i < plan.before_count; ++i) w.Moved(plan.before[i]);

  const uint64_t behind = plan.site + kSyscallSize;
  w.Point(plan.site);
  w.Bytes({0xf3, 0x48, 0x0f, 0xae, 0xc9});        // rdgsbase %rcx
  w.Bytes({0xc4, 0xe3, 0xfb, 0xf0, 0xc9, 0x20});  // rorx $32, %rcx, %rcx
  w.Bytes({0x8d, 0x89});                          // lea -high(%rcx), %ecx
  w.Value(static_cast<uint32_t>(-gates.regions_high));
  w.Bytes({0xe3, 0x04});  // jrcxz 1f
  w.Bytes({0x0f, 0x05});  // syscall
  w.Point(behind);
  w.Bytes({0xeb, 10 + 7 + 6});  // jmp 2f
  w.Point(plan.site);
  w.Bytes({0x48, 0xb9});  // 1: movabs $behind, %rcx
  w.Value(behind);
  w.Bytes({0x4c, 0x8d, 0x1d});  // lea 2f(%rip), %r11
  w.Value(static_cast<int32_t>(6));
  w.Bytes({0xff, 0x25});  // jmp *entry(%rip)
  w.Relative(gates.entry_pointer);

  bool open = true;
  if (plan.after_count == 0) w.Point(behind);
  for (size_t i = 0; i < plan.after_count; ++i) {
    w.Moved(plan.after[i]);
    open = plan.after[i].FallsThrough();
  }
  if (open) {
    if (plan.after_count != 0) w.Point(plan.resume);
    w.Jump(plan.resume);
  }
  if (!w.good()) return std::nullopt;
  return out;
}

std::optional<std::array<uint8_t, kMaxReplaced>> JumpBytes(const SitePlan& plan,
                                                           uint64_t trampoline) {
  const int64_t distance = static_cast<int64_t>(trampoline - (plan.start + kJumpSize));
  const int32_t relative = static_cast<int32_t>(distance);
  if (distance != relative) return std::nullopt;
  std::array<uint8_t, kMaxReplaced> bytes = plan.original;
  bytes[0] = 0xe9;
  std::memcpy(bytes.data() + 1, &relative, 4);
  return bytes;
}

std::optional<uint8_t> OffsetForOriginal(std::span<const TrampolinePoint> points, uint64_t site,
                                         uint64_t rip) {
  // The site's first point tests GS again; for what lies behind it the last one is past the
  // hand-over.
  std::optional<uint8_t> found;
  for (const TrampolinePoint& point : points) {
    if (point.original != rip) continue;
    found = point.offset;
    if (rip == site) break;
  }
  return found;
}

}  // namespace ringwall::systrap
