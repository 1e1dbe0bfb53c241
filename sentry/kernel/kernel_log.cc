#include "sentry/kernel/kernel_log.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstdio>

namespace ringwall {

KernelLog& KernelLog::Get() {
  static KernelLog& log = *new KernelLog;  // lives to the end, like the tasks that write to it
  return log;
}

void KernelLog::Append(Level level, uint64_t time_ns, std::string_view text) {
  char head[40];
  const int n = snprintf(head, sizeof(head), "<%d>[%5llu.%06llu] ", level,
                         static_cast<unsigned long long>(time_ns / 1'000'000'000),
                         static_cast<unsigned long long>(time_ns / 1000 % 1'000'000));
  std::string line(head, static_cast<size_t>(n));
  for (const char c : text) line += c == '\n' ? ' ' : c;
  line += '\n';
  {
    MutexLock lock(mu_);
    size_ += line.size();
    lines_.push_back(std::move(line));
    while (size_ > kBufferSize) {
      size_ -= lines_.front().size();
      lines_.pop_front();
      if (next_read_ == first_++) read_bytes_ = 0;
      next_read_ = std::max(next_read_, first_);
      cleared_ = std::max(cleared_, first_);
    }
  }
  queue_.Notify(EPOLLIN);
}

std::string KernelLog::Take(size_t limit) {
  std::string out;
  MutexLock lock(mu_);
  while (next_read_ - first_ < lines_.size() && out.size() < limit) {
    const std::string& line = lines_[next_read_ - first_];
    const size_t n = std::min(line.size() - read_bytes_, limit - out.size());
    // A line is cut only when nothing is ahead of it.
    if (n < line.size() - read_bytes_ && !out.empty()) break;
    out.append(line, read_bytes_, n);
    read_bytes_ += n;
    if (read_bytes_ < line.size()) break;
    read_bytes_ = 0;
    next_read_++;
  }
  return out;
}

size_t KernelLog::Unread() const {
  MutexLock lock(mu_);
  size_t n = 0;
  for (uint64_t i = next_read_ - first_; i < lines_.size(); i++) n += lines_[i].size();
  return n - std::min(n, read_bytes_);
}

std::string KernelLog::Tail(size_t limit) const {
  MutexLock lock(mu_);
  uint64_t from = lines_.size();
  size_t n = 0;
  while (from > cleared_ - first_ && n + lines_[from - 1].size() <= limit) n += lines_[--from].size();
  std::string out;
  out.reserve(n);
  for (; from < lines_.size(); from++) out += lines_[from];
  return out;
}

void KernelLog::Clear() {
  MutexLock lock(mu_);
  cleared_ = first_ + lines_.size();
}

}  // namespace ringwall
