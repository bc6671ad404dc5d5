// AVX2 with FMA: 16 registers of 8 floats.

#include "kernels.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

namespace {
constexpr int LANES = 8;                             // floats in a vector
constexpr int ROWS = 4, PANEL = 3;                    // of a tile of the forward and the backward product
constexpr int GRADIENT_ROWS = 4, GRADIENT_PANEL = 3;  // of a tile of the weights' gradient
#include "simd.h"
#include "product.h"
#include "cells.h"
#include "unroll.h"
#include "window.h"
}  // namespace

static bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

const Kernels avx2_kernels{"avx2", supported, saved_size, forward, backward};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
