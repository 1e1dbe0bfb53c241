// Sets of CPUs as Linux prints them.
#ifndef RINGWALL_FS_PROC_CPU_LIST_H_
#define RINGWALL_FS_PROC_CPU_LIST_H_

#include <sched.h>

#include <string>

namespace ringwall {

std::string CpuList(const cpu_set_t& set);  // "0-1,4"
// "3", in groups of 32 bits: "1,00000000". As wide as the highest CPU needs.
std::string CpuMask(const cpu_set_t& set);

}  // namespace ringwall

#endif  // RINGWALL_FS_PROC_CPU_LIST_H_
