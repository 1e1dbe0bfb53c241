// The Sentry's end of the control channel: a thread that accepts, one for each connection.
#include <signal.h>
#include <sys/socket.h>

#include <thread>

#include "runsc/boot/control.h"
#include "runsc/boot/control_frame.h"
#include "sentry/base/log.h"

namespace ringwall {
namespace {

Result<void> Dispatch(ControlHandler& handler, const control::Request& request,
                      std::vector<UniqueFd> fds, control::Response& reply) {
  switch (request.op_case()) {
    case control::Request::kStart:
      return handler.Start(reply);
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
    case control::Request::kStacks:
      return handler.Stacks(reply);
    case control::Request::kState:
      return handler.State(reply);
    case control::Request::OP_NOT_SET:
      break;
  }
  return Errno(ENOSYS);
}

void Serve(UniqueFd socket, ControlHandler& handler) {
  while (true) {
    std::vector<UniqueFd> fds;
    Result<std::string> frame = ReceiveFrame(socket.get(), &fds);
    if (!frame.ok()) return;
    control::Request request;
    if (!request.ParseFromString(*frame)) {
      RW_LOG(kWarning, "control: a frame that is no request");
      return;
    }
    control::Response reply;
    const Result<void> done = Dispatch(handler, request, std::move(fds), reply);
    if (!done.ok()) reply.set_error(done.error().value());
    if (request.no_reply()) continue;
    if (!SendFrame(socket.get(), reply.SerializeAsString(), {}).ok()) return;
  }
}

// Signals are for the thread that the kernel chose for them, never for these.
void Detach(std::thread thread) { thread.detach(); }

void Accept(UniqueFd listen, ControlHandler& handler) {
  while (true) {
    UniqueFd socket(RetryEintr([&] {
      return accept4(listen.get(), nullptr, nullptr, SOCK_CLOEXEC);
    }));
    if (!socket) return;
    Detach(std::thread([socket = std::move(socket), &handler]() mutable {
      Serve(std::move(socket), handler);
    }));
  }
}

}  // namespace

void ControlServer::Start(UniqueFd listen, UniqueFd connection, ControlHandler& handler) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  if (listen) {
    Detach(std::thread([listen = std::move(listen), &handler]() mutable {
      Accept(std::move(listen), handler);
    }));
  }
  if (connection) {
    Detach(std::thread([connection = std::move(connection), &handler]() mutable {
      Serve(std::move(connection), handler);
    }));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace ringwall
