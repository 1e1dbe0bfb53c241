// What exec does to credentials (security/commoncap.c: cap_bprm_creds_from_file; fs/exec.c:
// bprm_fill_uid). Read capabilities(7), "Transformation of capabilities during execve()", first.
#ifndef RINGWALL_SENTRY_KERNEL_EXEC_CREDS_H_
#define RINGWALL_SENTRY_KERNEL_EXEC_CREDS_H_

#include <optional>

#include "fs/vfs/file.h"
#include "sentry/auth/credentials.h"

namespace ringwall {

class MountNamespace;

// The capabilities of a program file (security.capability).
struct FileCaps {
  uint64_t permitted = 0, inheritable = 0;
  bool effective = false;
  // Version 3: for the user namespaces whose root is this id; otherwise for the first.
  std::optional<Uid> root;

  static std::optional<FileCaps> Parse(std::string_view bytes);
};

struct ExecCredentials {
  Ref<Credentials> creds;
  bool secure = false;  // AT_SECURE
};

// Whether set-id bits and file capabilities of a file there count for `creds` (mnt_may_suid).
bool MaySetId(const Credentials& creds, const Path& path);
// setuid, setgid: of the program, when its bits are set. EPERM: the program insists on capabilities
// that it cannot get.
Result<ExecCredentials> CredentialsForExec(const Credentials& old, File& program,
                                           std::optional<Uid> setuid, std::optional<Gid> setgid);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_EXEC_CREDS_H_
