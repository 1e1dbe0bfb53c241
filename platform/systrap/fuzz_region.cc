// libFuzzer: a guest thread that writes what it likes into the region which it shares with the Sentry.
// A thread of this process plays the stub: whenever it has the region it fills it from the input. The
// Sentry must take any of it, and stay inside the region.
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "platform/systrap/systrap_address_space.h"
#include "platform/systrap/systrap_context.h"
#include "platform/systrap/systrap_platform.h"
#include "platform/xstate.h"
#include "sentry/base/check.h"

using namespace ringwall;
using systrap::Region;

namespace {

constexpr int kMostTurns = 12;

// The input, handed out in order; zeros after its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t Byte() { return size_ == 0 ? 0 : (size_--, *data_++); }
  uint64_t Word() {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | Byte();
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

class Stub {
 public:
  Stub(Region* region, Input& input) : region_(region), input_(input), thread_([this] { Run(); }) {
    while (tid_.load() == 0) std::this_thread::yield();
  }
  ~Stub() {
    stop_.store(true);
    thread_.join();
  }
  pid_t tid() const { return tid_.load(); }

 private:
  void Run() {
    tid_.store(static_cast<pid_t>(::syscall(SYS_gettid)));
    while (!stop_.load()) {
      if ((__atomic_load_n(&region_->state, __ATOMIC_ACQUIRE) & RW_STATE_SENTRY) != 0) {
        std::this_thread::yield();
        continue;
      }
      // Events that are likely to be looked at; then words anywhere.
      const uint8_t what = input_.empty() ? RW_EVENT_SYSCALL : input_.Byte();
      region_->message = what % 8 | (input_.Byte() & 0x7f) << 8 | (what >> 3) << RW_INPUTS_SHIFT |
                         (what % 8 == RW_EVENT_DONE ? RW_FLAG_VIEW_FAILED : 0);
      for (int n = input_.Byte() % 8; n > 0; n--) {
        const size_t at = 8 + (input_.Byte() | input_.Byte() << 8) % (sizeof(Region) - 16);
        const uint64_t value = input_.Word();
        std::memcpy(reinterpret_cast<std::byte*>(region_) + at, &value, sizeof(value));
      }
      for (int n = input_.Byte() % 4; n > 0; n--) {
        const size_t at = RW_REGION_XSTATE + (input_.Byte() | input_.Byte() << 8) % 0x12000;
        reinterpret_cast<uint8_t*>(region_)[at] = input_.Byte();
      }
      __atomic_store_n(&region_->state, RW_STATE_SENTRY, __ATOMIC_SEQ_CST);
      ::syscall(SYS_futex, &region_->state, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    }
  }

  Region* const region_;
  Input& input_;  // the Sentry's side reads it only while it has the region
  std::atomic<pid_t> tid_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class MemoryFile final : public ViewedFile {
 public:
  MemoryFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) { RW_CHECK(::ftruncate(fd_, 100'000) == 0); }
  int host_fd() const override { return fd_; }
  Result<size_t> ReadAt(std::span<std::byte> to, uint64_t pos) override {
    const ssize_t n = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(pos));
    if (n < 0) return Errno(errno);
    return static_cast<size_t>(n);
  }

 private:
  const int fd_;
};

// What the Sentry does with an event.
void Use(SystrapContext& context, AddressSpace& space, Input& input) {
  std::byte bytes[512];
  const size_t size = std::min<size_t>(input.Byte() * 2, sizeof(bytes));
  const GuestAddr at(input.Word());
  switch (input.Byte() % 13) {
    case 0:
      context.ReadWindow(at, std::span(bytes, size));
      break;
    case 1: {
      const std::optional<std::string> text = context.ReadWindowString(at, size);
      RW_CHECK(!text || text->size() <= size);
      break;
    }
    case 2:
      context.WriteWindow(at, std::span(bytes, size));
      break;
    case 3: {
      const std::span<std::byte> room = context.ReserveWindow(size * 256);
      std::fill(room.begin(), room.end(), std::byte{1});
      if (!room.empty()) context.QueueReserved(at, std::min(size, room.size()));
      break;
    }
    case 4:
      context.SettleWindow();
      break;
    case 5: {
      std::vector<std::byte> state(context.xstate_size());
      if (context.GetXState(state).ok()) RW_CHECK(CheckXState(state).ok());
      break;
    }
    case 6:
      context.RegsChanged();
      context.regs().rip = at.value();
      break;
    case 7: {
      HostFutexCall call = {};
      call.op = static_cast<uint32_t>(input.Byte() % 12);
      call.has_deadline = true;
      static_cast<void>(context.HostFutex(call).ok());
      break;
    }
    case 8:
      context.Interrupt();
      break;
    case 9: {
      static ViewedFile* const file = MakeRef<MemoryFile>().Leak();
      const uint64_t pos = input.Byte() * 512;
      context.SetLocalAnswers({.enabled = true});
      if (!space.MakeView(*file, pos).ok()) break;
      static_cast<void>(context.QueueFromView(at, *file, pos, size * 16));
      break;
    }
    case 10:
      space.DropViews(nullptr);
      break;
    case 11: {
      EpollCalls* const ahead = EpollCalls::Current();
      if (ahead == nullptr) break;
      std::array<EpollCall, EpollCalls::kMost> calls;
      RW_CHECK(ahead->TakeEpollCalls(calls) <= calls.size());
      context.SetLocalAnswers({.enabled = true});
      ahead->TellEpoll(static_cast<int>(size), static_cast<int>(at.value()), true);
      break;
    }
    default:
      static_cast<void>(context.signal_mask());
      context.set_result(at.value());
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Platform* const platform = [] {
    HostResult<std::unique_ptr<Platform>> made = SystrapPlatform::Create();
    RW_CHECK(made.ok());
    return made.TakeValue().release();
  }();
  static RefPtr<AddressSpace> const space = *platform->NewAddressSpace();
  auto& as = static_cast<SystrapAddressSpace&>(*space);
  static const uint32_t index = *as.core().regions().Take();
  Region* const region = as.core().regions().At(index);
  std::memset(region, 0, RW_REGION_SIZE);
  region->state = RW_STATE_SENTRY;

  Input input(data, size);
  Stub stub(region, input);
  SystrapContext context(Ref<SystrapAddressSpace>(as), GuestThread{index, stub.tid(), true});
  for (int turn = 0; turn < kMostTurns && !input.empty(); turn++) {
    const Event event = context.Switch();
    RW_CHECK(event.kind != EventKind::kStubLost);
    static_cast<void>(context.syscall_request());
    for (int n = input.Byte() % 4; n > 0; n--) Use(context, as, input);
  }
  // The context gives its thread back, which the space must not hand out.
  __atomic_store_n(&region->state, RW_STATE_SENTRY, __ATOMIC_SEQ_CST);
  return 0;
}
