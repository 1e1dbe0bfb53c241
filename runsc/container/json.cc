#include "runsc/container/json.h"

#include <stdio.h>

namespace ringwall {
namespace {

std::string Join(const std::vector<std::string>& parts, char open, char close) {
  std::string out(1, open);
  for (size_t i = 0; i < parts.size(); i++) {
    if (i > 0) out += ',';
    out += parts[i];
  }
  return out + close;
}

}  // namespace

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      char escape[8];
      snprintf(escape, sizeof(escape), "\\u%04x", byte);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string JsonList(const std::vector<std::string>& values) { return Join(values, '[', ']'); }

std::string JsonObject::Text() const { return Join(members_, '{', '}'); }

}  // namespace ringwall
