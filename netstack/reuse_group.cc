#include "netstack/reuse_group.h"

#include <algorithm>

namespace ringwall::net {

void ReuseGroup::Remove(Endpoint* e) {
  auto it = std::find(members_.begin(), members_.end(), e);
  if (it == members_.end()) return;
  *it = members_.back();
  members_.pop_back();
}

Endpoint* ReuseGroup::Select(uint64_t hash, ByteSpan payload) const {
  if (members_.empty()) return nullptr;
  if (program) {
    FilterInput in;
    in.data = payload;
    const uint32_t place = program->Run(in);
    if (place < members_.size()) return members_[place];
  }
  return members_[hash % members_.size()];
}

void Endpoint::JoinReuseGroup(Endpoint* other) {
  if (other != nullptr && other->reuse_group_) {
    reuse_group_ = other->reuse_group_;
  } else if (!reuse_group_) {
    reuse_group_ = MakeRef<ReuseGroup>();
  }
  reuse_group_->Add(this);
}

void Endpoint::LeaveReuseGroup() {
  if (!reuse_group_) return;
  reuse_group_->Remove(this);
  reuse_group_.reset();
}

NetResult<void> Endpoint::SetReuseProgram(RefPtr<EndpointFilter> program) {
  StackEntry entry(*stack_);
  if (!program) {
    if (!reuse_group_ && !flag(Option::kReusePort)) return NetError::kInvalid;
    if (!reuse_group_ || !reuse_group_->program) return NetError::kNotFound;
    reuse_group_->program.reset();
    return {};
  }
  if (!reuse_group_) {
    // Before the bind there is a group of one, which keeps the program for those who join.
    if (!flag(Option::kReusePort) || HasPort()) return NetError::kInvalid;
    reuse_group_ = MakeRef<ReuseGroup>();
  }
  reuse_group_->program = std::move(program);
  return {};
}

}  // namespace ringwall::net
