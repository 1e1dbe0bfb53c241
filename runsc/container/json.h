// Writes the little JSON that commands print. Reading is Protobuf's affair (runsc/spec).
#ifndef RINGWALL_RUNSC_CONTAINER_JSON_H_
#define RINGWALL_RUNSC_CONTAINER_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ringwall {

std::string JsonString(std::string_view text);
std::string JsonList(const std::vector<std::string>& values);  // of values that are JSON already

class JsonObject {
 public:
  void Add(std::string_view name, std::string_view value) { AddRaw(name, JsonString(value)); }
  void AddNumber(std::string_view name, int64_t value) { AddRaw(name, std::to_string(value)); }
  void AddBool(std::string_view name, bool value) { AddRaw(name, value ? "true" : "false"); }
  void AddRaw(std::string_view name, const std::string& json) {
    members_.push_back(JsonString(name) + ":" + json);
  }
  std::string Text() const;

 private:
  std::vector<std::string> members_;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CONTAINER_JSON_H_
