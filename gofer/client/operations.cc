// One function per operation: the request's fields in, the reply's checked fields out.
#include <fcntl.h>
#include <sys/stat.h>

#include "gofer/client/channel.h"
#include "gofer/client/client.h"

namespace ringwall::gofer {

namespace {

Result<void> Check(std::string_view name) {
  if (const int error = CheckName(name); error != 0) return Errno(error);
  return {};
}

Result<void> PutNames(Writer& out, std::span<const std::string_view> names) {
  for (const std::string_view name : names) {
    TRY(Check(name));
    out.Put(static_cast<uint16_t>(name.size()));
    out.PutBytes(name);
  }
  return {};
}

uint32_t Size(std::string_view text) { return static_cast<uint32_t>(text.size()); }

// Sends a request whose reply has no body.
Result<void> RunEmpty(Call& call) {
  TRY(call.Run());
  return call.End();
}

// Sends a request whose reply is the attributes.
Result<Attr> RunAttr(Call& call) {
  TRY(call.Run());
  const Attr attr = TRY(call.GetAttr());
  TRY(call.End());
  return attr;
}

}  // namespace

Result<GoferNode> GoferClient::ToNode(const NodeReply& reply, Call& call, bool want_handle) {
  if (!AttrIsSane(reply.attr) || (reply.handle != 0) != want_handle) return call.Malformed();
  GoferNode node;
  node.attr = reply.attr;
  if (want_handle) node.handle = GoferHandle(RefPtr<GoferClient>(this), reply.handle);
  return node;
}

Result<AttachResult> GoferClient::Attach(uint32_t root) {
  Call call(*this);
  call.Begin(Op::kAttach).Put(AttachRequest{.root = root});
  TRY(call.Run());
  const AttachReply reply = TRY(call.Get<AttachReply>());
  TRY(call.End());
  if (reply.read_only > 1) return call.Malformed();
  AttachResult result;
  result.node = TRY(ToNode(reply.node, call, true));
  result.read_only = reply.read_only != 0;
  return result;
}

Result<WalkResult> GoferClient::Walk(const GoferHandle& dir,
                                     std::span<const std::string_view> names, uint32_t flags,
                                     uint32_t open_flags) {
  if (names.empty() || names.size() > kMaxWalkNames) return Errno(EINVAL);
  Call call(*this);
  Writer& out = call.Begin(Op::kWalk);
  out.Put(WalkRequest{.dir = dir.value(),
                      .flags = flags,
                      .open_flags = open_flags,
                      .count = static_cast<uint32_t>(names.size())});
  TRY(PutNames(out, names));
  TRY(call.Run());
  const WalkReply reply = TRY(call.Get<WalkReply>());
  WalkResult result;
  if (reply.count > names.size() || reply.target_size > kMaxPathLength) return call.Malformed();
  result.stop = static_cast<WalkStop>(reply.stop);
  result.error = reply.error;
  result.nodes.reserve(reply.count);
  for (uint32_t i = 0; i < reply.count; ++i) {
    const bool last = i + 1 == names.size();
    const bool want_handle = (flags & kWalkHandleAll) != 0 || (last && (flags & kWalkHandleLast));
    const NodeReply node_reply = TRY(call.Get<NodeReply>());
    GoferNode node = TRY(ToNode(node_reply, call, want_handle));
    // Only the last one sent can be something that one cannot walk through.
    const uint32_t type = node.attr.mode & S_IFMT;
    if (i + 1 < reply.count && type != S_IFDIR) return call.Malformed();
    result.nodes.push_back(std::move(node));
  }
  const std::string_view target = TRY(call.GetBytes(reply.target_size));
  result.target.assign(target);

  const bool all = reply.count == names.size();
  const uint32_t last_type = reply.count == 0 ? 0 : result.nodes.back().attr.mode & S_IFMT;
  const bool is_link = last_type == S_IFLNK;
  if (is_link != !target.empty() || target.find('\0') != std::string_view::npos) {
    return call.Malformed();
  }
  bool sane = false;
  switch (result.stop) {
    case WalkStop::kDone:
      sane = all && reply.error == 0;
      break;
    case WalkStop::kSymlink:
      sane = !all && is_link && reply.error == 0;
      break;
    case WalkStop::kError:
      sane = !all && reply.error > 0 && reply.error <= kMaxErrno;
      break;
    case WalkStop::kOpenFailed:
      sane = all && last_type == S_IFREG && (flags & kWalkOpen) != 0 && reply.error > 0 &&
             reply.error <= kMaxErrno;
      break;
  }
  if (!sane) return call.Malformed();
  const bool opened =
      result.stop == WalkStop::kDone && (flags & kWalkOpen) != 0 && last_type == S_IFREG;
  if (opened && call.lost_fds()) {
    // Found it was, and its handle is here.
    result.stop = WalkStop::kOpenFailed;
    result.error = call.GetFd(S_IFREG).error_value();
  } else if (opened) {
    result.fd = TRY(call.GetFd(S_IFREG));
  }
  TRY(call.End());
  return result;
}

Result<GoferNode> GoferClient::Lookup(const GoferHandle& dir, std::string_view name) {
  const std::string_view names[] = {name};
  WalkResult walk = TRY(Walk(dir, names, kWalkHandleLast));
  if (walk.error != 0) return Errno(walk.error);
  return std::move(walk.nodes[0]);
}

Result<Attr> GoferClient::StatAt(const GoferHandle& dir, std::string_view name) {
  const std::string_view names[] = {name};
  const WalkResult walk = TRY(Walk(dir, names, 0));
  if (walk.error != 0) return Errno(walk.error);
  return walk.nodes[0].attr;
}

Result<std::vector<PeekedNode>> GoferClient::Peek(const GoferHandle& dir,
                                                  std::span<const std::string_view> names,
                                                  bool open) {
  if (names.empty() || names.size() > (open ? kMaxDescriptors : kMaxPeekNames)) {
    return Errno(EINVAL);
  }
  Call call(*this);
  Writer& out = call.Begin(Op::kPeek);
  out.Put(PeekRequest{.dir = dir.value(),
                      .flags = open ? kPeekOpen : 0,
                      .count = static_cast<uint32_t>(names.size())});
  TRY(PutNames(out, names));
  TRY(call.Run());
  std::vector<PeekedNode> nodes(names.size());
  for (PeekedNode& node : nodes) {
    const PeekReply reply = TRY(call.Get<PeekReply>());
    if (reply.error < 0 || reply.error > kMaxErrno || reply.opened > (open ? 1u : 0u)) {
      return call.Malformed();
    }
    node.error = reply.error;
    if (reply.error != 0) {
      if (reply.opened != 0) return call.Malformed();
      continue;
    }
    if (!AttrIsSane(reply.attr)) return call.Malformed();
    node.attr = reply.attr;
    if (reply.opened == 0) continue;
    if ((reply.attr.mode & S_IFMT) != S_IFREG) return call.Malformed();
    node.fd = TRY(call.NextFd(S_IFREG));
  }
  // Without its descriptors the rest of the reply is as good.
  call.ForgetLostFds();
  TRY(call.End());
  return nodes;
}

Result<Attr> GoferClient::Stat(const GoferHandle& file) {
  Call call(*this);
  call.Begin(Op::kStat).Put(HandleRequest{.handle = file.value()});
  return RunAttr(call);
}

Result<Attr> GoferClient::SetAttr(const GoferHandle& file, SetAttrRequest request) {
  Call call(*this);
  request.handle = file.value();
  call.Begin(Op::kSetAttr).Put(request);
  return RunAttr(call);
}

Result<OpenResult> GoferClient::Open(const GoferHandle& file, uint32_t flags) {
  Call call(*this);
  call.Begin(Op::kOpen).Put(OpenRequest{.handle = file.value(), .flags = flags});
  TRY(call.Run());
  OpenResult result;
  result.attr = TRY(call.GetAttr());
  const uint32_t type = result.attr.mode & S_IFMT;
  if (type != S_IFREG && type != S_IFIFO) return call.Malformed();
  result.fd = TRY(call.GetFd(type));
  TRY(call.End());
  return result;
}

Result<CreateResult> GoferClient::DoCreate(const GoferHandle& dir, std::string_view name,
                                           uint32_t flags, const NewFile& file,
                                           bool want_handle) {
  Call call(*this);
  Writer& out = call.Begin(Op::kCreate);
  out.Put(CreateRequest{.dir = dir.value(),
                        .flags = flags,
                        .mode = file.mode,
                        .uid = file.uid,
                        .gid = file.gid,
                        .name_size = Size(name)});
  out.PutBytes(name);
  TRY(call.Run());
  const CreateReply reply = TRY(call.Get<CreateReply>());
  CreateResult result;
  result.node = TRY(ToNode(reply.node, call, want_handle));
  if ((result.node.attr.mode & S_IFMT) != S_IFREG || reply.created > 1) return call.Malformed();
  result.created = reply.created != 0;
  result.fd = TRY(call.GetFd(S_IFREG));
  TRY(call.End());
  return result;
}

Result<CreateResult> GoferClient::Create(const GoferHandle& dir, std::string_view name,
                                         uint32_t flags, const NewFile& file) {
  TRY(Check(name));
  if ((flags & O_TMPFILE) == O_TMPFILE) return Errno(EINVAL);
  return DoCreate(dir, name, flags, file);
}

Result<CreateResult> GoferClient::CreateNameless(const GoferHandle& dir, uint32_t flags,
                                                 const NewFile& file) {
  return DoCreate(dir, {}, flags | O_TMPFILE, file);
}

Result<UniqueFd> GoferClient::CreateUnlinked(const GoferHandle& root) {
  CreateResult made =
      TRY(DoCreate(root, {}, O_RDWR | O_TMPFILE | O_EXCL, NewFile{.mode = 0600}, false));
  return std::move(made.fd);
}

Result<GoferNode> GoferClient::Make(const GoferHandle& dir, std::string_view name,
                                    std::string_view target, uint32_t type, const NewFile& file) {
  TRY(Check(name));
  Call call(*this);
  Writer& out = call.Begin(Op::kMake);
  out.Put(MakeRequest{.dir = dir.value(),
                      .mode = type | (file.mode & 07777),
                      .uid = file.uid,
                      .gid = file.gid,
                      .name_size = Size(name),
                      .target_size = Size(target),
                      .want_handle = 1});
  out.PutBytes(name);
  out.PutBytes(target);
  TRY(call.Run());
  const NodeReply reply = TRY(call.Get<NodeReply>());
  TRY(call.End());
  GoferNode node = TRY(ToNode(reply, call, true));
  if ((node.attr.mode & S_IFMT) != type) return call.Malformed();
  return node;
}

Result<GoferNode> GoferClient::Mkdir(const GoferHandle& dir, std::string_view name,
                                     const NewFile& file) {
  return Make(dir, name, {}, S_IFDIR, file);
}

Result<GoferNode> GoferClient::Mknod(const GoferHandle& dir, std::string_view name, uint32_t type,
                                     const NewFile& file) {
  if (type == S_IFBLK) return Errno(EPERM);
  if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR) {
    return Errno(EINVAL);
  }
  return Make(dir, name, {}, type, file);
}

Result<GoferNode> GoferClient::Symlink(const GoferHandle& dir, std::string_view name,
                                       std::string_view target, uint32_t uid, uint32_t gid) {
  if (target.empty()) return Errno(ENOENT);
  return Make(dir, name, target, S_IFLNK, {.mode = 0777, .uid = uid, .gid = gid});
}

Result<Attr> GoferClient::Link(const GoferHandle& target, const GoferHandle& dir,
                               std::string_view name) {
  TRY(Check(name));
  Call call(*this);
  Writer& out = call.Begin(Op::kLink);
  out.Put(LinkRequest{.target = target.value(), .dir = dir.value(), .name_size = Size(name)});
  out.PutBytes(name);
  return RunAttr(call);
}

Result<void> GoferClient::DoUnlink(const GoferHandle& dir, std::string_view name, uint32_t flags) {
  TRY(Check(name));
  Call call(*this);
  Writer& out = call.Begin(Op::kUnlink);
  out.Put(UnlinkRequest{.dir = dir.value(), .flags = flags, .name_size = Size(name)});
  out.PutBytes(name);
  return RunEmpty(call);
}

Result<void> GoferClient::Unlink(const GoferHandle& dir, std::string_view name) {
  return DoUnlink(dir, name, 0);
}

Result<void> GoferClient::Rmdir(const GoferHandle& dir, std::string_view name) {
  return DoUnlink(dir, name, AT_REMOVEDIR);
}

Result<void> GoferClient::Rename(const GoferHandle& old_dir, std::string_view old_name,
                                 const GoferHandle& new_dir, std::string_view new_name,
                                 uint32_t flags) {
  TRY(Check(old_name));
  TRY(Check(new_name));
  Call call(*this);
  Writer& out = call.Begin(Op::kRename);
  out.Put(RenameRequest{.old_dir = old_dir.value(),
                        .new_dir = new_dir.value(),
                        .flags = flags,
                        .old_size = Size(old_name),
                        .new_size = Size(new_name)});
  out.PutBytes(old_name);
  out.PutBytes(new_name);
  return RunEmpty(call);
}

Result<std::string> GoferClient::ReadLink(const GoferHandle& link) {
  Call call(*this);
  call.Begin(Op::kReadLink).Put(HandleRequest{.handle = link.value()});
  TRY(call.Run());
  if (call.left() == 0 || call.left() > kMaxPathLength) return call.Malformed();
  const std::string_view target = TRY(call.GetBytes(call.left()));
  TRY(call.End());
  if (target.find('\0') != std::string_view::npos) return call.Malformed();
  return std::string(target);
}

Result<DirBatch> GoferClient::ReadDir(const GoferHandle& dir, uint64_t offset, bool with_attr,
                                      uint32_t max_size) {
  Call call(*this);
  call.Begin(Op::kReadDir)
      .Put(ReadDirRequest{.handle = dir.value(),
                          .offset = offset,
                          .flags = with_attr ? kReadDirAttr : 0,
                          .max_size = max_size});
  TRY(call.Run());
  const ReadDirReply reply = TRY(call.Get<ReadDirReply>());
  if (reply.end > 1 || reply.count > call.left() / sizeof(DirEntryHeader)) return call.Malformed();
  if (reply.count == 0 && reply.end == 0) return call.Malformed();  // would never get on
  DirBatch batch;
  batch.end = reply.end != 0;
  batch.entries.resize(reply.count);
  // Room for all that is left: a bad name may claim the bytes of the headers after it.
  batch.names.reset(new char[call.left()]);
  char* names = batch.names.get();
  for (GoferDirEntry& entry : batch.entries) {
    const DirEntryHeader header = TRY(call.Get<DirEntryHeader>());
    if (header.has_attr > (with_attr ? 1 : 0)) return call.Malformed();
    entry.ino = header.ino;
    entry.next = header.next;
    entry.type = header.type;
    entry.has_attr = header.has_attr != 0;
    if (entry.has_attr) entry.attr = TRY(call.GetAttr());
    const std::string_view name = TRY(call.GetBytes(header.name_size));
    if (CheckName(name) != 0) return call.Malformed();
    name.copy(names, name.size());
    entry.name = {names, name.size()};
    names += name.size();
  }
  TRY(call.End());
  return batch;
}

Result<std::string> GoferClient::DoXattr(Op op, const GoferHandle& file, std::string_view name,
                                         std::string_view value, uint32_t room, uint32_t flags,
                                         size_t* size) {
  Call call(*this);
  Writer& out = call.Begin(op);
  const bool reads = op == Op::kGetXattr || op == Op::kListXattr;
  out.Put(XattrRequest{.handle = file.value(),
                       .flags = flags,
                       .name_size = Size(name),
                       .value_size = reads ? room : Size(value)});
  out.PutBytes(name);
  out.PutBytes(value);
  TRY(call.Run());
  std::string answer;
  if (reads) {
    const XattrReply reply = TRY(call.Get<XattrReply>());
    if (reply.size > kMaxXattrValue || reply.bytes != (room == 0 ? 0 : reply.size) ||
        (room != 0 && reply.size > room)) {
      return call.Malformed();
    }
    const std::string_view bytes = TRY(call.GetBytes(reply.bytes));
    answer.assign(bytes);
    if (size != nullptr) *size = reply.size;
  }
  TRY(call.End());
  return answer;
}

Result<std::string> GoferClient::GetXattr(const GoferHandle& file, std::string_view name,
                                          size_t max_size) {
  const uint32_t room = static_cast<uint32_t>(std::min(max_size, kMaxXattrValue));
  return DoXattr(Op::kGetXattr, file, name, {}, room, 0, nullptr);
}

Result<size_t> GoferClient::XattrSize(const GoferHandle& file, std::string_view name) {
  size_t size = 0;
  TRY(DoXattr(Op::kGetXattr, file, name, {}, 0, 0, &size));
  return size;
}

Result<void> GoferClient::SetXattr(const GoferHandle& file, std::string_view name,
                                   std::string_view value, uint32_t flags) {
  if (value.size() > kMaxXattrValue) return Errno(E2BIG);
  if (name.empty() || name.size() > kMaxXattrName) return Errno(ERANGE);
  TRY(DoXattr(Op::kSetXattr, file, name, value, 0, flags, nullptr));
  return {};
}

Result<std::string> GoferClient::ListXattr(const GoferHandle& file) {
  std::string list = TRY(DoXattr(Op::kListXattr, file, {}, {}, kMaxXattrValue, 0, nullptr));
  if (!list.empty() && list.back() != '\0') {
    Break("the gofer sent a list of attributes without an end");
    return Errno(EIO);
  }
  return list;
}

Result<void> GoferClient::RemoveXattr(const GoferHandle& file, std::string_view name) {
  if (name.empty() || name.size() > kMaxXattrName) return Errno(ERANGE);
  TRY(DoXattr(Op::kRemoveXattr, file, name, {}, 0, 0, nullptr));
  return {};
}

Result<StatFsReply> GoferClient::StatFs(const GoferHandle& file) {
  Call call(*this);
  call.Begin(Op::kStatFs).Put(HandleRequest{.handle = file.value()});
  TRY(call.Run());
  const StatFsReply reply = TRY(call.Get<StatFsReply>());
  TRY(call.End());
  return reply;
}

Result<void> GoferClient::Fsync(const GoferHandle& file, SyncKind kind) {
  Call call(*this);
  call.Begin(Op::kFsync)
      .Put(FsyncRequest{.handle = file.value(), .kind = static_cast<uint32_t>(kind)});
  return RunEmpty(call);
}

Result<void> GoferClient::Fallocate(const GoferHandle& file, uint32_t mode, uint64_t offset,
                                    uint64_t length) {
  Call call(*this);
  call.Begin(Op::kFallocate)
      .Put(FallocateRequest{
          .handle = file.value(), .offset = offset, .length = length, .mode = mode});
  return RunEmpty(call);
}

Result<UniqueFd> GoferClient::Connect(const GoferHandle& socket, uint32_t type) {
  Call call(*this);
  call.Begin(Op::kConnect).Put(ConnectRequest{.handle = socket.value(), .type = type});
  TRY(call.Run());
  UniqueFd fd = TRY(call.GetFd(S_IFSOCK));
  TRY(call.End());
  return fd;
}

Result<NodeAndFd> GoferClient::Bind(const GoferHandle& dir, std::string_view name, uint32_t type,
                                    const NewFile& file) {
  TRY(Check(name));
  Call call(*this);
  Writer& out = call.Begin(Op::kBind);
  out.Put(BindRequest{.dir = dir.value(),
                      .type = type,
                      .mode = file.mode,
                      .uid = file.uid,
                      .gid = file.gid,
                      .name_size = Size(name)});
  out.PutBytes(name);
  TRY(call.Run());
  const NodeReply reply = TRY(call.Get<NodeReply>());
  NodeAndFd result;
  result.node = TRY(ToNode(reply, call, true));
  result.fd = TRY(call.GetFd(S_IFSOCK));
  TRY(call.End());
  return result;
}

Result<void> GoferClient::Listen(const GoferHandle& socket, uint32_t backlog) {
  Call call(*this);
  call.Begin(Op::kListen).Put(ListenRequest{.handle = socket.value(), .backlog = backlog});
  TRY(call.Run());
  return call.End();
}

}  // namespace ringwall::gofer
