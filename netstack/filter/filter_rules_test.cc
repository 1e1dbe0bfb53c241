// The rules of filter/rules as tests: one for each, named after what it follows.
#include "netstack/testing/filter_script.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ringwall::net::testing::RegisterFilterRules(RINGWALL_FILTER_RULES);
  return RUN_ALL_TESTS();
}
