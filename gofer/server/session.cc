// The dispatch of requests, and the operations on an open handle that are one host call each.
#include "gofer/server/session.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "gofer/server/host.h"

namespace ringwall::gofer {

Session::Session(SessionOptions options)
    : options_(std::move(options)), handles_(options_.max_handles) {}

Session::OpFn Session::Find(uint16_t op) {
  switch (static_cast<Op>(op)) {
    case Op::kHello:
      return &Session::Hello;
    case Op::kOpenChannel:
      return &Session::OpenChannel;
    case Op::kAttach:
      return &Session::Attach;
    case Op::kWalk:
      return &Session::Walk;
    case Op::kStat:
      return &Session::Stat;
    case Op::kSetAttr:
      return &Session::SetAttr;
    case Op::kOpen:
      return &Session::Open;
    case Op::kCreate:
      return &Session::Create;
    case Op::kMake:
      return &Session::Make;
    case Op::kLink:
      return &Session::Link;
    case Op::kUnlink:
      return &Session::Unlink;
    case Op::kRename:
      return &Session::Rename;
    case Op::kReadLink:
      return &Session::ReadLink;
    case Op::kReadDir:
      return &Session::ReadDir;
    case Op::kGetXattr:
      return &Session::GetXattr;
    case Op::kSetXattr:
      return &Session::SetXattr;
    case Op::kListXattr:
      return &Session::ListXattr;
    case Op::kRemoveXattr:
      return &Session::RemoveXattr;
    case Op::kStatFs:
      return &Session::StatFs;
    case Op::kFsync:
      return &Session::Fsync;
    case Op::kFallocate:
      return &Session::Fallocate;
    case Op::kConnect:
      return &Session::Connect;
    case Op::kBind:
      return &Session::Bind;
    case Op::kClose:
      return &Session::Close;
    case Op::kListen:
      return &Session::Listen;
    case Op::kPeek:
      return &Session::Peek;
  }
  return nullptr;
}

size_t Session::Handle(std::span<const uint8_t> request, std::span<uint8_t> room,
                       std::span<uint8_t> scratch, Descriptors* fds) {
  Reader in(request);
  Result<RequestHeader> header = in.Read<RequestHeader>();
  if (!header.ok() || header->size != request.size() || header->pad != 0) return 0;

  ReplyHeader answer = {.seq = header->seq};
  Reply out = {.body = Writer(room), .fds = {}, .scratch = scratch};
  out.body.Put(answer);
  int error = ENOSYS;
  if (const OpFn op = Find(header->op); op != nullptr) {
    error = (this->*op)(in, out).error_value();
    if (error == 0 && out.body.overflow()) error = EMSGSIZE;
  }
  if (error != 0) {
    out.body.Truncate(sizeof(answer));
    out.fds.Clear();
  }
  answer.error = error;
  answer.size = static_cast<uint32_t>(out.body.used());
  answer.fd_count = out.fds.count;
  out.body.Patch(0, answer);
  *fds = std::move(out.fds);
  return answer.size;
}

Result<Ref<FileHandle>> Session::GetDir(HandleValue value) const {
  Ref<FileHandle> handle = TRY(handles_.Get(value));
  if (handle->type != S_IFDIR) return Errno(ENOTDIR);
  if (handle->closed) return Errno(EACCES);
  return handle;
}

Result<Ref<FileHandle>> Session::GetWritableDir(HandleValue value) const {
  Ref<FileHandle> handle = TRY(GetDir(value));
  if (handle->root.read_only) return Errno(EROFS);
  return handle;
}

Result<Ref<FileHandle>> Session::GetWritable(HandleValue value) const {
  Ref<FileHandle> handle = TRY(handles_.Get(value));
  if (handle->closed) return Errno(EACCES);
  if (handle->root.read_only) return Errno(EROFS);
  return handle;
}

Result<Ref<FileHandle>> Session::ReadHandle(Reader& in) const {
  const HandleRequest request = TRY(in.Read<HandleRequest>());
  TRY(in.End());
  return handles_.Get(request.handle);
}

Result<HandleValue> Session::Keep(UniqueFd fd, const Root& root, uint32_t mode, uint64_t dev) {
  return handles_.Insert(MakeRef<FileHandle>(std::move(fd), root, mode & S_IFMT, dev, false));
}

Result<void> Session::Hello(Reader& in, Reply& out) {
  const HelloRequest request = TRY(in.Read<HelloRequest>());
  TRY(in.End());
  if (request.version != kProtocolVersion) return Errno(EPROTO);
  out.body.Put(HelloReply{.version = kProtocolVersion,
                          .root_count = static_cast<uint32_t>(options_.roots.size()),
                          .max_channels = options_.max_channels,
                          .max_handles = options_.max_handles});
  return {};
}

Result<void> Session::OpenChannel(Reader& in, Reply& out) {
  const OpenChannelRequest request = TRY(in.Read<OpenChannelRequest>());
  TRY(in.End());
  if (request.shared_memory > 1) return Errno(EINVAL);
  if (open_channel_ == nullptr) return Errno(EMFILE);
  return open_channel_(open_channel_context_, request.shared_memory != 0, &out.fds);
}

Result<void> Session::Attach(Reader& in, Reply& out) {
  const AttachRequest request = TRY(in.Read<AttachRequest>());
  TRY(in.End());
  if (request.root >= options_.roots.size()) return Errno(ENOENT);
  const Root& root = options_.roots[request.root];
  UniqueFd fd(::fcntl(root.fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!fd) return Errno(errno);
  if (IsKernelFs(fd.get())) return Errno(EACCES);
  AttachReply reply;
  reply.node.attr = TRY(StatFd(fd.get()));
  reply.node.handle = TRY(handles_.Insert(MakeRef<FileHandle>(
      std::move(fd), root, reply.node.attr.mode & S_IFMT, reply.node.attr.dev, root.nameless)));
  reply.read_only = root.read_only;
  out.body.Put(reply);
  return {};
}

Result<void> Session::Stat(Reader& in, Reply& out) {
  const Ref<FileHandle> handle = TRY(ReadHandle(in));
  const Attr attr = TRY(StatFd(handle->fd()));
  out.body.Put(attr);
  return {};
}

Result<void> Session::ReadLink(Reader& in, Reply& out) {
  const Ref<FileHandle> handle = TRY(ReadHandle(in));
  if (handle->type != S_IFLNK) return Errno(EINVAL);
  const ssize_t size = ::readlinkat(handle->fd(), "", AsChars(out.scratch), kMaxPathLength + 1);
  if (size < 0) return Errno(errno);
  if (static_cast<size_t>(size) > kMaxPathLength) return Errno(ENAMETOOLONG);
  out.body.PutBytes({AsChars(out.scratch), static_cast<size_t>(size)});
  return {};
}

Result<void> Session::StatFs(Reader& in, Reply& out) {
  const Ref<FileHandle> handle = TRY(ReadHandle(in));
  struct statfs buf = {};
  TRY(FromHost(::fstatfs(handle->fd(), &buf)));
  out.body.Put(StatFsReply{
      .type = static_cast<uint64_t>(buf.f_type),
      .bsize = static_cast<uint64_t>(buf.f_bsize),
      .blocks = buf.f_blocks,
      .bfree = buf.f_bfree,
      .bavail = buf.f_bavail,
      .files = buf.f_files,
      .ffree = buf.f_ffree,
      .namelen = static_cast<uint64_t>(buf.f_namelen),
      .frsize = static_cast<uint64_t>(buf.f_frsize),
      .flags = static_cast<uint64_t>(buf.f_flags) | (handle->root.read_only ? ST_RDONLY : 0)});
  return {};
}

Result<void> Session::Close(Reader& in, Reply&) {
  const CloseRequest request = TRY(in.Read<CloseRequest>());
  if (request.count > kMaxCloses || in.left() != request.count * sizeof(HandleValue)) {
    return Errno(EINVAL);
  }
  bool all = true;
  for (uint32_t i = 0; i < request.count; ++i) {
    const HandleValue value = TRY(in.Read<HandleValue>());
    all = handles_.Remove(value) && all;
  }
  if (!all) return Errno(EBADF);
  return {};
}

}  // namespace ringwall::gofer
