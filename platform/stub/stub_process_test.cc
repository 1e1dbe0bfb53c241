#include "platform/stub/stub_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "platform/platform.h"
#include "platform/stub/address_space.h"

namespace ringwall {
namespace {

// An address space without a way to run guest code.
class BareAddressSpace final : public StubAddressSpace {
 public:
  BareAddressSpace(Ref<StubHost> host, std::unique_ptr<StubProcess> stub)
      : StubAddressSpace(std::move(host), std::move(stub)) {}

 private:
  Result<Ref<AddressSpace>> Adopt(std::unique_ptr<StubProcess> child) override {
    return Ref<AddressSpace>(MakeRef<BareAddressSpace>(Ref<StubHost>(host()), std::move(child)));
  }
};

constexpr GuestAddr kAddr(0x10000000);
constexpr GuestRange kRange{kAddr, kAddr + 16 * kPageSize};

class StubTest : public testing::Test {
 protected:
  void SetUp() override {
    HostResult<Ref<StubHost>> host = StubHost::Create();
    ASSERT_TRUE(host.ok()) << host.error().message();
    host_ = *host;
    as_ = New();
  }
  RefPtr<AddressSpace> New() {
    Result<std::unique_ptr<StubProcess>> stub = host_->NewStub();
    EXPECT_EQ(stub.error_value(), 0);
    return MakeRef<BareAddressSpace>(Ref<StubHost>(host_), std::move(*stub));
  }
  static int MapAnon(AddressSpace& as, GuestRange range = kRange) {
    return as.Map(range, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).error_value();
  }
  static int Put(AddressSpace& as, GuestAddr at, uint32_t value) {
    return as.Write(at, std::as_bytes(std::span(&value, 1))).error_value();
  }
  static uint32_t Get(AddressSpace& as, GuestAddr at) {
    uint32_t value = 0;
    EXPECT_EQ(as.Read(at, std::as_writable_bytes(std::span(&value, 1))).error_value(), 0);
    return value;
  }

  RefPtr<StubHost> host_;
  RefPtr<AddressSpace> as_;
};

TEST_F(StubTest, MappedMemoryHoldsWhatIsWritten) {
  ASSERT_EQ(MapAnon(*as_), 0);
  EXPECT_EQ(Get(*as_, kAddr), 0u);
  ASSERT_EQ(Put(*as_, kAddr + 4096, 77), 0);
  EXPECT_EQ(Get(*as_, kAddr + 4096), 77u);
  EXPECT_EQ(as_->Unmap(kRange).error_value(), 0);
  EXPECT_EQ(Put(*as_, kAddr, 1), EFAULT);
}

TEST_F(StubTest, ForkCopiesOnWrite) {
  ASSERT_EQ(MapAnon(*as_), 0);
  ASSERT_EQ(Put(*as_, kAddr, 1), 0);
  Result<Ref<AddressSpace>> child = as_->Fork();
  ASSERT_EQ(child.error_value(), 0);
  EXPECT_NE((*child)->host_pid(), as_->host_pid());
  ASSERT_EQ(Put(**child, kAddr, 2), 0);
  EXPECT_EQ(Get(*as_, kAddr), 1u);
  EXPECT_EQ(Get(**child, kAddr), 2u);
  EXPECT_EQ((*child)->Unmap(kRange).error_value(), 0);
  EXPECT_EQ(Get(*as_, kAddr), 1u);
}

}  // namespace
}  // namespace ringwall
