// The kernels for 64-bit ARM processors that multiply four bytes at once.

#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#include "neon.h"

#include "table.h"

static bool supported() { return arm_has_dot_products(); }

DEFINE_KERNELS(neon_dot, false)

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
