// The kernels for AVX-512, which has 32 registers of 16 floats.

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")
#endif

#define CHARGEN_AVX512
#define ADD_PRODUCTS(sum, x, w) \
    (IntVec) _mm512_dpbusd_epi32((__m512i)(sum), _mm512_castps_si512(_mm512_set1_ps(*(x))), _mm512_loadu_si512(w))
#include "table.h"

static bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

DEFINE_KERNELS(avx512, false)

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
