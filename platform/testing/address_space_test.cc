// Address spaces: what the memory thread does, and that guest code cannot disturb it.
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "platform/stub/stub_abi.h"
#include "platform/testing/platform_fixture.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

class AddressSpaceTest : public PlatformTest {};
INSTANTIATE_TEST_SUITE_P(All, AddressSpaceTest, RW_ALL_PLATFORMS, PlatformName);

constexpr int kReadWrite = PROT_READ | PROT_WRITE;
constexpr int kAnon = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr GuestAddr kElsewhere(0x20000000);

TEST_P(AddressSpaceTest, MappedMemoryHoldsWhatIsWritten) {
  EXPECT_EQ(Get(*as_, kData), 0u);
  ASSERT_EQ(Put(*as_, kData + 4096, 77), 0);
  EXPECT_EQ(Get<int>(*as_, kData + 4096), 77);
  EXPECT_EQ(as_->Unmap(kDataRange).error_value(), 0);
  EXPECT_EQ(Put(*as_, kData, 1), EFAULT);
}

TEST_P(AddressSpaceTest, CopiesHonourProtectionAndStopAtTheFirstFault) {
  ASSERT_TRUE(as_->Protect({kData + kPageSize, kData + 2 * kPageSize}, PROT_READ).ok());
  ASSERT_TRUE(as_->Protect({kData + 2 * kPageSize, kData + 3 * kPageSize}, PROT_NONE).ok());
  std::vector<std::byte> buffer(4 * kPageSize);
  Result<size_t> n = as_->Write(kData + 100, buffer);
  ASSERT_EQ(n.error_value(), 0);
  EXPECT_EQ(*n, kPageSize - 100);
  n = as_->Read(kData + 100, buffer);
  ASSERT_EQ(n.error_value(), 0);
  EXPECT_EQ(*n, 2 * kPageSize - 100);
  EXPECT_EQ(as_->Write(kData + kPageSize, buffer).error_value(), EFAULT);
  EXPECT_EQ(as_->Read(kData + 2 * kPageSize, buffer).error_value(), EFAULT);
  EXPECT_EQ(as_->Read(kData, {}).value_or(1), 0u);
}

TEST_P(AddressSpaceTest, LargeCopiesAreWhole) {
  const GuestRange range{kElsewhere, kElsewhere + (8 << 20)};
  ASSERT_TRUE(as_->Map(range, kReadWrite, kAnon, -1, 0).ok());
  std::vector<std::byte> out(8 << 20, std::byte{0x5a}), in(8 << 20);
  EXPECT_EQ(as_->Write(kElsewhere, out).value_or(0), out.size());
  EXPECT_EQ(as_->Read(kElsewhere, in).value_or(0), in.size());
  EXPECT_EQ(memcmp(in.data(), out.data(), in.size()), 0);
}

TEST_P(AddressSpaceTest, FilesOfTheSentryAreMappedByNumber) {
  const UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 4 * kPageSize), 0);
  ASSERT_EQ(pwrite(file.get(), "hello", 5, kPageSize), 5);
  const GuestRange range{kElsewhere, kElsewhere + kPageSize};
  ASSERT_EQ(as_->Map(range, kReadWrite, MAP_SHARED, file.get(), kPageSize).error_value(), 0);
  char text[6] = {};
  ASSERT_TRUE(as_->Read(kElsewhere, std::as_writable_bytes(std::span(text, 5))).ok());
  EXPECT_STREQ(text, "hello");
  ASSERT_EQ(Put(*as_, kElsewhere, 'J'), 0);
  ASSERT_EQ(pread(file.get(), text, 5, kPageSize), 5);
  EXPECT_EQ(text[0], 'J');
  EXPECT_EQ(as_->Map(range, kReadWrite, MAP_SHARED, 9999, 0).error_value(), EBADF);
}

TEST_P(AddressSpaceTest, RemapMovesAndGrows) {
  ASSERT_EQ(Put(*as_, kData, 5), 0);
  const GuestRange two{kData, kData + 2 * kPageSize};
  EXPECT_EQ(as_->Remap(two, 4 * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, kElsewhere).error_value(),
            0);
  EXPECT_EQ(Get<int>(*as_, kElsewhere), 5);
  EXPECT_EQ(Put(*as_, kElsewhere + 3 * kPageSize, 1), 0);
  EXPECT_EQ(Put(*as_, kData, 1), EFAULT);
  const GuestRange four{kElsewhere, kElsewhere + 4 * kPageSize};
  EXPECT_EQ(as_->Remap(four, kPageSize, 0, kElsewhere).error_value(), 0);
  EXPECT_EQ(Put(*as_, kElsewhere + kPageSize, 1), EFAULT);
  // Where the host would have to choose an address.
  EXPECT_EQ(as_->Remap({kElsewhere, kElsewhere + kPageSize}, kPageSize, MREMAP_MAYMOVE, kElsewhere)
                .error_value(),
            EINVAL);
}

TEST_P(AddressSpaceTest, AdviceAndLocksReachTheHost) {
  ASSERT_EQ(Put(*as_, kData, 5), 0);
  EXPECT_EQ(as_->Advise(SYS_madvise, kDataRange, MADV_DONTNEED).error_value(), 0);
  EXPECT_EQ(Get<int>(*as_, kData), 0);
  EXPECT_EQ(as_->Advise(SYS_madvise, kDataRange, 12345).error_value(), EINVAL);
  EXPECT_EQ(as_->Advise(SYS_mlock2, {kData, kData + kPageSize}, 0).error_value(), 0);
  EXPECT_EQ(as_->Advise(SYS_munlock, {kData, kData + kPageSize}, 0).error_value(), 0);
  EXPECT_EQ(as_->Advise(SYS_munmap, kDataRange, 0).error_value(), EINVAL);
  EXPECT_EQ(as_->Advise(SYS_msync, {kElsewhere, kElsewhere + kPageSize}, MS_SYNC).error_value(),
            ENOMEM);
}

TEST_P(AddressSpaceTest, MincoreTellsTouchedPages) {
  constexpr size_t kPages = 5000;  // more than one answer holds
  const GuestRange range{kElsewhere, kElsewhere + kPages * kPageSize};
  ASSERT_TRUE(as_->Map(range, kReadWrite, kAnon, -1, 0).ok());
  ASSERT_TRUE(as_->Advise(SYS_madvise, range, MADV_NOHUGEPAGE).ok());
  ASSERT_EQ(Put(*as_, kElsewhere + kPageSize, 1), 0);
  ASSERT_EQ(Put(*as_, kElsewhere + 4999 * kPageSize, 1), 0);
  std::vector<uint8_t> pages(kPages, 0xff);
  ASSERT_EQ(as_->Mincore(range, pages).error_value(), 0);
  size_t resident = 0;
  for (const uint8_t page : pages) resident += page & 1;
  EXPECT_EQ(resident, 2u);
  EXPECT_EQ(pages[1] & 1, 1);
  EXPECT_EQ(pages[4999] & 1, 1);
  EXPECT_EQ(as_->Mincore(range, std::span(pages).first(4)).error_value(), EINVAL);
}

TEST_P(AddressSpaceTest, ReplaceLeavesTheNewMappingsOnly) {
  // A file's and an anonymous one, and more than one order holds.
  std::vector<AddressSpace::Mapping> mappings;
  for (uint64_t i = 0; i < 100; ++i) {
    const GuestAddr at = kElsewhere + 2 * i * kPageSize;
    mappings.push_back({{at, at + kPageSize}, kReadWrite, kAnon, -1, 0});
  }
  ASSERT_EQ(Put(*as_, kData, 5), 0);
  Code code;
  code.Call(SYS_getpid).JumpBack(12);
  std::unique_ptr<Context> context = Start(*as_, code);
  ASSERT_EQ(context->Switch().kind, EventKind::kSyscall);
  ASSERT_TRUE(as_->MayReplace());
  ASSERT_EQ(as_->Replace(mappings).error_value(), 0);
  context.reset();
  EXPECT_EQ(Put(*as_, kData, 1), EFAULT);
  EXPECT_EQ(Put(*as_, kText, 1), EFAULT);
  EXPECT_EQ(Put(*as_, kElsewhere + kPageSize, 1), EFAULT);
  for (const AddressSpace::Mapping& m : mappings) EXPECT_EQ(Get<int>(*as_, m.range.start), 0);
  // The guest thread runs the next program, with registers of its own.
  ASSERT_TRUE(as_->Map(kDataRange, kReadWrite, kAnon, -1, 0).ok());
  ASSERT_TRUE(as_->Map(kTextRange, kReadWrite | PROT_EXEC, kAnon, -1, 0).ok());
  context = Start(*as_, code);
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(context->Switch().kind, EventKind::kSyscall);
    EXPECT_EQ(context->regs().orig_rax, uint64_t{SYS_getpid});
    EXPECT_EQ(context->regs().rbx, 0u);
    context->regs().rax = 1;
  }
  EXPECT_TRUE(as_->alive());
}

TEST_P(AddressSpaceTest, ReplaceIsNotForWhatMoreThanMemoryWouldOutlive) {
  EXPECT_TRUE(NewSpace()->MayReplace());
  Result<Ref<AddressSpace>> child = as_->Fork();
  ASSERT_EQ(child.error_value(), 0);
  EXPECT_TRUE((*child)->MayReplace());
  Code code;
  code.Call(SYS_getpid);
  {
    // Two guest threads, also when they are gone.
    RefPtr<AddressSpace> threads = NewSpace();
    std::unique_ptr<Context> one = Start(*threads, code), two = Start(*threads, code);
    EXPECT_FALSE(threads->MayReplace());
    EXPECT_EQ(one->Switch().kind, EventKind::kSyscall);
    EXPECT_EQ(two->Switch().kind, EventKind::kSyscall);
    one.reset();
    two.reset();
    EXPECT_FALSE(threads->MayReplace());
  }
  if (const GuestRange vdso = as_->vdso(); !vdso.empty()) {
    RefPtr<AddressSpace> without = NewSpace();
    ASSERT_EQ(without->Unmap(vdso).error_value(), 0);
    EXPECT_FALSE(without->MayReplace());
    child = without->Fork();
    ASSERT_EQ(child.error_value(), 0);
    EXPECT_FALSE((*child)->MayReplace());
  }
  constexpr int kRegister = 1 << 4;  // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
  ASSERT_EQ(as_->Membarrier(kRegister, 0, 0).error_value(), 0);
  EXPECT_FALSE(as_->MayReplace());
}

TEST_P(AddressSpaceTest, CompareExchangeIsAtomicAndSurvivesFaults) {
  ASSERT_EQ(Put(*as_, kData, uint32_t{0xfffffff0}), 0);
  EXPECT_EQ(as_->CompareExchange(kData, 1, 2).value_or(0), 0xfffffff0u);
  EXPECT_EQ(Get<uint32_t>(*as_, kData), 0xfffffff0u);
  EXPECT_EQ(as_->CompareExchange(kData, 0xfffffff0, 2).value_or(0), 0xfffffff0u);
  EXPECT_EQ(Get<uint32_t>(*as_, kData), 2u);
  EXPECT_EQ(as_->CompareExchange(kData + 2, 0, 0).error_value(), EINVAL);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(as_->CompareExchange(kElsewhere, 0, 1).error_value(), EFAULT);
    EXPECT_EQ(as_->CompareExchange(GuestAddr(0xffff'8000'0000'0000), 0, 1).error_value(), EFAULT);
    EXPECT_EQ(as_->CompareExchange(GuestAddr(kStubStart + 0x101000), 0, 1).error_value(), EFAULT);
  }
  ASSERT_TRUE(as_->Protect(kDataRange, PROT_READ).ok());
  EXPECT_EQ(as_->CompareExchange(kData, 2, 3).error_value(), EFAULT);
  // A page behind the end of its file: SIGBUS.
  const UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  const GuestRange range{kElsewhere, kElsewhere + kPageSize};
  ASSERT_TRUE(as_->Map(range, kReadWrite, MAP_SHARED, file.get(), 0).ok());
  EXPECT_EQ(as_->CompareExchange(kElsewhere, 0, 1).error_value(), EFAULT);
  EXPECT_TRUE(as_->alive());
  EXPECT_EQ(Get<uint32_t>(*as_, kData), 2u);
}

TEST_P(AddressSpaceTest, StubRangeIsOutOfReach) {
  const GuestAddr stub(kStubStart);
  const GuestRange ranges[] = {{stub, stub + kPageSize},
                               {stub - kPageSize, stub + kPageSize},
                               {GuestAddr(kStubEnd - kPageSize), GuestAddr(kStubEnd)},
                               {GuestAddr(0x1000), GuestAddr(~uint64_t{0} & ~kPageMask)},
                               {kData, kData},
                               {kData + 1, kData + kPageSize},
                               {kData + kPageSize, kData}};
  for (const GuestRange& range : ranges) {
    uint8_t page[2];
    EXPECT_EQ(as_->Map(range, kReadWrite, kAnon, -1, 0).error_value(), EINVAL);
    EXPECT_EQ(as_->Unmap(range).error_value(), EINVAL);
    EXPECT_EQ(as_->Protect(range, kReadWrite).error_value(), EINVAL);
    EXPECT_EQ(as_->Advise(SYS_madvise, range, MADV_DONTNEED).error_value(), EINVAL);
    EXPECT_EQ(as_->Mincore(range, page).error_value(), EINVAL);
  }
  constexpr int kMove = MREMAP_MAYMOVE | MREMAP_FIXED;
  const GuestRange page{kData, kData + kPageSize};
  EXPECT_EQ(as_->Remap({stub, stub + kPageSize}, kPageSize, kMove, kElsewhere).error_value(),
            EINVAL);
  EXPECT_EQ(as_->Remap(page, kPageSize, kMove, stub).error_value(), EINVAL);
  EXPECT_EQ(as_->Remap(page, ~uint64_t{0} & ~kPageMask, kMove, kElsewhere).error_value(), EINVAL);
  std::byte bytes[16] = {};
  EXPECT_EQ(as_->Read(stub, bytes).error_value(), EFAULT);
  EXPECT_EQ(as_->Write(GuestAddr(kStubStart + 0x101000), bytes).error_value(), EFAULT);
  EXPECT_EQ(as_->Read(GuestAddr(~uint64_t{0} - 8), bytes).error_value(), EFAULT);
}

TEST_P(AddressSpaceTest, ForkCopiesOnWrite) {
  ASSERT_EQ(Put(*as_, kData, 1), 0);
  Result<Ref<AddressSpace>> child = as_->Fork();
  ASSERT_EQ(child.error_value(), 0);
  ASSERT_EQ(Put(**child, kData, 2), 0);
  EXPECT_EQ(Get<int>(*as_, kData), 1);
  Result<Ref<AddressSpace>> grandchild = (*child)->Fork();
  ASSERT_EQ(grandchild.error_value(), 0);
  ASSERT_TRUE((*child)->Unmap(kDataRange).ok());
  EXPECT_EQ(Get<int>(**grandchild, kData), 2);
  EXPECT_EQ(Get<int>(*as_, kData), 1);
}

TEST_P(AddressSpaceTest, ManyForksLeaveNothingBehind) {
  std::vector<Ref<AddressSpace>> some;
  for (int i = 0; i < 200; ++i) {
    Result<Ref<AddressSpace>> child = as_->Fork();
    ASSERT_EQ(child.error_value(), 0);
    if (i % 20 == 0) some.push_back(*child);
  }
  for (Ref<AddressSpace>& as : some) EXPECT_EQ(Put(*as, kData, 3), 0);
  EXPECT_EQ(Get<int>(*as_, kData), 0);
}

TEST_P(AddressSpaceTest, FreshSpacesAreEmpty) {
  Result<Ref<AddressSpace>> as = platform_->NewAddressSpace();
  ASSERT_EQ(as.error_value(), 0);
  FILE* maps = fopen(("/proc/" + std::to_string((*as)->host_pid()) + "/maps").c_str(), "r");
  ASSERT_NE(maps, nullptr);
  char line[512];
  while (fgets(line, sizeof(line), maps) != nullptr) {
    unsigned long start, end;
    ASSERT_EQ(sscanf(line, "%lx-%lx", &start, &end), 2);
    if (start >= kStubStart) continue;
    const GuestRange range{GuestAddr(start), GuestAddr(end)};
    EXPECT_TRUE((*as)->vdso().Contains(range) || (*as)->vvar().Contains(range)) << line;
  }
  fclose(maps);
}

TEST_P(AddressSpaceTest, LostStubAnswersWithErrors) {
  kill(as_->host_pid(), SIGKILL);
  EXPECT_EQ(as_->Unmap(kDataRange).error_value(), ESRCH);
  EXPECT_EQ(as_->Fork().error_value(), ESRCH);
  EXPECT_FALSE(as_->alive());
}

TEST_P(AddressSpaceTest, OrdersFromManyThreadsAreAllDone) {
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const GuestAddr at = kElsewhere + t * (1 << 20);
      for (int i = 0; i < 100; ++i) {
        EXPECT_TRUE(as_->Map({at, at + kPageSize}, kReadWrite, kAnon, -1, 0).ok());
        EXPECT_EQ(Put(*as_, at, i), 0);
        EXPECT_EQ(Get<int>(*as_, at), i);
        EXPECT_TRUE(as_->Unmap({at, at + kPageSize}).ok());
      }
    });
  }
  for (std::thread& t : threads) t.join();
}

// The guest writes every word of the reply page, over and over, while the Sentry gives orders.
TEST_P(AddressSpaceTest, ForgedRepliesAreNotBelieved) {
  // 1: mov $PAGE, %rdi; mov $1024, %ecx; inc %eax; rep stosl; jmp 1b
  const Code forge = Code()
                         .Mov(Code::kRdi, RW_STUB_REPLY)
                         .Bytes({0xb9, 0x10, 0, 0, 0, 0xff, 0xc0, 0xf3, 0xab})
                         .JumpBack(19);
  std::atomic<Context*> running = nullptr;
  std::atomic<bool> stop = false, stopped = false, joined = false;
  std::thread guest([&] {
    auto c = Start(*as_, forge);
    c->regs().rax = 0;
    running = c.get();
    while (!stop) EXPECT_EQ(c->Switch().kind, EventKind::kInterrupted);
    stopped = true;
    while (!joined) usleep(100);
  });
  while (running == nullptr) usleep(100);
  for (int i = 0; i < 200; ++i) {
    const GuestRange range{kElsewhere, kElsewhere + kPageSize};
    ASSERT_EQ(as_->Map(range, kReadWrite, kAnon, -1, 0).error_value(), 0);
    ASSERT_EQ(Put(*as_, kElsewhere, i), 0);
    ASSERT_EQ(as_->CompareExchange(kElsewhere, static_cast<uint32_t>(i), 7).value_or(0),
              static_cast<uint32_t>(i));
    ASSERT_EQ(as_->Unmap(range).error_value(), 0);
    ASSERT_EQ(Put(*as_, kElsewhere, i), EFAULT);
    ASSERT_EQ(as_->Map(range, kReadWrite, MAP_SHARED, 9999, 0).error_value(), EBADF);
    if (i % 50 == 0) {
      Result<Ref<AddressSpace>> child = as_->Fork();
      ASSERT_EQ(child.error_value(), 0);
      EXPECT_EQ(Get<uint64_t>(**child, kData), 0u);
    }
  }
  stop = true;
  while (!stopped) {
    running.load()->Interrupt();
    usleep(100);
  }
  joined = true;
  guest.join();
}

// Every system call instruction of the stub's own text, run by a guest thread with the arguments of
// a hostile mapping, is a system call of the guest.
TEST_P(AddressSpaceTest, StubTextGivesGuestCodeNoCalls) {
  std::vector<std::byte> text(8 * kPageSize);
  const iovec local = {text.data(), text.size()};
  const iovec remote = {reinterpret_cast<void*>(RW_STUB_TEXT), text.size()};
  const ssize_t size = process_vm_readv(as_->host_pid(), &local, 1, &remote, 1, 0);
  ASSERT_GT(size, 0);
  int found = 0;
  for (ssize_t i = 0; i + 1 < size; ++i) {
    if (text[i] != std::byte{0x0f} || text[i + 1] != std::byte{0x05}) continue;
    ++found;
    auto c = Start(*as_, Code().Call(1));
    abi::Registers& r = c->regs();
    r.rip = RW_STUB_TEXT + static_cast<uint64_t>(i);
    r.rax = SYS_mmap;
    r.rdi = kElsewhere.value();
    r.rsi = kPageSize;
    r.rdx = kReadWrite;
    r.r10 = kAnon | MAP_FIXED;
    r.r8 = ~uint64_t{0};
    r.r9 = 0;
    c->RegsChanged();
    const Event event = c->Switch();
    EXPECT_NE(event.kind, EventKind::kInterrupted);
    EXPECT_EQ(Put(*as_, kElsewhere, 1), EFAULT) << "at " << i;
    if (!as_->alive()) {
      c = nullptr;
      as_ = NewSpace();
    }
  }
  EXPECT_GT(found, 5);
}

// The stub's text may call futex for guest threads. One that runs it on the order page must not
// get at the memory thread, which sleeps there.
TEST_P(AddressSpaceTest, FutexCallsCannotDisturbTheMemoryThread) {
  std::vector<std::byte> text(RW_STUB_TEXT_MAX);
  const iovec local = {text.data(), text.size()};
  const iovec remote = {reinterpret_cast<void*>(RW_STUB_TEXT), text.size()};
  const ssize_t size = process_vm_readv(as_->host_pid(), &local, 1, &remote, 1, 0);
  ASSERT_GT(size, 0);
  for (ssize_t i = 0; i + 1 < size; ++i) {
    if (text[i] != std::byte{0x0f} || text[i + 1] != std::byte{0x05}) continue;
    for (const int op : {FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE}) {
      auto c = Start(*as_, Code().Call(1));
      abi::Registers& r = c->regs();
      r.rip = RW_STUB_TEXT + static_cast<uint64_t>(i);
      r.rax = SYS_futex;
      r.rdi = RW_STUB_COMMAND;
      r.rsi = static_cast<uint64_t>(op);
      r.rdx = 0;
      r.r10 = 1;
      r.r8 = kData.value();
      c->RegsChanged();
      std::atomic<bool> back = false;
      // The thread may well go on in a loop of the stub's.
      std::thread watch([&] {
        for (int turn = 0; !back; ++turn) {
          usleep(1000);
          if (turn > 20) c->Interrupt();
          if (turn > 2000) kill(as_->host_pid(), SIGKILL);
        }
      });
      c->Switch();
      back = true;
      watch.join();
      if (as_->alive()) {
        EXPECT_EQ(as_->Unmap({kElsewhere, kElsewhere + kPageSize}).error_value(), 0);
      }
      if (!as_->alive()) {
        c = nullptr;
        as_ = NewSpace();
      }
    }
  }
}

// rt_sigreturn sets the signal stack too. With the memory thread's, a guest's faults look like its.
TEST_P(AddressSpaceTest, ForgedSignalStackEndsTheForgersStub) {
  // The frame: flags, link, stack, registers. It returns to code that faults.
  struct {
    uint64_t flags, link, stack_start, stack_flags, stack_size;
    uint64_t registers[16], rip, eflags;
    uint16_t cs, gs, fs, ss;
    uint64_t rest[16];
  } frame = {};
  frame.stack_start = RW_STUB_ALTSTACK;
  frame.stack_size = RW_STUB_ALTSTACK_SIZE;
  frame.registers[15] = (kData + 8 * kPageSize).value();
  frame.rip = kText.value() + 32;
  frame.eflags = 0x202;
  frame.cs = 0x33;
  frame.ss = 0x2b;
  ASSERT_EQ(Put(*as_, kData, frame), 0);
  const Code code = Code().Bytes({0x0f, 0x05}).Call(1);
  auto c = Start(*as_, code);
  ASSERT_EQ(as_->Write(kText + 32, Code().Bytes({0xf4}).bytes()).error_value(), 0);
  c->regs().rax = SYS_rt_sigreturn;
  c->regs().rsp = kData.value();
  c->RegsChanged();
  const Event event = c->Switch();
  // On ptrace the call is the Sentry's; on systrap the host took it.
  EXPECT_TRUE(event.kind == EventKind::kSyscall || event.kind == EventKind::kStubLost)
      << static_cast<int>(event.kind);
  Result<Ref<AddressSpace>> other = platform_->NewAddressSpace();
  EXPECT_EQ(other.error_value(), 0);
}

}  // namespace
}  // namespace ringwall
