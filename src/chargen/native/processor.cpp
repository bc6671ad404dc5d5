// What the processor can do, as the operating system tells.

#include "processor.h"

#if defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

// The bits are those of asm/hwcap.h of Linux, named here because older headers lack them.
bool arm_has_dot_products() { return getauxval(AT_HWCAP) >> 20 & 1; }  // HWCAP_ASIMDDP
bool arm_has_bf16() { return getauxval(AT_HWCAP2) >> 14 & 1; }         // HWCAP2_BF16

#elif defined(__aarch64__) && defined(__APPLE__)

#include <sys/sysctl.h>

#include <cstddef>

static bool has(const char* feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value;
}
bool arm_has_dot_products() { return has("hw.optional.arm.FEAT_DotProd"); }
bool arm_has_bf16() { return has("hw.optional.arm.FEAT_BF16"); }

#else

bool arm_has_dot_products() { return false; }
bool arm_has_bf16() { return false; }

#endif
