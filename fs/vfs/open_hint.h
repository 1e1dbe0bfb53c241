// While one lives, what this thread looks up is about to be opened for reading: a file system for which
// both are a request to somebody else may make one of them. Only a hint: whether the caller may open
// what it finds is decided afterwards.
#ifndef RINGWALL_FS_VFS_OPEN_HINT_H_
#define RINGWALL_FS_VFS_OPEN_HINT_H_

#include <utility>

namespace ringwall {

class OpenHint {
 public:
  explicit OpenHint(bool reading) : before_(std::exchange(reading_, reading)) {}
  ~OpenHint() { reading_ = before_; }
  OpenHint(const OpenHint&) = delete;
  OpenHint& operator=(const OpenHint&) = delete;

  static bool reading() { return reading_; }

 private:
  static inline thread_local bool reading_ = false;
  const bool before_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_OPEN_HINT_H_
