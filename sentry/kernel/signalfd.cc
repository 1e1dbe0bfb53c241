#include "sentry/kernel/signalfd.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

namespace {

signalfd_siginfo ToRecord(const abi::SigInfo& info) {
  signalfd_siginfo r = {};
  r.ssi_signo = static_cast<uint32_t>(info.signo);
  r.ssi_errno = info.error;
  r.ssi_code = info.code;
  if (info.code == SI_TIMER) {
    r.ssi_tid = info.At<uint32_t>(0);
    r.ssi_overrun = info.At<uint32_t>(4);
    r.ssi_ptr = info.At<uint64_t>(8);
    r.ssi_int = info.At<int32_t>(8);
    return r;
  }
  // siginfo_layout(): the kernel's own codes lie between those of kill() and SI_KERNEL.
  constexpr int kPollCodes = 6, kChildCodes = 6;
  const bool own = info.code > SI_USER && info.code < SI_KERNEL;
  const bool child = own && info.signo == SIGCHLD && info.code <= kChildCodes;
  const bool fault = (abi::SigBit(info.signo) & abi::kSynchronous) != 0 && own;
  if (fault) {
    r.ssi_addr = info.At<uint64_t>(0);
    return r;
  }
  if ((own && !child && info.code <= kPollCodes) || info.code == SI_SIGIO) {
    r.ssi_band = info.At<uint32_t>(0);
    r.ssi_fd = info.At<int32_t>(8);
    return r;
  }
  r.ssi_pid = info.At<uint32_t>(0);
  r.ssi_uid = info.At<uint32_t>(4);
  if (child) {
    r.ssi_status = info.At<int32_t>(8);
    r.ssi_utime = info.At<uint64_t>(16);
    r.ssi_stime = info.At<uint64_t>(24);
  } else if (info.code < 0) {
    r.ssi_ptr = info.At<uint64_t>(8);  // kill() has no value
    r.ssi_int = info.At<int32_t>(8);
  }
  return r;
}

// Its queue is that of the process which made it. A reader of another process is woken by
// WakeForBlocked.
class SignalFdFile final : public File {
 public:
  SignalFdFile(Path path, uint32_t flags, ThreadGroup& tg, abi::SigSet set)
      : File(std::move(path), flags), tg_(tg), set_(set) {}
  std::string FdInfo() override {
    char text[40];
    snprintf(text, sizeof(text), "sigmask:\t%016llx\n",
             static_cast<unsigned long long>(static_cast<abi::SigSet>(set_)));
    return text;
  }

  Result<size_t> Read(IoDst& dst, uint64_t, int) override {
    if (dst.remaining() < sizeof(signalfd_siginfo)) return Errno(EINVAL);
    Task* t = Task::Current();
    if (t == nullptr) return Errno(EAGAIN);
    size_t done = 0;
    while (dst.remaining() >= sizeof(signalfd_siginfo)) {
      const std::optional<abi::SigInfo> info = TakeFor(*t);
      if (!info) break;
      const signalfd_siginfo record = ToRecord(*info);
      const Result<size_t> n = PutWhole(dst, std::as_bytes(std::span(&record, 1)));
      if (!n.ok()) {
        if (done > 0) break;
        return n.error();
      }
      done += *n;
    }
    if (done == 0) return Errno(EAGAIN);
    return done;
  }
  Result<size_t> Write(IoSrc&, uint64_t*, int) override { return Errno(EINVAL); }

  EventMask Poll(EventMask wanted) override {
    Task* t = Task::Current();
    if (t == nullptr) return 0;
    Listen(*t);
    return (t->PendingMask() & set_.load()) != 0 ? wanted & EPOLLIN : 0;
  }
  WaitQueue* queue() override { return &tg_->signalfd_queue; }
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }

  void Change(abi::SigSet set) {
    set_.store(set);
    tg_->signalfd_queue.Notify(EPOLLIN);
  }

 private:
  void Listen(Task& t) {
    if (&t.tg() != tg_.get()) t.WakeForBlocked(set_.load());
  }
  std::optional<abi::SigInfo> TakeFor(Task& t) {
    Listen(t);
    return t.TakeSignal(set_.load());
  }

  const Ref<ThreadGroup> tg_;
  std::atomic<abi::SigSet> set_;
};

}  // namespace

Ref<File> NewSignalFd(Task& t, abi::SigSet set, uint32_t flags) {
  return MakeRef<SignalFdFile>(
      AnonymousPath(MakeRef<AnonInode>(0600, 0, 0), "anon_inode:[signalfd]"),
      O_RDWR | (flags & O_NONBLOCK), t.tg(), set & ~abi::kUnblockable);
}

Result<void> SetSignalFd(File& file, abi::SigSet set) {
  if (file.kind() != &SignalFdFile::kKind) return Errno(EINVAL);
  static_cast<SignalFdFile&>(file).Change(set & ~abi::kUnblockable);
  return {};
}

}  // namespace ringwall
