// The kernels for 64-bit ARM processors that multiply four bytes and pairs of bf16 numbers at once.

#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,bf16"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod+bf16")
#endif

#include "neon.h"
#define ADD_PAIR(sum, x, w)                                                       \
    (Vec) vbfdotq_f32((float32x4_t)(sum), vreinterpretq_bf16_u32(vdupq_n_u32(x)), \
                      vreinterpretq_bf16_s32((int32x4_t)(w)))

#include "table.h"

static bool supported() { return neon_dot_kernels.supported() && arm_has_bf16(); }

DEFINE_KERNELS(neon_bf16, true)

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
