// ActingTask: lets the runtime do on a task's behalf what needs a current task, before that task runs.
#ifndef RINGWALL_SENTRY_KERNEL_ACTING_TASK_H_
#define RINGWALL_SENTRY_KERNEL_ACTING_TASK_H_

#include "sentry/auth/credentials.h"
#include "sentry/base/ref.h"

namespace ringwall {

class Task;

// While it lives, `task` is the calling thread's Task::Current() and has the rights of root.
// Preconditions: the task has not been started; the thread has no task.
class ActingTask {
 public:
  explicit ActingTask(Task& task);
  ~ActingTask();
  ActingTask(const ActingTask&) = delete;
  ActingTask& operator=(const ActingTask&) = delete;

 private:
  Task& task_;
  const Ref<const Credentials> own_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_ACTING_TASK_H_
