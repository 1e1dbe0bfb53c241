// The layers of isolation around a process of the sandbox, and whether each holds on this host.
// `--debug` logs them, `runsc features` prints them, `--strict` refuses to go on without one.
#ifndef RINGWALL_RUNSC_SANDBOX_LAYERS_H_
#define RINGWALL_RUNSC_SANDBOX_LAYERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace ringwall {

enum class Layer : uint8_t {
  kUserNamespace,
  kPidNamespace,
  kMountNamespace,
  kNetNamespace,
  kIpcNamespace,
  kUtsNamespace,
  kCgroupNamespace,
  kEmptyRoot,
  kUnprivilegedUser,
  kNoCapabilities,
  kNoNewPrivs,
  kLimits,
  kSeccomp,
};
inline constexpr size_t kLayerCount = 13;

const char* LayerName(Layer layer);

class Layers {
 public:
  void Hold(Layer layer) { errors_[Index(layer)] = kHeld; }
  // `error` is the errno of what failed.
  void Miss(Layer layer, int error) { errors_[Index(layer)] = error; }
  void Note(bool held, Layer layer, int error) { held ? Hold(layer) : Miss(layer, error); }
  bool held(Layer layer) const { return errors_[Index(layer)] == kHeld; }
  int error(Layer layer) const { return errors_[Index(layer)]; }
  bool all_held() const;
  // "no user namespace (Operation not permitted), no empty root (...)"; empty when all hold.
  std::string Missing() const;
  void Log(const char* process) const;
  // Over a pipe as text and back.
  std::string ToText() const;
  static Layers FromText(const std::string& text);

 private:
  static constexpr int kHeld = -1;
  static size_t Index(Layer layer) { return static_cast<size_t>(layer); }
  std::array<int, kLayerCount> errors_ = {};  // 0: not tried
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_LAYERS_H_
