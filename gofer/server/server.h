// Server: carries requests of one client to its Session. The connection's own socket is served by
// the thread that calls Serve(); each channel that the client opens is served by one of the
// threads started at creation, so that no thread has to be made once the filter is up.
#ifndef RINGWALL_GOFER_SERVER_SERVER_H_
#define RINGWALL_GOFER_SERVER_SERVER_H_

#include <memory>
#include <vector>

#include "gofer/server/session.h"
#include "sentry/base/host_error.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::gofer {

class Channel;

class Server {
 public:
  // `socket` is connected, SOCK_SEQPACKET. Starts options.max_channels threads.
  static HostResult<std::unique_ptr<Server>> Create(UniqueFd socket, SessionOptions options);
  ~Server();

  // Answers until the client is gone or sends what is no message; then ends the channels.
  void Serve();

  Session& session() { return session_; }

 private:
  Server(UniqueFd socket, SessionOptions options);
  static Result<void> OpenChannel(void* self, bool shared_memory, Descriptors* fds);

  const UniqueFd socket_;
  Session session_;
  std::vector<std::unique_ptr<Channel>> channels_;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_SERVER_SERVER_H_
