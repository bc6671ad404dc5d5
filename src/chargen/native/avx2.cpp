// AVX2 with FMA: 16 registers of 8 floats.

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

namespace {
// Four bytes without a sign times four with one, for eight lanes: as 16-bit numbers, for the instruction that takes
// bytes keeps only 16 bits of the sum of two products.
inline __m256i add_products_avx2(__m256i sum, const float* x, const int8_t* w) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    const __m256i bytes = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
    const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w) + 1));
    const __m256i pairs = _mm256_hadd_epi32(_mm256_madd_epi16(bytes, low), _mm256_madd_epi16(bytes, high));
    return _mm256_add_epi32(sum, _mm256_permute4x64_epi64(pairs, 0xD8));
}
#define ADD_PRODUCTS(sum, x, w) (IntVec) add_products_avx2((__m256i)(sum), x, w)

constexpr int LANES = 8;                              // floats in a vector
constexpr int ROWS = 4, PANEL = 3;                    // of a tile of the forward and the backward product
constexpr int GRADIENT_ROWS = 4, GRADIENT_PANEL = 3;  // of a tile of the weights' gradient
#include "simd.h"
#include "product.h"
#include "cells.h"
#include "unroll.h"
#include "window.h"
#include "linear.h"
#include "head.h"
#include "sample.h"
}  // namespace

static bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

const Kernels avx2_kernels{"avx2",    supported,    saved_size,    forward, backward, linear_forward, linear_backward,
                           head_size, head_forward, head_backward, LANES,   PANEL,    read_text,      write_text};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
