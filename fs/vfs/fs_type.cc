#include "fs/vfs/fs_type.h"

#include <list>

namespace ringwall {

namespace {
std::list<FsType>& Types() {
  static std::list<FsType>* types = new std::list<FsType>;
  return *types;
}
}  // namespace

void RegisterFsType(FsType type) { Types().push_back(std::move(type)); }

const FsType* FindFsType(std::string_view name) {
  for (const FsType& type : Types()) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

std::vector<const FsType*> ListFsTypes() {
  std::vector<const FsType*> all;
  for (const FsType& type : Types()) all.push_back(&type);
  return all;
}

}  // namespace ringwall
