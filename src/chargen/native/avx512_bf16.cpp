// The kernels for AVX-512 on processors that also multiply pairs of bf16 numbers.

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")
#endif

#define CHARGEN_AVX512
#define ADD_PRODUCTS(sum, x, w) \
    (IntVec) _mm512_dpbusd_epi32((__m512i)(sum), _mm512_castps_si512(_mm512_set1_ps(*(x))), _mm512_loadu_si512(w))
#define ADD_PAIR(sum, x, w) \
    (Vec) _mm512_dpbf16_ps((__m512)(sum), (__m512bh)_mm512_set1_epi32(int32_t(x)), (__m512bh)(w))
#include "table.h"

static bool supported() { return avx512_kernels.supported() && __builtin_cpu_supports("avx512bf16"); }

DEFINE_KERNELS(avx512_bf16, true)

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
