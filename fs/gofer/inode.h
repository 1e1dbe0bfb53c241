// GoferInode: one host file.
#ifndef RINGWALL_FS_GOFER_INODE_H_
#define RINGWALL_FS_GOFER_INODE_H_

#include <memory>

#include "fs/gofer/gofer.h"
#include "fs/vfs/file.h"
#include "sentry/base/mutex.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// A donated descriptor, kept by the inode and by every File that uses it.
class DonatedFd : public RefCounted<DonatedFd> {
 public:
  explicit DonatedFd(UniqueFd fd) : fd_(std::move(fd)) {}
  int get() const { return fd_.get(); }

 private:
  const UniqueFd fd_;
};

class GoferInode final : public Inode {
 public:
  GoferInode(GoferFileSystem& fs, gofer::GoferHandle handle, const gofer::Attr& attr);

  Result<Attr> GetAttr() override;
  Result<void> Set(const SetAttr& attr) override;
  Caching caching() const override {
    return gofer_fs().exclusive() ? Caching::kForever : Caching::kRevalidate;
  }
  Result<Ref<Inode>> Lookup(std::string_view name) override;
  Result<Ref<Inode>> Create(std::string_view name, const NewInode& args) override;
  Result<Ref<Inode>> Mkdir(std::string_view name, const NewInode& args) override;
  Result<Ref<Inode>> Mknod(std::string_view name, const NewInode& args) override;
  Result<Ref<Inode>> Symlink(std::string_view name, std::string_view target,
                             const NewInode& args) override;
  Result<void> Link(std::string_view name, Inode& target) override;
  Result<void> Unlink(std::string_view name, Inode& child) override;
  Result<void> Rmdir(std::string_view name, Inode& child) override;
  Result<void> Rename(std::string_view name, Inode& child, Inode& new_dir,
                      std::string_view new_name, Inode* replaced, uint32_t flags) override;
  Result<Ref<Inode>> TmpFile(const NewInode& args) override;
  Result<std::string> ReadLink() override;
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;

  GoferFileSystem& gofer_fs() const { return static_cast<GoferFileSystem&>(fs()); }
  gofer::GoferClient& client() const { return gofer_fs().client(); }
  const gofer::GoferHandle& handle() const { return handle_; }

  // The descriptor for reading, or with `write` for both; asked for once in exclusive mode.
  Result<Ref<DonatedFd>> Donated(bool write);
  // After a write through a donated descriptor: sizes and times are the host's to tell.
  void Forget();

 private:
  void Remember(const gofer::Attr& attr);

  const gofer::GoferHandle handle_;
  mutable Mutex<LockClass::kInode> mu_;
  bool valid_ GUARDED_BY(mu_) = false;
  Attr attr_ GUARDED_BY(mu_);
  RefPtr<DonatedFd> reader_ GUARDED_BY(mu_), writer_ GUARDED_BY(mu_);
  std::string target_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_FS_GOFER_INODE_H_
