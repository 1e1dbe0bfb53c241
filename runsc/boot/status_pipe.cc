// StatusPipe: records of at most PIPE_BUF bytes, so that each is one atomic write.
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "runsc/boot/boot.h"
#include "sentry/base/log.h"

namespace ringwall {
namespace {

struct Header {
  uint8_t kind;
  uint8_t exit_code;
  uint16_t text_size;
};
static_assert(sizeof(Header) == 4);
constexpr size_t kTextMax = 1024;
static_assert(sizeof(Header) + kTextMax <= PIPE_BUF);

// True when all of `size` bytes came.
bool ReadAll(int fd, void* buffer, size_t size) {
  char* at = static_cast<char*>(buffer);
  while (size > 0) {
    const ssize_t n = RetryEintr([&] { return ::read(fd, at, size); });
    if (n <= 0) return false;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

void StatusPipe::Send(Message::Kind kind, int exit_code, const char* text) {
  if (fd_ < 0) return;
  char record[sizeof(Header) + kTextMax];
  const size_t text_size = std::min(strlen(text), kTextMax);
  const Header header{static_cast<uint8_t>(kind), static_cast<uint8_t>(exit_code),
                      static_cast<uint16_t>(text_size)};
  memcpy(record, &header, sizeof(header));
  memcpy(record + sizeof(header), text, text_size);
  [[maybe_unused]] const ssize_t n = ::write(fd_, record, sizeof(header) + text_size);
}

void StatusPipe::Ready() { Send(Message::Kind::kReady, 0, ""); }

void StatusPipe::Started() { Send(Message::Kind::kStarted, 0, ""); }

void StatusPipe::Fail(int exit_code, const char* text) {
  RW_LOG(kError, "%s", text);
  Send(Message::Kind::kFail, exit_code, text);
}

std::optional<StatusPipe::Message> StatusPipe::Read(int fd) {
  Header header;
  if (!ReadAll(fd, &header, sizeof(header))) return std::nullopt;
  if (header.kind < 1 || header.kind > 3 || header.text_size > kTextMax) return std::nullopt;
  Message message{static_cast<Message::Kind>(header.kind), header.exit_code, {}};
  message.text.resize(header.text_size);
  if (!ReadAll(fd, message.text.data(), message.text.size())) return std::nullopt;
  return message;
}

}  // namespace ringwall
