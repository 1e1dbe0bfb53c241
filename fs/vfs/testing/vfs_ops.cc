#include <algorithm>
#include <memory>

#include "fs/vfs/testing/ops.h"

namespace ringwall::testing {

namespace {

std::string Answer(int error) {
  return error == 0 ? "ok" : strerrorname_np(error);
}

template <typename T>
std::string Answer(const Result<T>& r) {
  return Answer(r.error_value());
}

class Collect final : public DirSink {
 public:
  bool Add(std::string_view name, uint64_t, uint8_t type, int64_t) override {
    if (room-- == 0) return false;
    names.push_back(std::string(name) + ":" + std::to_string(type));
    return true;
  }
  int room = 0;
  std::vector<std::string> names;
};

class VfsOps final : public Ops {
 public:
  VfsOps(MountNamespace& mounts, const Credentials& creds)
      : creds_(creds), root_(mounts.root()), walk_{creds_, mounts, root_, root_} {}

  std::string Mkdir(const std::string& path, uint32_t mode) override {
    return Answer(Vfs::Mkdir(walk_, path, mode));
  }
  std::string Rmdir(const std::string& path) override { return Answer(Vfs::Rmdir(walk_, path)); }
  std::string Unlink(const std::string& path) override { return Answer(Vfs::Unlink(walk_, path)); }
  std::string Symlink(const std::string& target, const std::string& path) override {
    return Answer(Vfs::Symlink(walk_, target, path));
  }
  std::string Link(const std::string& from, const std::string& to, bool follow) override {
    const Result<Path> at = Vfs::Lookup(walk_, from, {.follow_last = follow});
    if (!at.ok()) return Answer(at);
    return Answer(Vfs::Link(*at, walk_, to));
  }
  std::string Rename(const std::string& from, const std::string& to, uint32_t flags) override {
    return Answer(Vfs::Rename(walk_, from, walk_, to, flags));
  }
  std::string Mknod(const std::string& path, uint32_t mode) override {
    return Answer(Vfs::Mknod(walk_, path, mode, 0));
  }
  std::string Open(const std::string& path, uint32_t flags, uint32_t mode,
                   const std::string& data) override {
    Result<Ref<File>> file = Vfs::Open(walk_, path, flags, mode, nullptr);
    if (!file.ok()) return Answer(file);
    std::string out = "ok";
    if ((*file)->writable() && !data.empty()) {
      SpanSrc src(std::as_bytes(std::span(data)));
      uint64_t pos = 0;
      const Result<size_t> n = (*file)->Write(src, &pos, 0);
      out += n.ok() ? " wrote " + std::to_string(*n) : " write " + Answer(n);
    }
    if ((*file)->readable()) {
      char buffer[100];
      SpanDst dst(std::as_writable_bytes(std::span(buffer)));
      const Result<size_t> n = (*file)->Read(dst, 0, 0);
      out += n.ok() ? " read " + std::string(buffer, *n) : " read " + Answer(n);
    }
    return out;
  }
  std::string Stat(const std::string& path, bool follow) override {
    const Result<Path> at = Vfs::Lookup(walk_, path, {.follow_last = follow});
    if (!at.ok()) return Answer(at);
    const Result<Attr> a = Vfs::Stat(*at);
    if (!a.ok()) return Answer(a);
    char text[200];
    snprintf(text, sizeof(text), "ok mode %o nlink %u uid %u size %lu", a->mode, a->nlink, a->uid,
             static_cast<unsigned long>(a->size));
    return text;
  }
  std::string ReadLink(const std::string& path) override {
    const Result<Path> at = Vfs::Lookup(walk_, path, {.follow_last = false});
    if (!at.ok()) return Answer(at);
    const Result<std::string> target = Vfs::ReadLink(*at);
    return target.ok() ? "ok " + *target : Answer(target);
  }
  std::string Truncate(const std::string& path, uint64_t size) override {
    const Result<Path> at = Vfs::Lookup(walk_, path, {});
    return at.ok() ? Answer(Vfs::Truncate(creds_, *at, size)) : Answer(at);
  }
  std::string Chmod(const std::string& path, uint32_t mode) override {
    const Result<Path> at = Vfs::Lookup(walk_, path, {});
    return at.ok() ? Answer(Vfs::Chmod(creds_, *at, mode)) : Answer(at);
  }
  std::string SetXattr(const std::string& path, const std::string& name, const std::string& value,
                       int flags) override {
    const Result<Path> at = Vfs::Lookup(walk_, path, {.follow_last = false});
    return at.ok() ? Answer(Vfs::SetXattr(creds_, *at, name, value, flags)) : Answer(at);
  }
  std::string GetXattr(const std::string& path, const std::string& name) override {
    const Result<Path> at = Vfs::Lookup(walk_, path, {.follow_last = false});
    if (!at.ok()) return Answer(at);
    const Result<std::string> value = Vfs::GetXattr(creds_, *at, name);
    return value.ok() ? "ok " + *value : Answer(value);
  }
  std::string List(const std::string& path) override {
    const Result<Ref<File>> dir = Vfs::Open(walk_, path, O_RDONLY | O_DIRECTORY, 0, nullptr);
    if (!dir.ok()) return Answer(dir);
    Collect all;
    size_t before;
    do {
      before = all.names.size();
      all.room = 3;  // small buffers, so that offsets are used
      MutexLock lock((*dir)->offset_lock());
      const Result<void> r = (*dir)->ReadDir(all);
      if (!r.ok()) return Answer(r);
    } while (all.names.size() != before);
    std::sort(all.names.begin(), all.names.end());
    std::string out = "ok";
    for (const std::string& n : all.names) out += " " + n;
    return out;
  }

 private:
  const Credentials& creds_;
  const Path root_;
  const Walk walk_;
};

}  // namespace

std::unique_ptr<Ops> MakeVfsOps(MountNamespace& mounts, const Credentials& creds) {
  return std::make_unique<VfsOps>(mounts, creds);
}

}  // namespace ringwall::testing
