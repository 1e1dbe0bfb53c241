// The connection: channels, handles, closes. The operations are in operations.cc.
#include "gofer/client/client.h"

#include <sched.h>
#include <sys/stat.h>

#include <algorithm>

#include "gofer/client/channel.h"
#include "sentry/base/log.h"

namespace ringwall::gofer {

namespace {

// Queued closes that are worth a round trip of their own.
constexpr uint32_t kCloseBatch = 64;

}  // namespace

GoferHandle::GoferHandle(RefPtr<GoferClient> client, HandleValue value)
    : client_(std::move(client)), value_(value) {}

GoferHandle::GoferHandle(GoferHandle&& o) noexcept
    : client_(std::move(o.client_)), value_(std::exchange(o.value_, 0)) {}

GoferHandle& GoferHandle::operator=(GoferHandle&& o) noexcept {
  if (this != &o) {
    reset();
    client_ = std::move(o.client_);
    value_ = std::exchange(o.value_, 0);
  }
  return *this;
}

GoferHandle::~GoferHandle() { reset(); }

void GoferHandle::reset() {
  if (value_ != 0) client_->Close(value_);
  value_ = 0;
  client_.reset();
}

GoferClient::GoferClient(UniqueFd socket, const ClientOptions& options)
    : options_(options), control_(std::make_unique<ClientChannel>(std::move(socket))) {}

GoferClient::~GoferClient() = default;

Result<Ref<GoferClient>> GoferClient::Create(UniqueFd socket, const ClientOptions& options) {
  Ref<GoferClient> client = MakeRef<GoferClient>(std::move(socket), options);
  TRY(client->Hello());
  return client;
}

Result<void> GoferClient::Hello() {
  Call call(*this, *control_);
  call.Begin(Op::kHello).Put(HelloRequest{});
  TRY(call.Run());
  const HelloReply reply = TRY(call.Get<HelloReply>());
  TRY(call.End());
  if (reply.version != kProtocolVersion) return call.Malformed();
  root_count_ = reply.root_count;
  max_handles_ = reply.max_handles;
  MutexLock lock(mu_);
  channel_limit_ = std::min(options_.max_channels, reply.max_channels);
  if (channel_limit_ == 0) idle_.push_back(control_.get());
  return {};
}

Result<ClientChannel*> GoferClient::Acquire() {
  while (true) {
    {
      MutexLock lock(mu_);
      while (true) {
        if (broken()) return Errno(EIO);
        const bool may_open = channels_.size() + opening_ < channel_limit_;
        if (ClientChannel* channel = TakeIdle(/*any=*/!may_open); channel != nullptr) {
          return channel;
        }
        if (may_open) break;
        idle_changed_.Wait(mu_);
      }
      ++opening_;
    }
    Result<std::unique_ptr<ClientChannel>> opened = OpenChannel();
    MutexLock lock(mu_);
    --opening_;
    if (opened.ok()) {
      channels_.push_back(std::move(*opened));
      return channels_.back().get();
    }
    // The server has no more: make do with what there is, or else with the control socket.
    channel_limit_ = static_cast<uint32_t>(channels_.size()) + opening_;
    if (channel_limit_ == 0) {
      idle_.push_back(control_.get());
      idle_changed_.SignalAll();
    }
  }
}

// A channel whose server thread is on this processor, the one used last first; or any.
ClientChannel* GoferClient::TakeIdle(bool any) {
  if (idle_.empty()) return nullptr;
  const int cpu = options_.shared_memory ? ::sched_getcpu() : idle_.back()->cpu();
  auto found = std::find_if(idle_.rbegin(), idle_.rend(),
                            [cpu](const ClientChannel* channel) { return channel->cpu() == cpu; });
  if (found == idle_.rend()) {
    if (!any) return nullptr;
    found = idle_.rbegin();
  }
  ClientChannel* channel = *found;
  idle_.erase(std::next(found).base());
  return channel;
}

void GoferClient::ReleaseChannel(ClientChannel* channel) {
  MutexLock lock(mu_);
  idle_.push_back(channel);
  idle_changed_.Signal();
}

Result<std::unique_ptr<ClientChannel>> GoferClient::OpenChannel() {
  MutexLock lock(control_mu_);
  Call call(*this, *control_);
  call.Begin(Op::kOpenChannel).Put(OpenChannelRequest{.shared_memory = options_.shared_memory});
  TRY(call.Run());
  UniqueFd memory_fd;
  ChannelMemory memory;
  if (options_.shared_memory) {
    if (call.lost_fds()) return Errno(ENFILE);
    if (call.fds().count != 2) return call.Malformed();
    memory_fd = std::move(call.fds().fd[1]);
    call.fds().count = 1;
  }
  UniqueFd socket = TRY(call.GetFd(S_IFSOCK));
  TRY(call.End());
  if (options_.shared_memory) memory = TRY(ChannelMemory::Map(memory_fd.get()));
  return std::make_unique<ClientChannel>(std::move(socket), std::move(memory));
}

void GoferClient::Close(HandleValue value) {
  MutexLock lock(closes_mu_);
  closes_.push_back(value);
  closes_queued_.store(static_cast<uint32_t>(closes_.size()), std::memory_order_relaxed);
}

std::vector<HandleValue> GoferClient::TakeCloses(bool all) {
  if (closes_queued_.load(std::memory_order_relaxed) < (all ? 1 : kCloseBatch)) return {};
  MutexLock lock(closes_mu_);
  std::vector<HandleValue> taken;
  taken.swap(closes_);
  closes_queued_.store(0, std::memory_order_relaxed);
  return taken;
}

void GoferClient::SendCloses(Call& call, std::span<const HandleValue> values) {
  while (!values.empty()) {
    const std::span<const HandleValue> part = values.first(std::min(values.size(), kMaxCloses));
    values = values.subspan(part.size());
    Writer& out = call.Begin(Op::kClose);
    out.Put(CloseRequest{.count = static_cast<uint32_t>(part.size())});
    for (const HandleValue value : part) out.Put(value);
    if (!call.Run().ok()) return;  // broken: the handles went with the connection
  }
}

void GoferClient::FlushCloses() {
  const std::vector<HandleValue> closes = TakeCloses(/*all=*/true);
  if (closes.empty()) return;
  Call call(*this);
  SendCloses(call, closes);
}

void GoferClient::Break(const char* why) {
  if (broken_.exchange(true)) return;
  RW_LOG(kError, "gofer connection lost: %s", why);
  control_->Interrupt();
  MutexLock lock(mu_);
  for (const std::unique_ptr<ClientChannel>& channel : channels_) channel->Interrupt();
  idle_changed_.SignalAll();
}

}  // namespace ringwall::gofer
