// libFuzzer: any bytes as a POSIX access control list. What is taken comes back as it was, and no mode
// and no list gives more than both say.
#include "fs/vfs/acl.h"
#include "sentry/base/check.h"

using namespace ringwall;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const uint32_t mode = static_cast<uint32_t>(data[0] | data[1] << 8) & 07777, want = data[2] & 7u;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  const UserNamespace& ns = UserNamespace::Initial();
  const Result<std::optional<PosixAcl>> parsed = PosixAcl::Parse(bytes, ns);
  if (!parsed.ok() || !*parsed) return 0;
  const std::string text = (*parsed)->Serialize(ns);
  RW_CHECK(text.size() == bytes.size());
  const Result<std::optional<PosixAcl>> again = PosixAcl::Parse(text, ns);
  RW_CHECK(again.ok() && *again && (*again)->Serialize(ns) == text);

  const Ref<const Credentials> creds = Credentials::Root();
  static_cast<void>((*parsed)->Allows(*creds, data[0], data[1], want));
  PosixAcl masked = **parsed;
  uint32_t left = mode;
  masked.Mask(&left);
  RW_CHECK((left & ~mode) == 0);
  PosixAcl taken = **parsed;
  taken.TakeMode(mode);
  uint32_t shown = 0;
  taken.ToMode(&shown);
  RW_CHECK(shown == (mode & 0777));
  return 0;
}
