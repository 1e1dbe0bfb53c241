// The hand-over between guest threads and the kernel's: its words and sleepers are within a guest's reach,
// and nobody but the guest itself may come to harm by that.
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "platform/systrap/region.h"
#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

// A system call followed by a return in the stub's text, which its filter lets do more than other code.
uint64_t FindCallInStub() {
  for (uint64_t at = RW_STUB_TEXT; at < RW_STUB_TEXT + 0x20000; at++) {
    if (at % 4096 == 0 && !Readable(at)) return 0;
    const auto* p = reinterpret_cast<const unsigned char*>(at);
    if (at % 4096 < 4094 && p[0] == 0x0f && p[1] == 0x05 && p[2] == 0xc3) return at;
  }
  return 0;
}

long FutexFrom(uint64_t code, uint64_t word, long op, long value, long value2, uint64_t word2, long value3) {
  register long r10 asm("r10") = value2;
  register uint64_t r8 asm("r8") = word2;
  register long r9 asm("r9") = value3;
  long result;
  asm volatile("call *%[code]"
               : "=a"(result)
               : [code] "r"(code), "a"(SYS_futex), "D"(word), "S"(op), "d"(value), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// The kernel's thread sleeps on the word of its guest thread. Moved to another word, it would sleep on
// when the process is told to end.
TEST(HandoverTest, SleepersStayWhereTheyAre) {
  if (!Inside()) GTEST_SKIP() << "natively there is no such code";
  const int status = RunHostile([] {
    CatchFaults();
    const uint64_t code = FindCallInStub();
    if (code == 0) return kFailed;
    static std::atomic<bool> running{false};
    std::thread([] {
      running = true;
      for (;;) asm volatile("pause");
    }).detach();
    while (!running) usleep(1000);
    usleep(100000);
    static uint32_t mine;
    // None of these calls may do anything; the regions are where they are by the layout.
    for (int i = 0; i < 4096; i++) {
      const uint64_t region = RW_STUB_REGIONS + static_cast<uint64_t>(i) * RW_REGION_SIZE;
      if (!Readable(region)) continue;
      const uint32_t state = *reinterpret_cast<volatile uint32_t*>(region + RW_R_STATE);
      const auto there = reinterpret_cast<uint64_t>(&mine);
      if (FutexFrom(code, region, FUTEX_REQUEUE, 0, 100, there, 0) > 0) return kReached;
      if (FutexFrom(code, region, FUTEX_CMP_REQUEUE, 0, 100, there, state) > 0) return kReached;
    }
    for (;;) pause();
  }, 3000);
  EXPECT_TRUE(AimFailed(status));
  ExpectWell();
}

// Calls of epoll_ctl that the stub has answered lie in the region until the kernel makes them.
TEST(HandoverTest, ForgedCallsOfEpollAreTheForgersOwn) {
  if (!Inside()) GTEST_SKIP() << "natively there is no such memory";
  const int status = RunHostile([] {
    CatchFaults();
    std::vector<systrap::Region*> regions;
    for (uint64_t i = 0; i < 64; i++) {
      const uint64_t region = RW_STUB_REGIONS + i * RW_REGION_SIZE;
      if (Readable(region)) regions.push_back(reinterpret_cast<systrap::Region*>(region));
    }
    const int epoll = epoll_create1(0);
    int ends[2];
    if (epoll < 0 || pipe(ends) != 0) return kFailed;
    std::minstd_rand random(1);
    for (int round = 0; round < 300; round++) {
      epoll_event event = {};
      event.events = EPOLLIN;
      epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
      epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], nullptr);
      for (systrap::Region* const r : regions) {
        for (systrap::RegionEpollCall& call : r->epoll_calls) {
          const int fds[] = {ends[0], epoll, -1, 1 << 30, static_cast<int>(random() % 64)};
          call = {static_cast<int>(random() % 5), fds[random() % 5], static_cast<uint32_t>(random()), 0, random()};
        }
        for (uint8_t& known : r->epoll_known) known = static_cast<uint8_t>(random() % 3);
        r->epoll_count = round % 3 == 0 ? ~0U : static_cast<uint32_t>(random() % 40);
        if (round % 7 == 0) r->epoll_fd = static_cast<uint32_t>(random());
      }
      epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &event);
      poll(nullptr, 0, 0);
    }
    return kFailed;
  }, 10'000);
  EXPECT_EQ(status, 0);  // to its end, so that all of it was tried
  ExpectWell();
}

}  // namespace
}  // namespace ringwall::test
