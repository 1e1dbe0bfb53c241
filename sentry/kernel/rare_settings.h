// Settings that few tasks ever have, kept beside them. They are inherited by fork and clone and go with
// the task or the process. Thread-safe; leaves as to locks. Costs nothing while nobody has one.
#ifndef RINGWALL_SENTRY_KERNEL_RARE_SETTINGS_H_
#define RINGWALL_SENTRY_KERNEL_RARE_SETTINGS_H_

#include <cstdint>

namespace ringwall {

class Task;
class ThreadGroup;

inline constexpr uint32_t kNoLogin = ~uint32_t{0};

// The audit subsystem's loginuid and sessionid of a task.
struct Login {
  uint32_t uid = kNoLogin, session = kNoLogin;
};
Login LoginOf(const Task& t);
void SetLogin(const Task& t, const Login& login);

// The least oom_score_adj that somebody with CAP_SYS_RESOURCE has set, to which others may come back.
int LeastOomScoreAdj(const ThreadGroup& tg);
void SetLeastOomScoreAdj(const ThreadGroup& tg, int value);

// A new task, with a process of its own if they differ.
void InheritRareSettings(const Task& from, const Task& to);
// The task, or the process, is gone.
void ForgetRareSettings(const Task& t);
void ForgetRareSettings(const ThreadGroup& tg);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_RARE_SETTINGS_H_
