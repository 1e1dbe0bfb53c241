// The rules of tcp/rules as tests: one for each, named after the section that it comes from.
#include "netstack/testing/tcp_script.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ringwall::net::testing::RegisterTcpRules(RINGWALL_TCP_RULES);
  return RUN_ALL_TESTS();
}
