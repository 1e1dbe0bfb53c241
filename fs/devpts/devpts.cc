#include "fs/devpts/devpts.h"

#include <dirent.h>
#include <linux/magic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include <charconv>
#include <map>
#include <set>

#include "fs/devpts/tty.h"
#include "fs/host/host_file.h"
#include "fs/proc/nodes.h"
#include "fs/vfs/special_files.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/sysctl_limits.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr uint32_t kTtyMajor = 5, kCurrentTty = 0, kPtmx = 2, kSlaveMajor = 136;
constexpr uint64_t kRootIno = 1, kPtmxIno = 2, kFirstSlaveIno = 3;

struct Options {
  uint32_t mode = 0600, ptmx_mode = 0, max = 1 << 20;
  std::optional<uint32_t> uid, gid;
};

Result<Options> ParseOptions(std::string_view data) {
  Options o;
  while (!data.empty()) {
    const size_t comma = std::min(data.find(','), data.size());
    const std::string_view option = data.substr(0, comma);
    data.remove_prefix(std::min(comma + 1, data.size()));
    const size_t equals = option.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = option.substr(0, equals), value = option.substr(equals + 1);
    const bool octal = key == "mode" || key == "ptmxmode";
    if (!octal && key != "max" && key != "uid" && key != "gid") continue;
    uint32_t n = 0;
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), n, octal ? 8 : 10);
    if (error != std::errc() || end != value.data() + value.size()) return Errno(EINVAL);
    if (key == "mode") o.mode = n & 07777;
    if (key == "ptmxmode") o.ptmx_mode = n & 07777;
    if (key == "max") o.max = n;
    if (key == "uid") o.uid = n;
    if (key == "gid") o.gid = n;
  }
  return o;
}

// A node with an owner and mode that can be changed (grantpt).
class NodeInode : public Inode {
 public:
  NodeInode(FileSystem& fs, uint64_t ino, uint32_t mode, Uid uid, Gid gid, uint64_t rdev)
      : Inode(fs, S_IFCHR) {
    attr_.ino = ino, attr_.mode = S_IFCHR | mode, attr_.uid = uid, attr_.gid = gid;
    attr_.rdev = rdev, attr_.blksize = 1024;
    attr_.atime = attr_.mtime = attr_.ctime = CurrentTime();
  }
  Result<Attr> GetAttr() override {
    MutexLock lock(mu_);
    return attr_;
  }
  Result<void> Set(const SetAttr& set) override {
    const Timespec now = CurrentTime();
    MutexLock lock(mu_);
    if (set.mode) attr_.mode = S_IFCHR | (*set.mode & 07777);
    if (set.uid) attr_.uid = *set.uid;
    if (set.gid) attr_.gid = *set.gid;
    if (set.atime) attr_.atime = set.atime->now ? now : set.atime->time;
    if (set.mtime) attr_.mtime = set.mtime->now ? now : set.mtime->time;
    attr_.ctime = now;
    return {};
  }

 private:
  mutable Mutex<LockClass::kInode> mu_;
  Attr attr_ GUARDED_BY(mu_);
};

// iterate_tty_write(): one turn after the other, until the other side takes no more.
template <typename Turn>
Result<size_t> InTurns(IoSrc& src, Turn turn) {
  size_t done = 0;
  do {
    const Result<size_t> n = turn();
    if (!n.ok() && done == 0) return n.error();
    if (!n.ok() || *n == 0) break;
    done += *n;
  } while (src.remaining() != 0);
  return done;
}

class SlaveFile final : public File {
 public:
  SlaveFile(Path path, uint32_t flags, Ref<Tty> tty, uint32_t life)
      : File(std::move(path), flags), tty_(std::move(tty)), life_(life) {}
  ~SlaveFile() override { tty_->SlaveClosed(); }
  Result<size_t> Read(IoDst& dst, uint64_t, int rwf) override {
    const bool waits = !nonblocking() && (rwf & RWF_NOWAIT) == 0;
    Result<size_t> got = tty_->SlaveRead(dst, nonblocking(), life_);
    // Waits here and not with the caller: how a hangup is told depends on whether it was waited for.
    if (Task* const task = Task::Current(); waits && task != nullptr && !got.ok() && got.error().Is(EAGAIN)) {
      got = task->Retry(&tty_->slave_queue(), EPOLLIN | EPOLLHUP, tty_->SlaveReadDeadline(),
                        [&] { return tty_->SlaveRead(dst, false, life_, true); });
    }
    const size_t first = TRY(std::move(got));
    return first == 0 || nonblocking() ? first : ReadOn(dst, first);
  }
  Result<size_t> Write(IoSrc& src, uint64_t*, int) override {
    return InTurns(src, [&] { return tty_->SlaveWrite(src, life_); });
  }
  EventMask Poll(EventMask wanted) override {
    return tty_->SlavePoll(life_) & (wanted | EPOLLERR | EPOLLHUP);
  }
  WaitQueue* queue() override { return &tty_->slave_queue(); }
  int64_t read_deadline() override { return tty_->SlaveReadDeadline(); }
  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override {
    return tty_->Ioctl(task, life_, cmd, arg);
  }

 private:
  // With `done` bytes read: waits for more as VMIN with VTIME has it (n_tty_read). What ends the wait
  // loses none of them.
  size_t ReadOn(IoDst& dst, size_t done) {
    Task* const task = Task::Current();
    while (task != nullptr && dst.remaining() != 0) {
      const Tty::ByteTimer timer = tty_->SlaveByteTimer();
      if (done >= timer.minimum) break;
      const Result<size_t> more =
          task->Retry(&tty_->slave_queue(), EPOLLIN | EPOLLHUP, MonotonicNow() + timer.between,
                      [&] { return tty_->SlaveRead(dst, false, life_); });
      if (!more.ok() || *more == 0) break;
      done += *more;
    }
    return done;
  }

  const Ref<Tty> tty_;
  const uint32_t life_;
};

Result<Ref<File>> OpenSlave(Ref<Tty> tty, const Path& path, uint32_t flags,
                            const Credentials& creds) {
  const uint32_t life = TRY(tty->SlaveOpened(creds.Has(Capability::kSysAdmin)));
  return Ref<File>(MakeRef<SlaveFile>(path, flags, std::move(tty), life));
}

class SlaveInode final : public NodeInode {
 public:
  SlaveInode(FileSystem& fs, Ref<Tty> tty, uint32_t mode, Uid uid, Gid gid)
      : NodeInode(fs, kFirstSlaveIno + tty->number(), mode, uid, gid,
                  makedev(kSlaveMajor, tty->number())),
        tty_(std::move(tty)) {}
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
  Result<Ref<File>> Open(const Path& path, uint32_t flags,
                         const Credentials& creds) override {
    return OpenSlave(tty_, path, flags, creds);
  }
  Tty& tty() const { return *tty_; }

 private:
  const Ref<Tty> tty_;
};

// A terminal of the host: opened anew it is the host's same description.
class HostTerminalInode final : public NodeInode {
 public:
  HostTerminalInode(FileSystem& fs, uint32_t number, uint32_t mode, Uid uid, Gid gid, Ref<Inode> host)
      : NodeInode(fs, kFirstSlaveIno + number, mode, uid, gid, makedev(kSlaveMajor, number)) {
    host_.With([&](RefPtr<Inode>& h) { h = std::move(host); });
  }
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override {
    RefPtr<Inode> host = host_.With([](RefPtr<Inode>& h) { return h; });
    if (!host) return Errno(EIO);
    return host->Open(path, flags, creds);
  }
  // Its last file was closed: the host's other end is to see that, whoever still knows this inode.
  void HangUp() {
    RefPtr<Inode> gone;
    host_.With([&](RefPtr<Inode>& h) { gone = std::move(h); });
  }

 private:
  Guarded<RefPtr<Inode>, LockClass::kLeaf> host_;
};

class DevPts final : public SyntheticFs {
 public:
  DevPts(Kernel& kernel, const Options& options)
      : SyntheticFs("devpts", DEVPTS_SUPER_MAGIC), kernel_(kernel), options_(options) {}
  std::string mount_options() const override {
    return Format("mode=%03o,ptmxmode=%03o", options_.mode, options_.ptmx_mode);
  }
  const Options& options() const { return options_; }

  Result<Ref<File>> OpenPtmx(const Path& path, uint32_t flags, const Credentials& creds);
  Result<HostTerminal> AddHost(Ref<Inode> host, Uid uid);
  RefPtr<Inode> Find(uint32_t number) {
    MutexLock lock(mu_);
    const auto it = slaves_.find(number);
    return it == slaves_.end() ? RefPtr<Inode>() : RefPtr<Inode>(it->second);
  }
  std::vector<uint32_t> Numbers() {
    MutexLock lock(mu_);
    std::vector<uint32_t> all;
    for (const auto& [number, inode] : slaves_) all.push_back(number);
    return all;
  }
  void Remove(uint32_t number) {
    RefPtr<Inode> gone;
    MutexLock lock(mu_);
    const auto it = slaves_.find(number);
    gone = it->second;
    slaves_.erase(it);
    lock.Unlock();
  }
  // After the last file of either side: until then nobody else gets the number.
  void FreeNumber(uint32_t number) {
    MutexLock lock(mu_);
    used_.erase(number);
    pty_limits.count--;
  }

 private:
  Kernel& kernel_;
  const Options options_;
  Mutex<LockClass::kInode> mu_;
  // devpts_new_index(). ENOSPC.
  Result<uint32_t> TakeNumberLocked() REQUIRES(mu_) {
    uint32_t number = 0;
    for (const uint32_t used : used_) {
      if (used != number) break;
      number++;
    }
    const bool fits = ++pty_limits.count < pty_limits.max - pty_limits.reserve;
    if (!fits || number >= options_.max) {
      pty_limits.count--;
      return Errno(ENOSPC);
    }
    used_.insert(number);
    return number;
  }
  std::map<uint32_t, Ref<NodeInode>> slaves_ GUARDED_BY(mu_);
  std::set<uint32_t> used_ GUARDED_BY(mu_);  // numbers, those without a name any more too
};

class MasterFile final : public File {
 public:
  MasterFile(Path path, uint32_t flags, Ref<DevPts> fs, Ref<Tty> tty)
      : File(std::move(path), flags), fs_(std::move(fs)), tty_(std::move(tty)) {}
  ~MasterFile() override {
    fs_->Remove(tty_->number());
    tty_->MasterClosed();
  }
  Result<size_t> Read(IoDst& dst, uint64_t, int) override { return tty_->MasterRead(dst); }
  Result<size_t> Write(IoSrc& src, uint64_t*, int) override {
    return InTurns(src, [&] { return tty_->MasterWrite(src); });
  }
  EventMask Poll(EventMask wanted) override {
    return tty_->MasterPoll() & (wanted | EPOLLERR | EPOLLHUP);
  }
  WaitQueue* queue() override { return &tty_->master_queue(); }
  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override {
    if (cmd == TIOCGPTPEER) return OpenPeer(task, static_cast<uint32_t>(arg));
    return tty_->Ioctl(task, std::nullopt, cmd, arg);
  }

 private:
  // The other side, whatever is mounted where.
  Result<int64_t> OpenPeer(Task& task, uint32_t flags) {
    RefPtr<Inode> slave = fs_->Find(tty_->number());
    if (!slave) return Errno(EIO);
    const Path path =
        AnonymousPath(Ref<Inode>(slave), "/dev/pts/" + std::to_string(tty_->number()));
    constexpr uint32_t kKept = O_ACCMODE | O_NONBLOCK;
    Ref<File> file = TRY(slave->Open(path, flags & kKept, task.creds()));
    if ((flags & O_NOCTTY) == 0) OfferControllingTty(task, *file);
    const int fd = TRY(task.fds().Install(std::move(file), (flags & O_CLOEXEC) != 0,
                                          task.tg().limit(RLIMIT_NOFILE)));
    return fd;
  }
  const Ref<DevPts> fs_;
  const Ref<Tty> tty_;
};

Result<Ref<File>> DevPts::OpenPtmx(const Path& path, uint32_t flags, const Credentials& creds) {
  RefPtr<Tty> tty;
  {
    MutexLock lock(mu_);
    const uint32_t number = TRY(TakeNumberLocked());
    tty = MakeRef<Tty>(kernel_, number);
    tty->set_on_last_file([fs = Ref<DevPts>(*this), number] { fs->FreeNumber(number); });
    slaves_.emplace(number, MakeRef<SlaveInode>(*this, Ref<Tty>(tty), options_.mode,
                                                options_.uid.value_or(creds.fsuid),
                                                options_.gid.value_or(creds.fsgid)));
  }
  return Ref<File>(MakeRef<MasterFile>(path, flags, Ref<DevPts>(*this), Ref<Tty>(tty)));
}

// Holds a host terminal's number.
class HostPlace final : public RefCounted<HostPlace> {
 public:
  HostPlace(Ref<DevPts> fs, Ref<HostTerminalInode> inode, uint32_t number)
      : fs_(std::move(fs)), inode_(std::move(inode)), number_(number) {}
  ~HostPlace() override {
    fs_->Remove(number_);
    fs_->FreeNumber(number_);
    inode_->HangUp();
  }

 private:
  const Ref<DevPts> fs_;
  const Ref<HostTerminalInode> inode_;
  const uint32_t number_;
};

Result<HostTerminal> DevPts::AddHost(Ref<Inode> host, Uid uid) {
  MutexLock lock(mu_);
  const uint32_t number = TRY(TakeNumberLocked());
  Ref<HostTerminalInode> inode = MakeRef<HostTerminalInode>(
      *this, number, options_.mode, uid, options_.gid.value_or(uid), std::move(host));
  slaves_.emplace(number, inode);
  Ref<HostPlace> place = MakeRef<HostPlace>(Ref<DevPts>(*this), std::move(inode), number);
  return HostTerminal{number, Ref<RefCountedBase>(std::move(place))};
}

class PtmxInode final : public NodeInode {
 public:
  explicit PtmxInode(DevPts& fs)
      : NodeInode(fs, kPtmxIno, fs.options().ptmx_mode, 0, 0, makedev(kTtyMajor, kPtmx)) {}
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override {
    return static_cast<DevPts&>(fs()).OpenPtmx(path, flags, creds);
  }
};

class PtsDirectory final : public SyntheticDirectory {
 public:
  explicit PtsDirectory(DevPts& fs)
      : SyntheticDirectory(fs, S_IFDIR | 0755, kRootIno), ptmx_(MakeRef<PtmxInode>(fs)) {}
  Caching caching() const override { return Caching::kRevalidate; }
  Result<Ref<Inode>> Lookup(std::string_view name) override {
    if (name == "ptmx") return Ref<Inode>(ptmx_);
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc() || end != name.data() + name.size() ||
        (name.size() > 1 && name.front() == '0')) {
      return Errno(ENOENT);
    }
    RefPtr<Inode> found = static_cast<DevPts&>(fs()).Find(number);
    if (!found) return Errno(ENOENT);
    return Ref<Inode>(std::move(found));
  }
  Result<std::vector<DirEntry>> Entries() override {
    std::vector<DirEntry> all = {{"ptmx", kPtmxIno, DT_CHR}};
    for (const uint32_t n : static_cast<DevPts&>(fs()).Numbers()) {
      all.push_back({Format("%u", n), kFirstSlaveIno + n, DT_CHR});
    }
    return all;
  }

 private:
  const Ref<PtmxInode> ptmx_;
};

Mutex<LockClass::kLeaf> first_mu;

// The first one of a container, which lives as long as that; null when it has none.
RefPtr<DevPts> FirstDevPts(PidNamespace& container) {
  MutexLock lock(first_mu);
  return RefPtr<DevPts>(static_cast<DevPts*>(container.devpts.get()));
}

Result<Ref<File>> OpenTtyDevice(Inode&, const Path& path, uint32_t flags, const Credentials& creds,
                                uint64_t rdev) {
  Task* task = Task::Current();
  if (minor(rdev) == kPtmx) {
    const RefPtr<DevPts> first = task != nullptr ? FirstDevPts(task->pid_ns().container()) : nullptr;
    if (!first) return Errno(ENODEV);
    return first->OpenPtmx(path, flags, creds);
  }
  if (minor(rdev) != kCurrentTty || task == nullptr) return Errno(ENXIO);
  RefPtr<RefCountedBase> tty;
  {
    MutexLock lock(task->kernel().tasks().mu);
    if (HasTerminalLocked(task->tg())) tty = task->tg().pgrp->session->tty;
  }
  if (!tty) return Errno(ENXIO);
  if (!Tty::IsPty(*tty)) return HostTtyFile(*tty);
  return OpenSlave(Ref<Tty>(static_cast<Tty&>(*tty)), path, flags, creds);
}

}  // namespace

Result<Ref<FileSystem>> NewDevPts(Kernel& kernel, std::string_view data, PidNamespace& container) {
  const Options options = TRY(ParseOptions(data));
  Ref<DevPts> fs = MakeRef<DevPts>(kernel, options);
  fs->set_root(MakeRef<PtsDirectory>(*fs));
  {
    MutexLock lock(first_mu);
    if (!container.devpts) container.devpts = RefPtr<RefCountedBase>(fs.get());
  }
  return Ref<FileSystem>(std::move(fs));
}

Result<HostTerminal> AddHostTerminal(PidNamespace& container, Ref<Inode> host, Uid uid) {
  const RefPtr<DevPts> first = FirstDevPts(container);
  if (!first) return Errno(ENODEV);
  return first->AddHost(std::move(host), uid);
}

void RegisterTtyDevices() { RegisterDevice(S_IFCHR, kTtyMajor, 0, 3, OpenTtyDevice); }

void HangUpControllingTty(Task& task) {
  RefPtr<RefCountedBase> tty;
  {
    MutexLock lock(task.kernel().tasks().mu);
    if (HasTerminalLocked(task.tg())) tty = task.tg().pgrp->session->tty;
  }
  if (tty && Tty::IsPty(*tty)) static_cast<Tty&>(*tty).HangUp();
}

void OfferControllingTty(Task& task, File& file) {
  if (!file.readable() || file.inode().kind() != &SlaveInode::kKind) return;
  static_cast<SlaveInode&>(file.inode()).tty().OfferTo(task);
}

}  // namespace ringwall
