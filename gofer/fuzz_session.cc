// libFuzzer: requests as a taken-over Sentry could send them, one after the other, to a session
// over a small directory. Input: a byte that says how many bytes follow as a request's operation
// and body, again and again.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "gofer/server/session.h"

namespace {

using namespace ringwall;
using namespace ringwall::gofer;

// Made once; requests change it as they may.
const std::string& Dir() {
  static const std::string dir = [] {
    char path[] = "/tmp/gofer_fuzz.XXXXXX";
    std::string made = ::mkdtemp(path);
    ::mkdir((made + "/d").c_str(), 0755);
    UniqueFd(::open((made + "/d/f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    static std::string to_remove;
    to_remove = "rm -rf " + made;
    ::atexit([] {
      if (::system(to_remove.c_str()) != 0) ::abort();
    });
    return made;
  }();
  return dir;
}

// A small number where a handle stands becomes the handle of that slot, so that most requests get
// past the table.
void FixHandle(std::span<uint8_t> body) {
  uint64_t value;
  if (body.size() < sizeof(value)) return;
  std::memcpy(&value, body.data(), sizeof(value));
  if ((value & 0xff) >= 16) return;
  value = uint64_t{1} << 32 | (value & 0xff);
  std::memcpy(body.data(), &value, sizeof(value));
}

std::vector<uint8_t> Request(Op op, std::span<const uint8_t> body) {
  std::vector<uint8_t> bytes(sizeof(RequestHeader) + body.size());
  Writer out(bytes);
  out.Put(
      RequestHeader{.size = static_cast<uint32_t>(bytes.size()), .op = static_cast<uint16_t>(op)});
  std::copy(body.begin(), body.end(), bytes.begin() + sizeof(RequestHeader));
  const std::span<uint8_t> copy = std::span(bytes).subspan(sizeof(RequestHeader));
  if (op != Op::kAttach && op != Op::kHello) FixHandle(copy);
  if ((op == Op::kRename || op == Op::kLink) && copy.size() > 8) FixHandle(copy.subspan(8));
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  SessionOptions options;
  options.max_handles = 16;
  for (const bool read_only : {false, true}) {
    options.roots.push_back({.fd = UniqueFd(::open(Dir().c_str(), O_PATH | O_CLOEXEC)),
                             .read_only = read_only,
                             .open_fifos = true,
                             .connect_sockets = true,
                             .bind_sockets = true});
  }
  Session session(std::move(options));
  static std::vector<uint8_t> room(kMaxMessage), scratch(kScratchSize);
  auto send = [&](const std::vector<uint8_t>& request) {
    Descriptors fds;
    const size_t reply = session.Handle(request, room, scratch, &fds);
    if (reply > room.size()) ::abort();
  };
  // Handles 1<<32 and 1<<32|1: both roots.
  for (const uint8_t root : {0, 1})
    send(Request(Op::kAttach, std::vector<uint8_t>{root, 0, 0, 0, 0, 0, 0, 0}));
  std::span<const uint8_t> input(data, size);
  while (input.size() >= 2) {
    const size_t length = std::min<size_t>(input[0], input.size() - 2);
    send(Request(static_cast<Op>(input[1] % 27), input.subspan(2, length)));
    input = input.subspan(2 + length);
  }
  if (session.handles_for_test().size() > 16) ::abort();
  return 0;
}
