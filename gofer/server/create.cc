// Making and removing names: create, mkdir, mknod, symlink, link, unlink, rename.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gofer/server/host.h"
#include "gofer/server/session.h"

namespace ringwall::gofer {

namespace {

constexpr uint32_t kSetIds = S_ISUID | S_ISGID;

// Without the capability, or where the id is not mapped, the file stays the gofer's own.
bool OwnerCannotBeSet(int error) { return error == EPERM || error == EINVAL; }

}  // namespace

// Gives the open file `fd` the owner asked for and the set-id bits of `mode` that making it or
// changing its owner took away. `attr` is what the file has, and has afterwards.
Result<void> Session::ApplyOwner(int fd, uint32_t mode, uint32_t uid, uint32_t gid,
                                 Attr* attr) const {
  bool changed = false;
  const bool uid_differs = uid != kNoId && uid != attr->uid;
  const bool gid_differs = gid != kNoId && gid != attr->gid;
  if (uid_differs || gid_differs) {
    if (::fchownat(fd, "", uid_differs ? uid : kNoId, gid_differs ? gid : kNoId, AT_EMPTY_PATH) ==
        0) {
      changed = true;
    } else if (!OwnerCannotBeSet(errno)) {
      return Errno(errno);
    }
  }
  const uint32_t type = attr->mode & S_IFMT;
  const uint32_t missing = mode & kSetIds;
  if (type != S_IFLNK && missing != 0 && (changed || (attr->mode & missing) != missing)) {
    TRY(ChmodFd(options_.proc, fd, type, (attr->mode & 07777) | missing));
    changed = true;
  }
  if (changed) *attr = TRY(StatFd(fd));
  return {};
}

Result<UniqueFd> Session::FinishNew(int dir, const Name& name, uint32_t mode, uint32_t uid,
                                    uint32_t gid, Attr* attr) const {
  UniqueFd fd = TRY(OpenPath(dir, name.c_str()));
  *attr = TRY(StatFd(fd.get()));
  // Somebody on the host may have put another file here since it was made. Do not give that one
  // away if it does not look as what was made. (Regular files do not come here; what can be put in
  // place of the others is worth little.)
  const uint32_t type = mode & S_IFMT;
  if ((attr->mode & S_IFMT) != type || attr->uid != ::geteuid() ||
      (type != S_IFDIR && attr->nlink != 1)) {
    return Errno(ESTALE);
  }
  TRY(ApplyOwner(fd.get(), mode, uid, gid, attr));
  return fd;
}

// A descriptor to keep of the open file `fd`: O_PATH if that can be had.
Result<UniqueFd> Session::PathOf(int fd) const {
  const FdPath path(options_.proc, fd);
  UniqueFd path_fd(path.available() ? ::openat(AT_FDCWD, path.c_str(), O_PATH | O_CLOEXEC)
                                    : ::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!path_fd) return Errno(errno);
  return path_fd;
}

Result<void> Session::Create(Reader& in, Reply& out) {
  const CreateRequest request = TRY(in.Read<CreateRequest>());
  const bool nameless = (request.flags & O_TMPFILE) == O_TMPFILE;
  const bool exclusive = (request.flags & O_EXCL) != 0;
  const uint32_t open_flags =
      request.flags & ~static_cast<uint32_t>(O_EXCL | (nameless ? O_TMPFILE : 0));
  const int host_flags = TRY(HostOpenFlags(open_flags));
  const uint32_t mode = request.mode & 07777;
  if (nameless) {
    if (request.name_size != 0 || (open_flags & O_ACCMODE) == O_RDONLY) return Errno(EINVAL);
    TRY(in.End());
  }
  CreateReply reply;
  reply.created = 1;
  UniqueFd fd;
  Ref<FileHandle> dir = TRY(handles_.Get(request.dir));
  if (dir->root.nameless) {
    if (!nameless || !exclusive || host_flags != O_RDWR) return Errno(EACCES);
  } else {
    dir = TRY(GetWritableDir(request.dir));
  }
  if (nameless) {
    fd = UniqueFd(::openat(dir->fd(), ".",
                           host_flags | O_TMPFILE | (exclusive ? O_EXCL : 0) | O_CLOEXEC, mode));
    if (!fd) return Errno(errno);
  } else {
    const Name name = TRY(in.ReadName(request.name_size));
    TRY(in.End());
    // Making with O_EXCL says for certain whether the file is new, and so ours to give away. A few
    // rounds, for a file that comes and goes.
    for (int round = 0;; ++round) {
      fd = UniqueFd(::openat(dir->fd(), name.c_str(),
                             (host_flags & ~O_TRUNC) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                             mode));
      if (fd) break;
      if (errno != EEXIST || exclusive) return Errno(errno);
      Attr attr = TRY(StatAt(dir->fd(), name.c_str()));
      // The client walks again and finds what is there.
      if ((attr.mode & S_IFMT) != S_IFREG) return Errno(EEXIST);
      Result<UniqueFd> opened = OpenRegularAt(dir->fd(), name, dir->root, open_flags, &attr);
      if (opened.ok()) {
        fd = std::move(*opened);
        reply.created = 0;
        break;
      }
      if (!opened.error().Is(ENOENT) || round == 8) return opened.error();
    }
  }
  reply.node.attr = TRY(StatFd(fd.get()));
  if (reply.created != 0) {
    TRY(ApplyOwner(fd.get(), mode, request.uid, request.gid, &reply.node.attr));
  }
  // The contents alone are wanted where nothing has a name, and must go with the last descriptor.
  if (!dir->root.nameless) {
    UniqueFd path_fd = TRY(PathOf(fd.get()));
    reply.node.handle = TRY(Keep(std::move(path_fd), dir->root, reply.node.attr.mode, dir->dev));
  }
  out.body.Put(reply);
  out.fds.Add(std::move(fd));
  return {};
}

Result<void> Session::Make(Reader& in, Reply& out) {
  const MakeRequest request = TRY(in.Read<MakeRequest>());
  const Name name = TRY(in.ReadName(request.name_size));
  if (request.target_size > kMaxPathLength) return Errno(ENAMETOOLONG);
  const std::string_view target = TRY(in.ReadBytes(request.target_size));
  TRY(in.End());
  const uint32_t type = request.mode & S_IFMT;
  const uint32_t mode = request.mode & 07777;
  if ((request.mode & ~(S_IFMT | 07777u)) != 0) return Errno(EINVAL);
  if (type != S_IFLNK && !target.empty()) return Errno(EINVAL);
  const Ref<FileHandle> dir = TRY(GetWritableDir(request.dir));
  NodeReply node;
  UniqueFd fd;
  switch (type) {
    case S_IFDIR:
      TRY(FromHost(::mkdirat(dir->fd(), name.c_str(), mode)));
      break;
    case S_IFLNK: {
      if (target.empty()) return Errno(ENOENT);
      if (target.find('\0') != std::string_view::npos) return Errno(EINVAL);
      char* text = AsChars(out.scratch);
      target.copy(text, target.size());
      text[target.size()] = '\0';
      TRY(FromHost(::symlinkat(text, dir->fd(), name.c_str())));
      break;
    }
    case S_IFCHR:
      if (request.rdev != 0) return Errno(EPERM);
      [[fallthrough]];
    case S_IFIFO:
    case S_IFSOCK:
      TRY(FromHost(::mknodat(dir->fd(), name.c_str(), type | mode, 0)));
      break;
    case S_IFREG: {
      const UniqueFd file(::openat(dir->fd(), name.c_str(),
                                   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
      if (!file) return Errno(errno);
      node.attr = TRY(StatFd(file.get()));
      TRY(ApplyOwner(file.get(), mode, request.uid, request.gid, &node.attr));
      fd = TRY(PathOf(file.get()));
      break;
    }
    case S_IFBLK:
      return Errno(EPERM);
    default:
      return Errno(EINVAL);
  }
  if (!fd) {
    fd = TRY(FinishNew(dir->fd(), name, request.mode, request.uid, request.gid, &node.attr));
  }
  if (request.want_handle != 0) node.handle = TRY(Keep(std::move(fd), dir->root, type, dir->dev));
  out.body.Put(node);
  return {};
}

Result<void> Session::Link(Reader& in, Reply& out) {
  const LinkRequest request = TRY(in.Read<LinkRequest>());
  const Name name = TRY(in.ReadName(request.name_size));
  TRY(in.End());
  const Ref<FileHandle> target = TRY(GetWritable(request.target));
  const Ref<FileHandle> dir = TRY(GetWritableDir(request.dir));
  if (&target->root != &dir->root) return Errno(EXDEV);
  if (target->type == S_IFDIR) return Errno(EPERM);
  // The magic link needs no capability, AT_EMPTY_PATH would.
  const FdPath path(options_.proc, target->fd());
  const int linked =
      path.available()
          ? ::linkat(AT_FDCWD, path.c_str(), dir->fd(), name.c_str(), AT_SYMLINK_FOLLOW)
          : ::linkat(target->fd(), "", dir->fd(), name.c_str(), AT_EMPTY_PATH);
  TRY(FromHost(linked));
  const Attr attr = TRY(StatFd(target->fd()));
  out.body.Put(attr);
  return {};
}

Result<void> Session::Unlink(Reader& in, Reply&) {
  const UnlinkRequest request = TRY(in.Read<UnlinkRequest>());
  const Name name = TRY(in.ReadName(request.name_size));
  TRY(in.End());
  if ((request.flags & ~static_cast<uint32_t>(AT_REMOVEDIR)) != 0) return Errno(EINVAL);
  const Ref<FileHandle> dir = TRY(GetWritableDir(request.dir));
  TRY(FromHost(::unlinkat(dir->fd(), name.c_str(), static_cast<int>(request.flags))));
  return {};
}

Result<void> Session::Rename(Reader& in, Reply&) {
  const RenameRequest request = TRY(in.Read<RenameRequest>());
  const Name old_name = TRY(in.ReadName(request.old_size));
  const Name new_name = TRY(in.ReadName(request.new_size));
  TRY(in.End());
  constexpr uint32_t kAllowed = RENAME_NOREPLACE | RENAME_EXCHANGE;
  if ((request.flags & ~kAllowed) != 0 || request.flags == kAllowed) return Errno(EINVAL);
  const Ref<FileHandle> old_dir = TRY(GetWritableDir(request.old_dir));
  const Ref<FileHandle> new_dir = TRY(GetWritableDir(request.new_dir));
  if (&old_dir->root != &new_dir->root) return Errno(EXDEV);
  TRY(FromHost(::syscall(SYS_renameat2, old_dir->fd(), old_name.c_str(), new_dir->fd(),
                         new_name.c_str(), request.flags)));
  return {};
}

}  // namespace ringwall::gofer
