// The control channel: how the runsc commands talk to a running Sentry.
//
// A stream socket carries frames: a 32-bit size and a Request or Response of control.proto.
// Descriptors for exec ride on the first byte of their frame. The CLI made the socket; the Sentry
// inherits it listening and opens nothing.
#ifndef RINGWALL_RUNSC_BOOT_CONTROL_H_
#define RINGWALL_RUNSC_BOOT_CONTROL_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runsc/boot/boot.h"
#include "runsc/boot/control.pb.h"
#include "sentry/base/host_error.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// What the kernel does for each request. Called on the thread of one connection, several at once;
// a call may block (Wait does) and holds up only its own connection. An error is the Errno; a
// handler may put a sentence for people in reply.text and what the CLI is to exit with in
// reply.exit_code.
class ControlHandler {
 public:
  virtual ~ControlHandler() = default;
  // Starts the first process of a container that was created with start_now == false. EBUSY when
  // it runs already.
  virtual Result<void> Start(NetworkConfig network, const std::string& resolv_conf,
                             control::Response& reply) = 0;
  virtual Result<void> Exec(BootProcess process, control::Response& reply) = 0;
  // ESRCH when there is no such process.
  virtual Result<void> Signal(const control::Request::Signal& request) = 0;
  virtual Result<void> Wait(int32_t pid, control::Response& reply) = 0;
  virtual Result<void> Ps(control::Response& reply) = 0;
  virtual Result<void> Pause() = 0;
  virtual Result<void> Resume() = 0;
  virtual Result<void> Stats(bool syscalls, control::Response& reply) = 0;
  virtual Result<void> Strace(const control::Request::Strace& request) = 0;
  virtual Result<void> SetLogLevel(int level) = 0;
  virtual Result<void> Stacks(control::Response& reply) = 0;
  virtual Result<void> State(control::Response& reply) = 0;
  // One container more, in the first one's network namespace: see joined.h. EINVAL where there can be none.
  virtual Result<void> Join(BootArgs args, control::Response& reply) = 0;
};

// The Sentry's end. Serves until the process ends.
class ControlServer {
 public:
  // Before Start: has its threads watch the gofer, too. When that ends, so does the sandbox, with
  // a message on `status_fd` that says how.
  static void WatchGofer(UniqueFd pidfd, pid_t pid, int status_fd);
  // For who reaps the Sentry's children itself: ends the sandbox as above if it was the gofer.
  static void ChildEnded(pid_t pid, int wait_status);
  // One more connection that exists already.
  static void AddConnection(UniqueFd connection, std::shared_ptr<ControlHandler> handler);
  // Accepts connections for `handler` on a thread of its own until the peer of `life` has gone, calls
  // `gone` then and closes both.
  static void ServeUntil(UniqueFd listen, UniqueFd life, std::shared_ptr<ControlHandler> handler,
                         std::function<void()> gone);
  // Waits until what was asked has been answered, but for no more than a second: the process is
  // about to end, and who waits for that end is to hear of it.
  static void Drain();
  // Either descriptor may be -1.
  static void Start(UniqueFd listen, UniqueFd connection, std::shared_ptr<ControlHandler> handler);
};

// The CLI's end.
class ControlClient {
 public:
  explicit ControlClient(UniqueFd socket) : socket_(std::move(socket)) {}
  // Connects to the socket `name` in `directory`; ECONNREFUSED or ENOENT when no Sentry lives.
  static HostResult<ControlClient> Connect(int directory, const std::string& name);

  // Sends and waits for the answer. A Response with an error is still a value here.
  HostResult<control::Response> Call(const control::Request& request,
                                     const std::vector<int>& fds = {});
  HostResult<void> Send(const control::Request& request, const std::vector<int>& fds = {});
  HostResult<control::Response> Receive();
  int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
};

// Listening socket `name` in `directory`, for a Sentry to inherit.
HostResult<UniqueFd> ListenControl(int directory, const std::string& name);

// Sends a signal that the CLI got on to the container's foreground, expecting no answer.
void SendForwardedSignal(int socket, int signal, int32_t pid = 0);

// `fds` gets the descriptors to send beside the message, borrowed from `process`.
void ToProto(const BootProcess& process, control::Process* out, std::vector<int>* fds);
void ToProto(const NetworkConfig& config, control::Network* out, std::vector<int>* fds);
// EINVAL when the descriptors that came are not those that the message tells of.
Result<BootProcess> FromProto(const control::Process& in, std::vector<UniqueFd> fds);
Result<NetworkConfig> FromProto(const control::Network& in, std::vector<UniqueFd> fds);
// A container to join a sandbox: the fields of BootArgs that say what it is, with gofer, control_listen,
// control_connection and perhaps terminal_connection.
void ToProto(const BootArgs& args, control::Join* out, std::vector<int>* fds);
// EINVAL likewise, and for numbers that mean nothing.
Result<BootArgs> FromProto(const control::Join& in, std::vector<UniqueFd> fds);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_CONTROL_H_
