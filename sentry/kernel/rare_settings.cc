#include "sentry/kernel/rare_settings.h"

#include <atomic>
#include <map>

#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

template <typename Key, typename Value>
class Beside {
 public:
  Value Get(const Key& key, Value missing) const {
    if (count_.load() == 0) return missing;
    return values_.With([&](const Map& map) {
      const auto it = map.find(&key);
      return it == map.end() ? missing : it->second;
    });
  }
  void Set(const Key& key, const Value& value) {
    values_.With([&](Map& map) {
      map[&key] = value;
      count_.store(map.size());
    });
  }
  void Inherit(const Key& from, const Key& to) {
    if (count_.load() == 0) return;
    values_.With([&](Map& map) {
      map.erase(&to);
      if (const auto it = map.find(&from); it != map.end()) map[&to] = Value(it->second);
      count_.store(map.size());
    });
  }
  void Forget(const Key& key) {
    if (count_.load() == 0) return;
    values_.With([&](Map& map) {
      map.erase(&key);
      count_.store(map.size());
    });
  }

 private:
  using Map = std::map<const Key*, Value>;
  Guarded<Map, LockClass::kLeaf> values_;
  std::atomic<size_t> count_{0};
};

Beside<Task, Login>& Logins() {
  static auto& logins = *new Beside<Task, Login>;
  return logins;
}

Beside<ThreadGroup, int>& LeastAdjs() {
  static auto& least = *new Beside<ThreadGroup, int>;
  return least;
}

}  // namespace

Login LoginOf(const Task& t) { return Logins().Get(t, {}); }
void SetLogin(const Task& t, const Login& login) { Logins().Set(t, login); }

int LeastOomScoreAdj(const ThreadGroup& tg) { return LeastAdjs().Get(tg, 0); }
void SetLeastOomScoreAdj(const ThreadGroup& tg, int value) { LeastAdjs().Set(tg, value); }

void InheritRareSettings(const Task& from, const Task& to) {
  Logins().Inherit(from, to);
  if (&from.tg() != &to.tg()) LeastAdjs().Inherit(from.tg(), to.tg());
}
void ForgetRareSettings(const Task& t) { Logins().Forget(t); }
void ForgetRareSettings(const ThreadGroup& tg) { LeastAdjs().Forget(tg); }

}  // namespace ringwall
