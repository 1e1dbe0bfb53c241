// What the arguments of each system call mean, one letter each, so that random calls get far enough
// to be interesting: random_test.cc says how a letter becomes a value.
//
//   f descriptor   p path        b buffer      l its length   v iovecs      c small count
//   a address      L its length  i any number  x flag bits    m mode        o file offset
//   s signal       t process     u user id     z clock        T timespec    n name of an attribute
//   k socket addr  K its length  P int in/out  M message      A argv        d directory descriptor
//   C command      W futex word  E structure   - nothing
#ifndef RINGWALL_TESTS_SECURITY_RANDOM_TABLE_H_
#define RINGWALL_TESTS_SECURITY_RANDOM_TABLE_H_

#include <stdint.h>

namespace ringwall::test {

struct RandomCall {
  uint16_t number;
  const char* arguments;
};

// By number, as include/uapi/asm/unistd_64.h has them: those that came after this C library's headers
// have no name there. Left out: exit, exit_group, rt_sigreturn, arch_prctl, which only end the caller.
inline constexpr RandomCall kRandomCalls[] = {
    {0, "fbl"},      {1, "fbl"},      {2, "pxm"},      {3, "f"},        {4, "pb"},
    {5, "fb"},       {6, "pb"},       {7, "Ecc"},      {8, "foc"},      {9, "aLxxfo"},
    {10, "aLc"},     {11, "aL"},      {12, "a"},       {13, "sEEc"},    {14, "cbbi"},
    {16, "fCb"},     {17, "fblo"},    {18, "fblo"},    {19, "fvc"},     {20, "fvc"},
    {21, "pm"},      {22, "b"},       {23, "cbbbT"},   {24, "-"},       {25, "aLLxa"},
    {26, "aLc"},     {27, "aLb"},     {28, "aLc"},     {29, "ilx"},     {30, "cax"},
    {31, "cCb"},     {32, "f"},       {33, "ff"},      {34, "-"},       {35, "TT"},
    {36, "cb"},      {37, "c"},       {38, "cEb"},     {39, "-"},       {40, "ffbl"},
    {41, "ccc"},     {42, "fkK"},     {43, "fkP"},     {44, "fblxkK"},  {45, "fblxkP"},
    {46, "fMx"},     {47, "fMx"},     {48, "fc"},      {49, "fkK"},     {50, "fi"},
    {51, "fkP"},     {52, "fkP"},     {53, "cccb"},    {54, "fccbK"},   {55, "fccbP"},
    {56, "xabba"},   {57, "-"},       {58, "-"},       {59, "pAA"},     {61, "tbxb"},
    {62, "ts"},      {63, "b"},       {64, "icx"},     {65, "cEc"},     {66, "ccCb"},
    {67, "a"},       {68, "ix"},      {69, "cElx"},    {70, "cblix"},   {71, "cCb"},
    {72, "fCb"},     {73, "fc"},      {74, "f"},       {75, "f"},       {76, "po"},
    {77, "fo"},      {78, "fbl"},     {79, "bl"},      {80, "p"},       {81, "f"},
    {82, "pp"},      {83, "pm"},      {84, "p"},       {85, "pm"},      {86, "pp"},
    {87, "p"},       {88, "pp"},      {89, "pbl"},     {90, "pm"},      {91, "fm"},
    {92, "puu"},     {93, "fuu"},     {94, "puu"},     {95, "m"},       {96, "bb"},
    {97, "cb"},      {98, "ib"},      {99, "b"},       {100, "b"},      {101, "Ctbb"},
    {102, "-"},      {103, "cbl"},    {104, "-"},      {105, "u"},      {106, "u"},
    {107, "-"},      {108, "-"},      {109, "tt"},     {110, "-"},      {111, "-"},
    {112, "-"},      {113, "uu"},     {114, "uu"},     {115, "ib"},     {116, "cb"},
    {117, "uuu"},    {118, "bbb"},    {119, "uuu"},    {120, "bbb"},    {121, "t"},
    {122, "u"},      {123, "u"},      {124, "t"},      {125, "EE"},     {126, "EE"},
    {127, "bi"},     {128, "bbTi"},   {129, "tsE"},    {130, "bi"},     {131, "Eb"},
    {132, "pE"},     {133, "pmi"},    {134, "p"},      {135, "x"},      {136, "ib"},
    {137, "pb"},     {138, "fb"},     {139, "cbb"},    {140, "ct"},     {141, "cti"},
    {142, "tE"},     {143, "tb"},     {144, "tcE"},    {145, "t"},      {146, "c"},
    {147, "c"},      {148, "tb"},     {149, "aL"},     {150, "aL"},     {151, "c"},
    {152, "-"},      {153, "-"},      {154, "cbl"},    {155, "pp"},     {157, "Cibbb"},
    {159, "E"},      {160, "cE"},     {161, "p"},      {162, "-"},      {163, "p"},
    {164, "EE"},     {165, "ppnxb"},  {166, "px"},     {167, "pc"},     {168, "p"},
    {169, "iiib"},   {170, "bl"},     {171, "bl"},     {172, "c"},      {173, "iic"},
    {175, "blp"},    {176, "px"},     {179, "ipib"},   {186, "-"},      {187, "fol"},
    {188, "pnblx"},  {189, "pnblx"},  {190, "fnblx"},  {191, "pnbl"},   {192, "pnbl"},
    {193, "fnbl"},   {194, "pbl"},    {195, "pbl"},    {196, "fbl"},    {197, "pn"},
    {198, "pn"},     {199, "fn"},     {200, "ts"},     {201, "b"},      {202, "WciTWi"},
    {203, "tlb"},    {204, "tlb"},    {206, "ib"},     {207, "a"},      {208, "acibT"},
    {209, "acv"},    {210, "aEb"},    {213, "i"},      {216, "aLccx"},  {217, "fbl"},
    {218, "b"},      {219, "-"},      {220, "cEcT"},   {221, "folc"},   {222, "zEb"},
    {223, "ccEb"},   {224, "cb"},     {225, "c"},      {226, "c"},      {227, "zT"},
    {228, "zb"},     {229, "zb"},     {230, "zcTb"},   {232, "fbic"},   {233, "fcfE"},
    {234, "tts"},    {235, "pE"},     {237, "aLcbix"}, {238, "cbi"},    {239, "bbiax"},
    {240, "nxmE"},   {241, "n"},      {242, "fblcT"},  {243, "fblbT"},  {244, "fE"},
    {245, "fEb"},    {247, "ctbxb"},  {248, "nnbli"},  {250, "ciiii"},  {251, "cti"},
    {252, "ct"},     {253, "-"},      {254, "fpx"},    {255, "fc"},     {256, "tibb"},
    {257, "dpxm"},   {258, "dpm"},    {259, "dpmi"},   {260, "dpuux"},  {261, "dpE"},
    {262, "dpbx"},   {263, "dpx"},    {264, "dpdp"},   {265, "dpdpx"},  {266, "pdp"},
    {267, "dpbl"},   {268, "dpm"},    {269, "dpm"},    {270, "cbbbTE"}, {271, "EcTbi"},
    {272, "x"},      {273, "Ei"},     {274, "tbb"},    {275, "fbfblx"}, {276, "fflx"},
    {277, "folx"},   {278, "fvcx"},   {279, "tcvbbx"}, {280, "dpEx"},   {281, "fbicbi"},
    {282, "fbi"},    {283, "zx"},     {284, "i"},      {285, "fcoo"},   {286, "fxEb"},
    {287, "fb"},     {288, "fkPx"},   {289, "fbix"},   {290, "ix"},     {291, "x"},
    {292, "ffx"},    {293, "bx"},     {294, "x"},      {295, "fvco"},   {296, "fvco"},
    {297, "ttsE"},   {298, "Etifx"},  {299, "fMcxT"},  {300, "xx"},     {302, "tcEb"},
    {303, "dpEbx"},  {304, "fEx"},    {305, "zE"},     {306, "f"},      {307, "fMcx"},
    {308, "fx"},     {309, "bb"},     {310, "tvcvcx"}, {311, "tvcvcx"}, {312, "ttcii"},
    {314, "tEx"},    {315, "tbix"},   {316, "dpdpx"},  {317, "cxE"},    {318, "blx"},
    {319, "nx"},     {321, "cEl"},    {322, "dpAAx"},  {323, "x"},      {324, "cxc"},
    {325, "aLc"},    {326, "fbfblx"}, {327, "fvcoox"}, {328, "fvcoox"}, {329, "aLcc"},
    {330, "xc"},     {331, "c"},      {332, "dpxxb"},  {333, "acibTE"}, {334, "blxi"},
    {424, "fsEx"},   {425, "iE"},     {434, "tx"},     {435, "El"},     {436, "ffx"},
    {437, "dpEl"},   {438, "ffx"},    {439, "dpmx"},   {440, "fvcc"},   {441, "fbicT"},
    {442, "dpxEl"},  {444, "Elx"},    {448, "fx"},     {449, "EcxTz"},  {450, "aLix"},
    {451, "fEbx"},   {452, "dpmx"},   {454, "WixE"},   {455, "WiixTz"}, {456, "Exii"},
    {462, "aLx"},
};

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_SECURITY_RANDOM_TABLE_H_
