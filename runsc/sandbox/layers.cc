#include "runsc/sandbox/layers.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "sentry/base/log.h"

namespace ringwall {
namespace {

constexpr const char* kNames[] = {
    "user namespace", "pid namespace",     "mount namespace",  "network namespace",
    "ipc namespace",  "uts namespace",     "cgroup namespace", "empty root",
    "unprivileged user", "no capabilities", "no_new_privs",    "limits",
    "seccomp filter"};
static_assert(sizeof(kNames) / sizeof(kNames[0]) == kLayerCount);

std::string Reason(int error) {
  return error == 0 ? "not tried" : strerrordesc_np(error) != nullptr ? strerrordesc_np(error) : "?";
}

}  // namespace

const char* LayerName(Layer layer) { return kNames[static_cast<size_t>(layer)]; }

bool Layers::all_held() const {
  return std::all_of(errors_.begin(), errors_.end(), [](int e) { return e == kHeld; });
}

std::string Layers::Missing() const {
  std::string out;
  for (size_t i = 0; i < kLayerCount; i++) {
    if (errors_[i] == kHeld) continue;
    if (!out.empty()) out += ", ";
    out += std::string(kNames[i]) + " (" + Reason(errors_[i]) + ")";
  }
  return out;
}

void Layers::Log(const char* process) const {
  if (!LogEnabled(LogLevel::kDebug)) return;
  for (size_t i = 0; i < kLayerCount; i++) {
    if (errors_[i] == kHeld) {
      RW_LOG(kDebug, "%s: layer holds: %s", process, kNames[i]);
    } else {
      RW_LOG(kDebug, "%s: layer MISSING: %s: %s", process, kNames[i], Reason(errors_[i]).c_str());
    }
  }
}

std::string Layers::ToText() const {
  std::string out;
  for (const int error : errors_) out += std::to_string(error) + " ";
  return out;
}

Layers Layers::FromText(const std::string& text) {
  Layers layers;
  const char* at = text.c_str();
  for (int& error : layers.errors_) {
    char* end = nullptr;
    error = static_cast<int>(strtol(at, &end, 10));
    at = end;
  }
  return layers;
}

}  // namespace ringwall
