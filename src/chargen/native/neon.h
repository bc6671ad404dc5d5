// The products of bytes on ARM processors with FEAT_DotProd. The compiler target is set before this file is included.
#pragma once

#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace {
// Return four copies of the four bytes at x.
inline int8x16_t four_bytes(const float* x) { return vreinterpretq_s8_f32(vld1q_dup_f32(x)); }
}  // namespace

#define SIGNED_BYTES
#define ADD_PRODUCTS(sum, x, w) (IntVec) vdotq_s32((int32x4_t)(sum), four_bytes(x), vld1q_s8(w))
#endif
