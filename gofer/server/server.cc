#include "gofer/server/server.h"

#include <sys/socket.h>

#include "gofer/server/channel.h"

namespace ringwall::gofer {

Server::Server(UniqueFd socket, SessionOptions options)
    : socket_(std::move(socket)), session_(std::move(options)) {}

Server::~Server() = default;

HostResult<std::unique_ptr<Server>> Server::Create(UniqueFd socket, SessionOptions options) {
  const uint32_t channels = options.max_channels;
  std::unique_ptr<Server> server(new Server(std::move(socket), std::move(options)));
  for (uint32_t i = 0; i < channels; ++i) {
    server->channels_.push_back(std::make_unique<Channel>(server->session_));
    if (const int error = server->channels_.back()->Start(); error != 0) {
      return HostError::WithErrno(error, "start gofer thread");
    }
  }
  // All at once: they come up while the others are started.
  for (const std::unique_ptr<Channel>& channel : server->channels_) channel->AwaitUp();
  server->session_.SetOpenChannel(&Server::OpenChannel, server.get());
  return server;
}

Result<void> Server::OpenChannel(void* self, bool shared_memory, Descriptors* fds) {
  UniqueFd memory_fd;
  ChannelMemory memory;
  if (shared_memory) memory = TRY(ChannelMemory::Make(&memory_fd));
  int pair[2];
  TRY(FromHost(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)));
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  for (const std::unique_ptr<Channel>& channel : static_cast<Server*>(self)->channels_) {
    if (!channel->Assign(&ours, &memory)) continue;
    fds->Add(std::move(theirs));
    if (shared_memory) fds->Add(std::move(memory_fd));
    return {};
  }
  return Errno(EMFILE);
}

void Server::Serve() {
  Buffers buffers;
  ServeSocket(session_, socket_.get(), buffers);
  ::shutdown(socket_.get(), SHUT_RDWR);
  for (const std::unique_ptr<Channel>& channel : channels_) channel->Stop();
}

}  // namespace ringwall::gofer
