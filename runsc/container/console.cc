#include "runsc/container/console.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <map>

#include "runsc/cli/stdio.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

HostResult<void> SendMaster(const std::string& path, int master, const std::string& name) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return HostError::WithErrno(ENAMETOOLONG, "--console-socket", path);
  }
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (!socket || RetryEintr([&] {
        return connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
      }) != 0) {
    return HostError::Last("--console-socket: connect to", path);
  }
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    cmsghdr align;
  } control = {};
  iovec piece = {const_cast<char*>(name.data()), name.size()};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &master, sizeof(int));
  if (RetryEintr([&] { return sendmsg(socket.get(), &message, MSG_NOSIGNAL); }) < 0) {
    return HostError::Last("--console-socket: send the terminal to", path);
  }
  return {};
}

HostResult<UniqueFd> Copy(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return HostError::Last("copy descriptor", std::to_string(fd));
  return copy;
}

}  // namespace

HostResult<void> SetUpConsole(const std::string& console_socket, BootProcess* process) {
  UniqueFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master || unlockpt(master.get()) != 0) return HostError::Last("make a pseudo terminal");
  UniqueFd slave(ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave) return HostError::Last("open the pseudo terminal");
  char name[64] = {};
  if (ptsname_r(master.get(), name, sizeof(name)) != 0) snprintf(name, sizeof(name), "pts");
  if (process->terminal_size.rows != 0 || process->terminal_size.cols != 0) {
    winsize size = {};
    size.ws_row = process->terminal_size.rows;
    size.ws_col = process->terminal_size.cols;
    ioctl(slave.get(), TIOCSWINSZ, &size);
  }
  TRY(SendMaster(console_socket, master.get(), name));
  for (UniqueFd& fd : process->stdio) {
    UniqueFd copy = TRY(Copy(slave.get()));
    fd = std::move(copy);
  }
  process->terminal = true;
  return {};
}

namespace {

// The descriptors of --pass-fd by their number inside.
HostResult<std::map<int, int>> ParsePassed(const std::vector<std::string>& passed) {
  std::map<int, int> out;
  for (const std::string& text : passed) {
    int ours = -1, theirs = -1, end = 0;
    if (sscanf(text.c_str(), "%9d:%9d%n", &ours, &theirs, &end) != 2) {
      end = 0;
      if (sscanf(text.c_str(), "%9d%n", &ours, &end) == 1) theirs = ours;
    }
    if (end == 0 || text[static_cast<size_t>(end)] != '\0' || ours < 0 || theirs < 3) {
      return HostError::Message("--pass-fd: \"" + text + "\" is not N:M with M of 3 or more");
    }
    out[theirs] = ours;
  }
  return out;
}

}  // namespace

HostResult<void> PassStdio(int64_t preserve_fds, const std::vector<std::string>& passed,
                           BootProcess* process) {
  for (int fd = 0; fd <= 2; fd++) {
    if (StdioWasClosed(fd)) continue;
    UniqueFd copy = TRY(Copy(fd));
    process->stdio[static_cast<size_t>(fd)] = std::move(copy);
    process->host_tty |= isatty(fd) != 0;
  }
  for (int fd = 3; fd < 3 + preserve_fds; fd++) {
    UniqueFd copy = TRY(Copy(fd));
    process->extra_fds.push_back(std::move(copy));
  }
  const std::map<int, int> more = TRY(ParsePassed(passed));
  for (const auto& [theirs, ours] : more) {
    const int next = 3 + static_cast<int>(process->extra_fds.size());
    if (theirs != next) {
      return HostError::Message("--pass-fd: " + std::to_string(theirs) +
                                " inside leaves a gap or is taken; the next is " +
                                std::to_string(next));
    }
    UniqueFd copy = TRY(Copy(ours));
    process->extra_fds.push_back(std::move(copy));
  }
  return {};
}

}  // namespace ringwall
