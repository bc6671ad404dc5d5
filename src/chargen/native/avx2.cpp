// The kernels for AVX2 with FMA, which has 16 registers of 8 floats.

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

namespace {
// Add to each of 8 sums the products of the four unsigned bytes at x with its four signed bytes of w. The products are
// formed in 16 bits, because the instruction that takes bytes saturates the sum of two products.
inline __m256i add_products_avx2(__m256i sum, const float* x, const int8_t* w) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    const __m256i bytes = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
    const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w) + 1));
    const __m256i pairs = _mm256_hadd_epi32(_mm256_madd_epi16(bytes, low), _mm256_madd_epi16(bytes, high));
    return _mm256_add_epi32(sum, _mm256_permute4x64_epi64(pairs, 0xD8));
}
}  // namespace

#define CHARGEN_AVX2
#define ADD_PRODUCTS(sum, x, w) (IntVec) add_products_avx2((__m256i)(sum), x, w)
#include "table.h"

static bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

DEFINE_KERNELS(avx2, false)

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
