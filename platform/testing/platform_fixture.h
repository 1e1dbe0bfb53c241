// What the tests of all platforms share: a platform by its name, guest code by its bytes.
#ifndef RINGWALL_PLATFORM_TESTING_PLATFORM_FIXTURE_H_
#define RINGWALL_PLATFORM_TESTING_PLATFORM_FIXTURE_H_

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "platform/platform.h"

namespace ringwall {

inline constexpr GuestAddr kText(0x400000);
inline constexpr GuestAddr kData(0x10000000);
inline constexpr GuestRange kTextRange{kText, kText + kPageSize};
inline constexpr GuestRange kDataRange{kData, kData + 16 * kPageSize};

// Machine code, written by hand.
class Code {
 public:
  enum Reg { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi };

  Code& Bytes(std::initializer_list<int> bytes) {
    for (const int b : bytes) bytes_.push_back(static_cast<std::byte>(b));
    return *this;
  }
  Code& Mov(Reg reg, uint64_t value) {  // movabs $value, reg
    Bytes({0x48, 0xb8 + reg});
    for (int i = 0; i < 8; ++i) Bytes({static_cast<int>(value >> 8 * i & 0xff)});
    return *this;
  }
  Code& Syscall() { return Bytes({0x0f, 0x05}); }
  Code& Call(uint64_t nr) { return Mov(kRax, nr).Syscall(); }
  Code& JumpBack(int distance) { return Bytes({0xeb, -(distance + 2) & 0xff}); }
  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

class PlatformTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    HostResult<std::unique_ptr<Platform>> platform = CreatePlatform({.name = GetParam()});
    ASSERT_TRUE(platform.ok()) << platform.error().message();
    platform_ = platform.TakeValue();
    ASSERT_EQ(platform_->name(), GetParam());
    as_ = NewSpace();
  }

  // With data and text mapped.
  RefPtr<AddressSpace> NewSpace() {
    Result<Ref<AddressSpace>> as = platform_->NewAddressSpace();
    EXPECT_EQ(as.error_value(), 0);
    if (!as.ok()) return nullptr;
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
    EXPECT_EQ((*as)->Map(kDataRange, PROT_READ | PROT_WRITE, kFlags, -1, 0).error_value(), 0);
    EXPECT_EQ((*as)->Map(kTextRange, PROT_READ | PROT_WRITE | PROT_EXEC, kFlags, -1, 0)
                  .error_value(),
              0);
    return *as;
  }
  // A context about to run the code.
  std::unique_ptr<Context> Start(AddressSpace& as, const Code& code, GuestAddr at = kText,
                                 Context* parent = nullptr) {
    EXPECT_EQ(as.Write(at, code.bytes()).error_value(), 0);
    Result<std::unique_ptr<Context>> context = platform_->NewContext(as, parent);
    EXPECT_EQ(context.error_value(), 0);
    if (!context.ok()) return nullptr;
    (*context)->regs().rip = at.value();
    (*context)->regs().rsp = (kData + 8 * kPageSize).value();
    (*context)->RegsChanged();
    return std::move(*context);
  }
  template <typename T = uint64_t>
  static T Get(AddressSpace& as, GuestAddr at) {
    T value = {};
    EXPECT_EQ(as.Read(at, std::as_writable_bytes(std::span(&value, 1))).error_value(), 0);
    return value;
  }
  template <typename T = uint64_t>
  static int Put(AddressSpace& as, GuestAddr at, T value) {
    return as.Write(at, std::as_bytes(std::span(&value, 1))).error_value();
  }

  std::unique_ptr<Platform> platform_;
  RefPtr<AddressSpace> as_;
};

// Names of the platforms that this build has.
#define RW_ALL_PLATFORMS testing::Values("ptrace", "systrap")

inline std::string PlatformName(const testing::TestParamInfo<const char*>& info) {
  return info.param;
}

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_TESTING_PLATFORM_FIXTURE_H_
