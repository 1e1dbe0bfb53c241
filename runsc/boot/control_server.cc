// The Sentry's end of the control channel: a thread that accepts, one for each connection.
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "runsc/boot/control.h"
#include "runsc/boot/control_frame.h"
#include "sentry/base/log.h"
#include "sentry/base/resident.h"

namespace ringwall {
namespace {

Result<void> Dispatch(ControlHandler& handler, const control::Request& request,
                      std::vector<UniqueFd> fds, control::Response& reply) {
  switch (request.op_case()) {
    case control::Request::kStart: {
      NetworkConfig network = TRY(FromProto(request.start().network(), std::move(fds)));
      return handler.Start(std::move(network), request.start().resolv_conf(), reply);
    }
    case control::Request::kExec: {
      BootProcess process = TRY(FromProto(request.exec().process(), std::move(fds)));
      return handler.Exec(std::move(process), reply);
    }
    case control::Request::kSignal:
      return handler.Signal(request.signal());
    case control::Request::kWait:
      return handler.Wait(request.wait().pid(), reply);
    case control::Request::kPs:
      return handler.Ps(reply);
    case control::Request::kPause:
      return handler.Pause();
    case control::Request::kResume:
      return handler.Resume();
    case control::Request::kStats:
      return handler.Stats(request.stats().syscalls(), reply);
    case control::Request::kStrace:
      return handler.Strace(request.strace());
    case control::Request::kLog:
      return handler.SetLogLevel(request.log().level());
    case control::Request::kStacks:
      return handler.Stacks(reply);
    case control::Request::kState:
      return handler.State(reply);
    case control::Request::kJoin: {
      BootArgs args = TRY(FromProto(request.join(), std::move(fds)));
      return handler.Join(std::move(args), reply);
    }
    case control::Request::OP_NOT_SET:
      break;
  }
  return Errno(ENOSYS);
}

std::atomic<int> unanswered{0};

struct GoferWatch {
  UniqueFd pidfd;
  pid_t pid = -1;
  int status_fd = -1;
};
GoferWatch gofer_watch;  // set before there are threads

[[noreturn]] void OnGoferEnd(int status) {
  char text[160];
  int code = 128;
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    code = 128 + signal;
    const char* name = sigabbrev_np(signal);
    snprintf(text, sizeof(text), "the gofer was killed by signal %d (SIG%s)%s", signal,
             name != nullptr ? name : "?",
             signal == SIGSYS ? "; it made a host call that its filter refuses" : "");
  } else {
    snprintf(text, sizeof(text), "the gofer ended with exit code %d", WEXITSTATUS(status));
  }
  StatusPipe(gofer_watch.status_fd)
      .Fail(code, (std::string(text) + "; without the container's files the sandbox ends").c_str());
  _exit(code);
}

// Waits until `fd` can be read. With `watch`, ends the process when the gofer ends meanwhile, and lets go
// of the code that starting, or the last request, needed, when nothing has come for a while: a busy
// program has what it uses back within microseconds.
void AwaitReadable(int fd, bool watch) {
  if (!watch || !gofer_watch.pidfd) return;
  pollfd wait[2] = {{fd, POLLIN, 0}, {gofer_watch.pidfd.get(), POLLIN, 0}};
  const timespec quiet = {1, 0};
  const timespec* limit = &quiet;
  while (true) {
    const int ready = ppoll(wait, 2, limit, nullptr);
    if (ready > 0) break;
    if (ready < 0) continue;  // EINTR
    ForgetCode();
    limit = nullptr;
  }
  if (wait[1].revents == 0) return;
  int status = 0;
  if (wait4(gofer_watch.pid, &status, WNOHANG, nullptr) == gofer_watch.pid) OnGoferEnd(status);
  // Reaped by another thread, which knows how it ended and calls ChildEnded.
  while (true) ppoll(nullptr, 0, nullptr, nullptr);
}

void Serve(UniqueFd socket, const std::shared_ptr<ControlHandler>& handler, bool watch) {
  while (true) {
    AwaitReadable(socket.get(), watch);
    std::vector<UniqueFd> fds;
    Result<std::string> frame = ReceiveFrame(socket.get(), &fds);
    if (!frame.ok()) break;
    control::Request request;
    if (!request.ParseFromString(*frame)) {
      RW_LOG(kWarning, "control: a frame that is no request");
      break;
    }
    control::Response reply;
    unanswered.fetch_add(1);
    const Result<void> done = Dispatch(*handler, request, std::move(fds), reply);
    if (!done.ok()) reply.set_error(done.error().value());
    const bool sent = request.no_reply() ||
                      SendFrame(socket.get(), reply.SerializeAsString(), {}).ok();
    unanswered.fetch_sub(1);
    if (!sent) break;
  }
  socket.reset();
  while (watch && gofer_watch.pidfd) AwaitReadable(-1, true);
}

// Signals are for the thread that the kernel chose for them, never for these.
void Detach(std::thread thread) { thread.detach(); }

void AcceptOne(int listen, const std::shared_ptr<ControlHandler>& handler) {
  UniqueFd socket(RetryEintr([&] { return accept4(listen, nullptr, nullptr, SOCK_CLOEXEC); }));
  if (!socket) return;  // the connection was given up, or there is no descriptor left
  Detach(std::thread([socket = std::move(socket), handler]() mutable {
    Serve(std::move(socket), handler, false);
  }));
}

void Accept(UniqueFd listen, const std::shared_ptr<ControlHandler>& handler) {
  while (true) {
    AwaitReadable(listen.get(), true);
    AcceptOne(listen.get(), handler);
  }
}

}  // namespace

void ControlServer::Drain() {
  const timespec moment = {0, 1'000'000};
  for (int tries = 0; tries < 1000 && unanswered.load() != 0; tries++) {
    ppoll(nullptr, 0, &moment, nullptr);
  }
}

void ControlServer::WatchGofer(UniqueFd pidfd, pid_t pid, int status_fd) {
  gofer_watch = {std::move(pidfd), pid, status_fd};
}

void ControlServer::ChildEnded(pid_t pid, int wait_status) {
  if (pid == gofer_watch.pid) OnGoferEnd(wait_status);
}

void ControlServer::AddConnection(UniqueFd connection, std::shared_ptr<ControlHandler> handler) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Detach(std::thread([connection = std::move(connection), handler = std::move(handler)]() mutable {
    Serve(std::move(connection), handler, false);
  }));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void ControlServer::ServeUntil(UniqueFd listen, UniqueFd life, std::shared_ptr<ControlHandler> handler,
                               std::function<void()> gone) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Detach(std::thread([listen = std::move(listen), life = std::move(life), handler = std::move(handler),
                      gone = std::move(gone)] {
    while (true) {
      // Another thread reads from `life`; its end is heard of here, also while that one waits.
      pollfd wait[2] = {{listen.get(), POLLIN, 0}, {life.get(), 0, 0}};
      if (ppoll(wait, 2, nullptr, nullptr) < 0) continue;  // EINTR
      if (wait[1].revents != 0) break;
      if (wait[0].revents != 0) AcceptOne(listen.get(), handler);
    }
    gone();
  }));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void ControlServer::Start(UniqueFd listen, UniqueFd connection, std::shared_ptr<ControlHandler> handler) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const bool watch = !listen;  // one thread is enough
  if (listen) {
    Detach(std::thread([listen = std::move(listen), handler]() mutable {
      Accept(std::move(listen), handler);
    }));
  }
  if (connection) {
    Detach(std::thread([connection = std::move(connection), handler, watch]() mutable {
      Serve(std::move(connection), handler, watch);
    }));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace ringwall
