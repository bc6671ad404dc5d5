// The kernels for 64-bit ARM processors that multiply four bytes and pairs of bf16 numbers at once.

#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,bf16"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod+bf16")
#endif

#define SIGNED_BYTES
#define ADD_PRODUCTS(sum, x, w) (IntVec) vdotq_s32((int32x4_t)(sum), four_bytes(x), vld1q_s8(w))
#define ADD_PAIR(sum, x, w)                                                       \
    (Vec) vbfdotq_f32((float32x4_t)(sum), vreinterpretq_bf16_u32(vdupq_n_u32(x)), \
                      vreinterpretq_bf16_s32((int32x4_t)(w)))

namespace {
// Return four copies of the four bytes at x.
inline int8x16_t four_bytes(const float* x) { return vreinterpretq_s8_f32(vld1q_dup_f32(x)); }
}  // namespace

#include "head.h"
#include "linear.h"
#include "sample.h"
#include "window.h"

static bool supported() { return arm_has_dot_products() && arm_has_bf16(); }

const Kernels neon_bf16_kernels{"neon_bf16",    supported,       true,      saved_size,   forward,       backward,
                                linear_forward, linear_backward, head_size, head_forward, head_backward, VECTOR_WIDTH,
                                PANEL,          read_text,       write_text};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
