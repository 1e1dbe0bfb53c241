// A Boot without a kernel for the tests of everything around it: its "programs" are words.
//   exit N          ends with N
//   echo WORD...    prints them
//   cat             copies stdin to stdout
//   sleep           waits for a signal and ends with 128 plus it
//   missing         is not found
//   call N          makes host system call N, with zero arguments
//   facts           prints what the process set-up left, taken before the filter went up
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "runsc/boot/boot.h"
#include "runsc/boot/control.h"

namespace ringwall {
namespace {

std::string facts;

void CollectFacts(const BootArgs& args) {
  char line[256];
  int entries = 0;
  if (DIR* root = opendir("/")) {
    while (const dirent* entry = readdir(root)) entries += entry->d_name[0] != '.' ? 1 : 0;
    closedir(root);
  }
  uint64_t files = 0;
  for (int fd = 0; fd < 1024; fd++) files += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  snprintf(line, sizeof(line),
           "pid %d uid %d root-entries %d no-new-privs %d dumpable %d bounding %d files %d\n",
           getpid(), getuid(), entries, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
           prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), prctl(PR_CAPBSET_READ, 21, 0, 0, 0),
           static_cast<int>(files));
  facts = line;
  for (const BootMount& mount : args.mounts) {
    facts += mount.type + " " + mount.destination + " " + std::to_string(mount.flags) + "\n";
  }
}

class Programs final : public ControlHandler {
 public:
  explicit Programs(BootArgs& args) : args_(args), status_(args.status_pipe.get()) {}

  // Runs one program to its end and returns its exit code.
  int Run(const BootProcess& process, int32_t pid) {
    const std::string& name = process.argv[0];
    const int out = process.stdio[1].get();
    const auto print = [&](const std::string& text) {
      [[maybe_unused]] const ssize_t n = ::write(out, text.data(), text.size());
    };
    if (name == "exit" && process.argv.size() > 1) return atoi(process.argv[1].c_str());
    if (name == "facts") return print(facts), 0;
    if (name == "call") return static_cast<int>(syscall(atol(process.argv[1].c_str()), 0, 0, 0, 0));
    if (name == "echo") {
      for (size_t i = 1; i < process.argv.size(); i++) print(process.argv[i] + "\n");
      return 0;
    }
    if (name == "cat") {
      char buffer[4096];
      ssize_t n;
      iovec piece = {buffer, sizeof(buffer)};
      while ((n = preadv2(process.stdio[0].get(), &piece, 1, -1, 0)) > 0) {
        print(std::string(buffer, static_cast<size_t>(n)));
      }
      return 0;
    }
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return signals_[pid] != 0; });
    return 128 + signals_[pid];
  }

  int Main() {
    if (args_.process.argv[0] == "missing") {
      status_.Fail(127, "missing: not found in PATH");
      return 127;
    }
    status_.Ready();
    ControlServer::Start(std::move(args_.control_listen), std::move(args_.control_connection),
                         std::shared_ptr<ControlHandler>(std::shared_ptr<void>(), this));
    {
      std::unique_lock lock(mu_);
      changed_.wait(lock, [&] { return args_.start_now; });
    }
    return Run(args_.process, 1);
  }

  Result<void> Start(NetworkConfig, const std::string&, control::Response&) override {
    std::lock_guard lock(mu_);
    if (args_.start_now) return Errno(EBUSY);
    args_.start_now = true;
    changed_.notify_all();
    return {};
  }
  Result<void> Exec(BootProcess process, control::Response& reply) override {
    if (process.argv[0] == "missing") {
      reply.set_exit_code(127);
      reply.set_text("missing: not found in PATH");
      return Errno(ENOENT);
    }
    std::lock_guard lock(mu_);
    const int32_t pid = next_pid_++;
    reply.set_pid(pid);
    ended_[pid] = -1;
    std::thread([this, pid, process = std::move(process)]() mutable {
      const int code = Run(process, pid);
      process = BootProcess();
      std::lock_guard lock(mu_);
      ended_[pid] = code;
      changed_.notify_all();
    }).detach();
    return {};
  }
  Result<void> Signal(const control::Request::Signal& request) override {
    std::lock_guard lock(mu_);
    signals_[request.pid() == 0 ? 1 : request.pid()] = request.signal();
    changed_.notify_all();
    return {};
  }
  Result<void> Wait(int32_t pid, control::Response& reply) override {
    std::unique_lock lock(mu_);
    if (ended_.count(pid) == 0) return Errno(ESRCH);
    changed_.wait(lock, [&] { return ended_[pid] >= 0; });
    reply.set_wait_status(ended_[pid] << 8);
    return {};
  }
  Result<void> Ps(control::Response& reply) override {
    control::Task* task = reply.add_tasks();
    task->set_pid(1);
    task->set_command(args_.process.argv[0]);
    return {};
  }
  Result<void> Pause() override { return {}; }
  Result<void> Resume() override { return {}; }
  Result<void> Stats(bool, control::Response& reply) override {
    reply.mutable_usage()->set_tasks(1);
    return {};
  }
  Result<void> Strace(const control::Request::Strace&) override { return {}; }
  Result<void> SetLogLevel(int) override { return {}; }
  Result<void> Stacks(control::Response& reply) override {
    reply.set_report("no stacks\n");
    return {};
  }
  Result<void> State(control::Response&) override { return {}; }
  Result<void> Join(BootArgs, control::Response&) override { return Errno(EINVAL); }

 private:
  BootArgs& args_;
  StatusPipe status_;
  std::mutex mu_;
  std::condition_variable changed_;
  std::map<int32_t, int> signals_, ended_;
  int32_t next_pid_ = 2;
};

}  // namespace

HostResult<void> PrepareBoot(BootArgs& args) {
  CollectFacts(args);
  // libc's own preparations for threads make calls that the filter refuses later.
  std::thread([] { free(malloc(100)); }).join();
  return {};
}

int Boot(BootArgs&& args) {
  static Programs programs(args);
  return programs.Main();
}

}  // namespace ringwall
