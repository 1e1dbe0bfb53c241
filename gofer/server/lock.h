// ServerMutex: the gofer's lock, with nothing below it but futex(2). The Sentry's Mutex will not do
// here: Abseil's, once contended, reads files, measures the processor's clock and asks for the
// thread's priority, which the gofer's filter does not allow. No two are ever held together, so they
// have no place in the lock order. Checked by clang as Mutex is.
#ifndef RINGWALL_GOFER_SERVER_LOCK_H_
#define RINGWALL_GOFER_SERVER_LOCK_H_

#include <condition_variable>
#include <mutex>

#include "sentry/base/mutex.h"

namespace ringwall::gofer {

class ABSL_LOCKABLE ServerMutex {
 private:
  friend class ServerLock;
  std::mutex mu_;
};

class ABSL_SCOPED_LOCKABLE ServerLock {
 public:
  explicit ServerLock(ServerMutex& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : lock_(mu.mu_) {}
  ~ServerLock() ABSL_UNLOCK_FUNCTION() {}
  ServerLock(const ServerLock&) = delete;
  ServerLock& operator=(const ServerLock&) = delete;
  // Waits for a notification of `changed`, without the lock.
  void Wait(std::condition_variable& changed) { changed.wait(lock_); }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_SERVER_LOCK_H_
