// OneReader: one reader takes bytes of a stream at a time, so that no lock is held while they are
// copied to guest memory. Compare Linux's lock_sock() and unix_sock::iolock.
#ifndef RINGWALL_FS_SOCKET_ONE_READER_H_
#define RINGWALL_FS_SOCKET_ONE_READER_H_

#include "sentry/base/mutex.h"

namespace ringwall {

// Thread-safe.
class OneReader {
 public:
  // Waits until nobody else reads; until its end nobody else does.
  class Turn {
   public:
    explicit Turn(OneReader& reader) : reader_(reader) {
      MutexLock lock(reader.mu_);
      while (reader.busy_) reader.left_.Wait(reader.mu_);
      reader.busy_ = true;
    }
    ~Turn() {
      MutexLock lock(reader_.mu_);
      reader_.busy_ = false;
      reader_.left_.Signal();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    OneReader& reader_;
  };

 private:
  Mutex<LockClass::kLeaf> mu_;
  CondVar left_;
  bool busy_ GUARDED_BY(mu_) = false;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_SOCKET_ONE_READER_H_
