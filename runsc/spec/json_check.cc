#include "runsc/spec/json_check.h"

#include <google/protobuf/descriptor.h>

#include <charconv>
#include <cstdint>

#include "sentry/base/result.h"

namespace ringwall {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr int kMaxDepth = 64;

class Checker {
 public:
  explicit Checker(std::string_view text) : text_(text) {}

  HostResult<void> Run(const Descriptor& type) {
    TRY(Message(type, ""));
    SkipSpace();
    if (at_ != text_.size()) return Error("", "expected the end of the file", true);
    return {};
  }

  std::vector<UnknownField> TakeUnknown() { return std::move(unknown_); }

 private:
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void SkipSpace() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n') line_++;
      if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
      at_++;
    }
  }

  // What stands here, for "found ...".
  std::string Found() {
    SkipSpace();
    if (at_ >= text_.size()) return "the end of the file";
    const char c = Peek();
    if (c == '{') return "an object";
    if (c == '[') return "a list";
    if (c == '"') return "a string";
    if (c == '-' || (c >= '0' && c <= '9')) return "a number";
    if (text_.substr(at_, 4) == "true" || text_.substr(at_, 5) == "false") return "true or false";
    if (text_.substr(at_, 4) == "null") return "null";
    if (c < 0x20 || c > 0x7e) return "a stray byte";
    return std::string("'") + c + "'";
  }

  HostError Error(const std::string& path, const std::string& what, bool found) {
    const std::string here = found ? Found() : "";
    std::string message = "line " + std::to_string(line_) + ": ";
    if (!path.empty()) message += path + ": ";
    message += what;
    if (found) message += ", found " + here;
    return HostError::Message(message);
  }

  bool Take(char c) {
    SkipSpace();
    if (Peek() != c) return false;
    at_++;
    return true;
  }

  bool TakeWord(std::string_view word) {
    SkipSpace();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  // A string; `out` gets its characters with escapes left as they are, enough for field names.
  HostResult<void> String(const std::string& path, std::string* out) {
    if (!Take('"')) return Error(path, "expected a string", true);
    const size_t start = at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      const unsigned char c = static_cast<unsigned char>(text_[at_]);
      if (c < 0x20) return Error(path, "a control character inside a string", false);
      if (c != '\\') {
        at_++;
        continue;
      }
      at_++;
      const char escape = Peek();
      if (escape == 'u') {
        for (size_t i = 1; i <= 4; i++) {
          if (at_ + i >= text_.size() || !isxdigit(static_cast<unsigned char>(text_[at_ + i]))) {
            return Error(path, "\\u needs four hexadecimal digits", false);
          }
        }
        at_ += 5;
      } else if (escape != '\0' && std::string_view("\"\\/bfnrt").find(escape) != std::string_view::npos) {
        at_++;
      } else {
        return Error(path, "an unknown escape inside a string", false);
      }
    }
    if (at_ >= text_.size()) return Error(path, "a string without its end", false);
    if (out != nullptr) *out = text_.substr(start, at_ - start);
    at_++;
    return {};
  }

  // A number in JSON's grammar; `token` gets its text.
  HostResult<void> Number(const std::string& path, std::string_view* token) {
    SkipSpace();
    const size_t start = at_;
    const auto digits = [&] {
      const size_t first = at_;
      while (Peek() >= '0' && Peek() <= '9') at_++;
      return at_ > first;
    };
    if (Peek() == '-') at_++;
    const bool zero = Peek() == '0';
    const size_t integer = at_;
    bool ok = digits() && !(zero && at_ > integer + 1);
    if (ok && Peek() == '.') {
      at_++;
      ok = digits();
    }
    if (ok && (Peek() == 'e' || Peek() == 'E')) {
      at_++;
      if (Peek() == '+' || Peek() == '-') at_++;
      ok = digits();
    }
    if (!ok) {
      at_ = start;
      return Error(path, "expected a number", true);
    }
    if (token != nullptr) *token = text_.substr(start, at_ - start);
    return {};
  }

  HostResult<void> Any(const std::string& path) {
    SkipSpace();
    switch (Peek()) {
      case '{':
        return Object(path, [&](const std::string& name) { return Any(path + "." + name); });
      case '[':
        return List(path, [&](const std::string& element) { return Any(element); });
      case '"':
        return String(path, nullptr);
      default:
        if (TakeWord("true") || TakeWord("false") || TakeWord("null")) return {};
        return Number(path, nullptr);
    }
  }

  template <typename F>
  HostResult<void> Object(const std::string& path, F&& member) {
    if (!Take('{')) return Error(path, "expected an object", true);
    if (++depth_ > kMaxDepth) return Error(path, "nested too deep", false);
    if (!Take('}')) {
      do {
        std::string name;
        SkipSpace();
        if (Peek() != '"') return Error(path, "expected a field's name in quotes", true);
        TRY(String(path, &name));
        if (!Take(':')) return Error(Join(path, name), "expected ':' after the name", true);
        TRY(member(name));
      } while (Take(','));
      if (!Take('}')) return Error(path, "expected ',' or '}'", true);
    }
    depth_--;
    return {};
  }

  template <typename F>
  HostResult<void> List(const std::string& path, F&& element) {
    if (!Take('[')) return Error(path, "expected a list", true);
    if (++depth_ > kMaxDepth) return Error(path, "nested too deep", false);
    if (!Take(']')) {
      size_t index = 0;
      do {
        TRY(element(path + "[" + std::to_string(index++) + "]"));
      } while (Take(','));
      if (!Take(']')) return Error(path, "expected ',' or ']'", true);
    }
    depth_--;
    return {};
  }

  static std::string Join(const std::string& path, const std::string& name) {
    return path.empty() ? name : path + "." + name;
  }

  HostResult<void> Message(const Descriptor& type, const std::string& path) {
    return Object(path, [&](const std::string& name) -> HostResult<void> {
      const std::string field_path = Join(path, name);
      for (int i = 0; i < type.field_count(); i++) {
        if (type.field(i)->json_name() == name) return Field(*type.field(i), field_path);
      }
      unknown_.push_back({field_path, line_});
      return Any(field_path);
    });
  }

  HostResult<void> Field(const FieldDescriptor& field, const std::string& path) {
    if (TakeWord("null")) return {};  // as if it were not there
    if (field.is_map()) {
      const FieldDescriptor& value = *field.message_type()->map_value();
      return Object(path, [&](const std::string& name) { return Value(value, path + "." + name); });
    }
    if (field.is_repeated()) {
      return List(path, [&](const std::string& element) { return Value(field, element); });
    }
    return Value(field, path);
  }

  template <typename T>
  HostResult<void> Integer(const std::string& path, T) {
    std::string_view token;
    SkipSpace();
    const size_t start = at_;
    TRY(Number(path, &token));
    T value;
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
    if (error == std::errc() && end == token.data() + token.size()) return {};
    at_ = start;
    return Error(path,
                 std::string("expected a whole number ") +
                     (std::is_signed_v<T> ? "of " : "of 0 or more in ") +
                     std::to_string(sizeof(T) * 8) + " bits, found " + std::string(token),
                 false);
  }

  HostResult<void> Value(const FieldDescriptor& field, const std::string& path) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Message(*field.message_type(), path);
      case FieldDescriptor::CPPTYPE_STRING:
        return String(path, nullptr);
      case FieldDescriptor::CPPTYPE_BOOL:
        if (TakeWord("true") || TakeWord("false")) return {};
        return Error(path, "expected true or false", true);
      case FieldDescriptor::CPPTYPE_INT32:
        return Integer(path, int32_t{});
      case FieldDescriptor::CPPTYPE_INT64:
        return Integer(path, int64_t{});
      case FieldDescriptor::CPPTYPE_UINT32:
        return Integer(path, uint32_t{});
      case FieldDescriptor::CPPTYPE_UINT64:
        return Integer(path, uint64_t{});
      default:
        return Number(path, nullptr);
    }
  }

  const std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  int depth_ = 0;
  std::vector<UnknownField> unknown_;
};

}  // namespace

HostResult<std::vector<UnknownField>> CheckJson(std::string_view text, const Descriptor& type) {
  Checker checker(text);
  TRY(checker.Run(type));
  return checker.TakeUnknown();
}

}  // namespace ringwall
