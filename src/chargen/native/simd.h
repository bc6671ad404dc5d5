// Vectors of VECTOR_WIDTH floats, and the functions that gates need: exp, sigmoid, tanh.
//
// The vectors are the extension that gcc and clang share, so one source serves AVX-512, AVX2, NEON and other
// instruction sets. All functions return NaN for NaN. The polynomial of exp is its Taylor series on [-ln 2 / 2, ln 2 /
// 2], up to the last order that changes a float32.
//
// If the parameter REPRODUCIBLE is true, a function returns the same bits on every instruction set, which are those of
// sampling/activations.py. Otherwise it is a little faster. A product with a power of 2 is exact and needs no rounding.
#pragma once

#include "instruction_set.h"
#include "kernels.h"

namespace {

using Vec = float __attribute__((vector_size(4 * VECTOR_WIDTH)));
using IntVec = int32_t __attribute__((vector_size(4 * VECTOR_WIDTH)));
using ByteVec = uint8_t __attribute__((vector_size(VECTOR_WIDTH)));

// Select elements of x and y by number. The elements of y are numbered behind those of x.
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, IntVec{__VA_ARGS__})
#endif

static inline Vec load(const float* p) {
    Vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float* p, Vec v) { memcpy(p, &v, sizeof v); }

// Load the first n floats and fill the rest of the vector with zeros.
static inline Vec load(const float* p, int64_t n) {
    if (n >= VECTOR_WIDTH) return load(p);
    Vec v = {};
    for (int64_t e = 0; e < n; ++e) v[e] = p[e];
    return v;
}

// Store the first n floats.
static inline void store(float* p, Vec v, int64_t n) {
    if (n >= VECTOR_WIDTH) return store(p, v);
    for (int64_t e = 0; e < n; ++e) p[e] = v[e];
}

// The number of valid floats in a vector. `Exactly` holds it as a constant, so that loops over whole vectors compile
// without branches.
template <int64_t N>
struct Exactly {
    static constexpr int64_t n = N;
};
using Whole = Exactly<VECTOR_WIDTH>;
struct Part {
    int64_t n;
};

static inline Vec fill(float x) { return Vec{} + x; }

// Round a product to a float32 before something is added to it. Otherwise the compiler fuses the two where the processor
// can, and the last bit of the sum depends on the instruction set.
template <bool REPRODUCIBLE = true>
static inline Vec rounded(Vec product) {
    if constexpr (REPRODUCIBLE) {
#if defined(__x86_64__)
        asm("" : "+v"(product));
#elif defined(__aarch64__)
        asm("" : "+w"(product));
#else
        asm("" : "+m"(product));
#endif
    }
    return product;
}

// Split e^x = 2^n e^r, where n is x / ln 2 rounded to an integer. Return e^r - 1, and 2^n in `power`. x must lie in
// [-80, 89].
template <bool REPRODUCIBLE>
static inline Vec split_exp(Vec x, Vec& power) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    Vec shifted = rounded<REPRODUCIBLE>(x * 1.44269504f) + shift;
    Vec n = shifted - shift;
    Vec r = x - n * 0.693145752f;  // ln 2 is split in two, so that this product is exact
    r = r - rounded<REPRODUCIBLE>(n * 1.42860677e-6f);
    power = (Vec)(((IntVec)shifted + 127) << 23);
    Vec p = rounded<REPRODUCIBLE>(r * (1.0f / 5040)) + 1.0f / 720;
    p = rounded<REPRODUCIBLE>(p * r) + 1.0f / 120;
    p = rounded<REPRODUCIBLE>(p * r) + 1.0f / 24;
    p = rounded<REPRODUCIBLE>(p * r) + 1.0f / 6;
    p = rounded<REPRODUCIBLE>(p * r) + 0.5f;
    return rounded<REPRODUCIBLE>(p * r * r) + r;
}

// Comparisons with NaN are false, so NaN passes through the bounds. At the upper bound 2^n is infinity.
template <bool REPRODUCIBLE = false>
static inline Vec exp(Vec x) {
    x = x < fill(-80.0f) ? fill(-80.0f) : x;
    x = x > fill(89.0f) ? fill(89.0f) : x;
    Vec power, small = split_exp<REPRODUCIBLE>(x, power);
    return (1.0f + small) * power;
}

template <bool REPRODUCIBLE = false>
static inline Vec sigmoid(Vec x) {
    return 1.0f / (1.0f + exp<REPRODUCIBLE>(-x));
}

// tanh |x| = -d / (2 + d) with d = e^(-2|x|) - 1. This form keeps full precision near zero.
template <bool REPRODUCIBLE = false>
static inline Vec tanh(Vec x) {
    const IntVec sign = (IntVec)x & INT32_MIN;
    Vec y = -2.0f * (Vec)((IntVec)x & INT32_MAX);
    y = y < fill(-80.0f) ? fill(-80.0f) : y;
    Vec power, small = split_exp<REPRODUCIBLE>(y, power);
    Vec d = small * power + (power - 1.0f);
    return (Vec)((IntVec)(-d / (2.0f + d)) | sign);
}

// Add to each element of `sum` the products of the four bytes at x with the element's four signed bytes of w. The bytes
// at x are unsigned, unless the instruction set defines SIGNED_BYTES.
#ifdef SIGNED_BYTES
constexpr bool HAS_SIGNED_BYTES = true;
#else
constexpr bool HAS_SIGNED_BYTES = false;
#endif
#ifndef ADD_PRODUCTS
static inline IntVec add_products(IntVec sum, const float* x, const int8_t* w) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(x);
    IntVec fours;
    memcpy(&fours, w, sizeof fours);
    for (int i = 0; i < 4; ++i)
        sum += int32_t(bytes[i]) * ((fours << (24 - 8 * i)) >> 24);  // byte i of each element, sign-extended
    return sum;
}
#else
static inline IntVec add_products(IntVec sum, const float* x, const int8_t* w) { return ADD_PRODUCTS(sum, x, w); }
#endif

}  // namespace
