// AVX-512: 32 registers of 16 floats.

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")
#endif

namespace {
constexpr int LANES = 16;                             // floats in a vector
constexpr int ROWS = 12, PANEL = 2;                   // of a tile of the forward and the backward product
constexpr int GRADIENT_ROWS = 8, GRADIENT_PANEL = 2;  // of a tile of the weights' gradient
#define ADD_PRODUCTS(sum, x, w) \
    (IntVec) _mm512_dpbusd_epi32((__m512i)(sum), _mm512_castps_si512(_mm512_set1_ps(*(x))), _mm512_loadu_si512(w))
#include "simd.h"
#include "product.h"
#include "cells.h"
#include "unroll.h"
#include "window.h"
#include "linear.h"
#include "head.h"
#include "sample.h"
}  // namespace

static bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

const Kernels avx512_kernels{"avx512",  supported,    saved_size,    forward, backward, linear_forward, linear_backward,
                             head_size, head_forward, head_backward, LANES,   PANEL,    read_text,      write_text};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
