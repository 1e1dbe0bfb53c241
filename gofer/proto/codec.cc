// What a name and an attribute must look like, whoever sent them.
#include "gofer/proto/codec.h"

#include <sys/stat.h>

#include <initializer_list>

namespace ringwall::gofer {

int CheckName(std::string_view text) {
  if (text.empty() || text == "." || text == "..") return EINVAL;
  if (text.size() > kMaxNameLength) return ENAMETOOLONG;
  if (std::memchr(text.data(), '/', text.size()) != nullptr) return EINVAL;
  if (std::memchr(text.data(), '\0', text.size()) != nullptr) return EINVAL;
  return 0;
}

Result<Name> Name::Make(std::string_view text) {
  if (const int error = CheckName(text); error != 0) return Errno(error);
  Name name;
  std::memcpy(name.text_, text.data(), text.size());
  name.text_[text.size()] = '\0';
  name.size_ = static_cast<uint16_t>(text.size());
  return name;
}

Result<Name> Reader::ReadName(size_t size) {
  const std::string_view text = TRY(ReadBytes(size));
  return Name::Make(text);
}

bool AttrIsSane(const Attr& attr) {
  switch (attr.mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
    case S_IFBLK:
      break;
    default:
      return false;
  }
  if ((attr.mode & ~(S_IFMT | 07777u)) != 0) return false;
  if (attr.size > INT64_MAX || attr.blocks > INT64_MAX) return false;
  for (const Time& time : {attr.atime, attr.mtime, attr.ctime, attr.btime}) {
    if (time.nsec >= 1000000000) return false;
  }
  return true;
}

}  // namespace ringwall::gofer
