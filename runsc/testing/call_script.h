// CallScript: system calls out of a fuzzer's bytes. A target says which descriptors to open first and
// how bytes become a call; this keeps the guest's memory that arguments point to.
#ifndef RINGWALL_RUNSC_TESTING_CALL_SCRIPT_H_
#define RINGWALL_RUNSC_TESTING_CALL_SCRIPT_H_

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include "runsc/testing/script_sentry.h"
#include "sentry/base/check.h"

namespace ringwall::testing {

// Bytes to decide by; zeros when they are used up.
class FuzzBytes {
 public:
  explicit FuzzBytes(std::span<const uint8_t> bytes) : left_(bytes) {}
  bool empty() const { return left_.empty(); }
  uint8_t Byte() {
    if (left_.empty()) return 0;
    const uint8_t b = left_[0];
    left_ = left_.subspan(1);
    return b;
  }
  uint16_t U16() { return static_cast<uint16_t>(Byte() | Byte() << 8); }
  uint32_t U32() { return U16() | uint32_t{U16()} << 16; }
  // A length byte, and as many bytes.
  std::span<const uint8_t> Some() {
    const size_t want = Byte();
    const size_t n = std::min(want, left_.size());
    const std::span<const uint8_t> some = left_.first(n);
    left_ = left_.subspan(n);
    return some;
  }
  template <typename T, size_t kCount>
  const T& OneOf(const std::array<T, kCount>& choice) {
    return choice[Byte() % kCount];
  }
  // A size or an offset: small ones, and those at which arithmetic goes wrong.
  uint64_t Size() {
    const uint8_t b = Byte();
    if (b < 0xe0) return b;
    constexpr std::array<uint64_t, 8> kEdges = {4095,       4096,       65536,         0x7fff'ffff,
                                                0xffff'ffff, ~uint64_t{0}, ~uint64_t{0} >> 1, uint64_t{1} << 63};
    return kEdges[b % kEdges.size()];
  }

 private:
  std::span<const uint8_t> left_;
};

class CallScript : public Script {
 public:
  explicit CallScript(std::span<const uint8_t> input) : in_(input) {}
  std::optional<ScriptCall> Next(AddressSpace& memory, int64_t) final {
    memory_ = &memory;
    at_ = kArguments;
    if (std::optional<ScriptCall> call = SetUp(step_)) {
      step_++;
      return call;
    }
    if (in_.empty() || calls_++ == kMostCalls) return std::nullopt;
    return FromInput(in_);
  }

 protected:
  // The calls before the input's, by number; the first descriptor opened is 0.
  virtual std::optional<ScriptCall> SetUp(size_t step) = 0;
  virtual ScriptCall FromInput(FuzzBytes& in) = 0;

  // Guest addresses of a copy of these bytes, and of room for output.
  uint64_t Put(const void* bytes, size_t size) {
    RW_CHECK(at_ + size <= kScriptStack);
    const std::span<const std::byte> from(static_cast<const std::byte*>(bytes), size);
    if (size != 0) static_cast<void>(memory_->Write(GuestAddr(at_), from).ok());
    return Room(size);
  }
  uint64_t Put(std::span<const uint8_t> bytes) { return Put(bytes.data(), bytes.size()); }
  template <typename T>
  uint64_t PutValue(const T& value) {
    return Put(&value, sizeof(value));
  }
  uint64_t PutString(std::string_view s) { return Put(std::string(s).c_str(), s.size() + 1); }
  uint64_t Room(size_t size) {
    const uint64_t at = at_;
    at_ += (size + 15) & ~uint64_t{15};
    return at;
  }

 private:
  static constexpr uint64_t kArguments = kScriptMemory + 0x1000;
  static constexpr int kMostCalls = 24;
  AddressSpace* memory_ = nullptr;
  uint64_t at_ = kArguments;
  size_t step_ = 0;
  int calls_ = 0;
  FuzzBytes in_;
};

// What a target's LLVMFuzzerTestOneInput does.
template <typename S>
int RunInput(const uint8_t* data, size_t size) {
  RunScript(std::make_unique<S>(std::span(data, size)));
  return 0;
}

}  // namespace ringwall::testing

#endif  // RINGWALL_RUNSC_TESTING_CALL_SCRIPT_H_
