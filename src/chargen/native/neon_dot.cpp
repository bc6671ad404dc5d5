// The kernels for 64-bit ARM processors that multiply four bytes at once.

#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define SIGNED_BYTES
#define ADD_PRODUCTS(sum, x, w) (IntVec) vdotq_s32((int32x4_t)(sum), four_bytes(x), vld1q_s8(w))

namespace {
// Return four copies of the four bytes at x.
inline int8x16_t four_bytes(const float* x) { return vreinterpretq_s8_f32(vld1q_dup_f32(x)); }
}  // namespace

#include "head.h"
#include "linear.h"
#include "sample.h"
#include "window.h"

static bool supported() { return arm_has_dot_products(); }

const Kernels neon_dot_kernels{"neon_dot",    supported,      false,           saved_size, forward,
                               backward,      linear_forward, linear_backward, head_size,  head_forward,
                               head_backward, VECTOR_WIDTH,   PANEL,           read_text,  write_text};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
