#include "sentry/loader/script.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace ringwall {

namespace {
constexpr std::string_view kBlank = " \t";
constexpr std::string_view kTerminator("\0 \t", 3);
}  // namespace

bool IsScript(std::span<const std::byte> file_start) {
  return file_start.size() >= 2 && file_start[0] == std::byte{'#'} &&
         file_start[1] == std::byte{'!'};
}

Result<Script> ParseScript(std::span<const std::byte> file_start) {
  if (!IsScript(file_start)) return Errno(ENOEXEC);
  // Linux looks at a buffer with zeros behind a short file; its last byte is never text.
  std::array<char, kExecHeadSize> buffer = {};
  memcpy(buffer.data(), file_start.data(), std::min(file_start.size(), buffer.size()));
  std::string_view line(buffer.data() + 2, buffer.size() - 3);
  const size_t newline = line.find('\n');
  if (newline != std::string_view::npos) {
    line = line.substr(0, newline);
  } else {
    // Without an end of the line the interpreter's name must end within the buffer.
    const size_t name = line.find_first_not_of(kBlank);
    if (name == std::string_view::npos) return Errno(ENOEXEC);
    if (line.find_first_of(kTerminator, name) == std::string_view::npos) return Errno(ENOEXEC);
  }
  const size_t last = line.find_last_not_of(kBlank);
  line = line.substr(0, last == std::string_view::npos ? 0 : last + 1);
  const size_t begin = line.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return Errno(ENOEXEC);
  line.remove_prefix(begin);
  const size_t end = line.find_first_of(kTerminator);
  Script script{.interpreter = std::string(line.substr(0, end))};
  if (end != std::string_view::npos && line[end] != '\0') {
    std::string_view rest = line.substr(end);
    rest.remove_prefix(std::min(rest.find_first_not_of(kBlank), rest.size()));
    rest = rest.substr(0, rest.find('\0'));
    if (!rest.empty()) script.argument = std::string(rest);
  }
  return script;
}

}  // namespace ringwall
