// The factors of a product: float32 numbers, or pairs of bf16 numbers.
//
// A bf16 number is a float32 rounded to 8 bits of precision (16 bits in all). A product in bf16 multiplies pairs of
// adjacent numbers of the inner dimension and adds both products to a float32 sum, so it takes half as many steps.
// Everything that is templated on a factor F counts the inner dimension in factors. An odd inner dimension is padded
// with a zero.
//
// An instruction set with such an instruction defines ADD_PAIR. The others compute the same sums in float32.
#pragma once

#include "simd.h"

namespace {

// Two adjacent bf16 numbers. The low half holds the first one.
struct Pair {
    uint32_t bits;
};

template <class F>
struct FactorOf;
template <>
struct FactorOf<float> {
    static constexpr int64_t numbers = 1;  // numbers of the inner dimension in a factor
    using Vector = Vec;
};
template <>
struct FactorOf<Pair> {
    static constexpr int64_t numbers = 2;
    using Vector = IntVec;
};
template <class F>
using FactorVec = typename FactorOf<F>::Vector;

// The factors that n numbers need, and the same padded to whole vectors.
template <class F>
static int64_t num_factors(int64_t n) {
    return (n + FactorOf<F>::numbers - 1) / FactorOf<F>::numbers;
}
template <class F>
static int64_t padded_factors(int64_t n) {
    return (num_factors<F>(n) + VECTOR_WIDTH - 1) / VECTOR_WIDTH * VECTOR_WIDTH;
}

static inline Vec load_factors(const float* p) { return load(p); }
static inline IntVec load_factors(const Pair* p) {
    IntVec v;
    memcpy(&v, p, sizeof v);
    return v;
}

// Return element e of a vector of factors.
template <class F>
static inline F lane(FactorVec<F> v, int e) {
    if constexpr (FactorOf<F>::numbers == 1)
        return v[e];
    else
        return {uint32_t(v[e])};
}

// Return sum + x * w for each element of w.
static inline Vec add_product(Vec sum, float x, Vec w) { return sum + x * w; }
static inline Vec add_product(Vec sum, Pair x, IntVec w) {
#ifdef ADD_PAIR
    return ADD_PAIR(sum, x.bits, w);
#else
    const IntVec bits = IntVec{} + int32_t(x.bits), high = IntVec{} + int32_t(0xFFFF0000);
    sum += (Vec)(bits & high) * (Vec)(w & high);
    return sum + (Vec)(bits << 16) * (Vec)(w << 16);
#endif
}

// ------------------------------------------------------------------------------- rounding

// Round to bf16, to the nearest and from the middle to even. The result is in the high half of each element; the low
// half is not zero. NaN stays NaN.
static inline IntVec rounded_bits(Vec x) {
    const IntVec bits = (IntVec)x;
    return x == x ? bits + 0x7FFF + ((bits >> 16) & 1) : bits | 0x400000;
}

// Return the pairs (first[i], second[i]).
static inline IntVec pairs_of(Vec first, Vec second) {
    return ((rounded_bits(first) >> 16) & 0xFFFF) | (rounded_bits(second) & int32_t(0xFFFF0000));
}

// Store the pairs (x[0], x[1]), (x[2], x[3]), ..., half a vector of them.
static inline void store_pairs(Pair* p, Vec x) {
    using Long = int64_t __attribute__((vector_size(4 * VECTOR_WIDTH)));
    using Half = int32_t __attribute__((vector_size(2 * VECTOR_WIDTH)));
    const Long two = (Long)rounded_bits(x);  // in each element, a pair in the high halves of its two halves
    const auto half = __builtin_convertvector(((two >> 16) & 0xFFFF) | ((two >> 32) & int64_t(0xFFFF0000)), Half);
    memcpy(p, &half, sizeof half);
}

// Write a row of n numbers as padded factors.
static void put_row(const float* row, int64_t n, Pair* out) {
    const int64_t padded = padded_factors<Pair>(n) * 2;
    for (int64_t k = 0; k < padded; k += VECTOR_WIDTH) store_pairs(out + k / 2, k < n ? load(row + k, n - k) : Vec{});
}

// ------------------------------------------------------------------------------- operands

// The left operand of a product: rows of factors, `stride` factors apart.
template <class F>
struct Rows {
    const F* start;
    int64_t stride;
};

// Return n rows of K numbers as factors. Floats stay where they are; pairs are written to `near`, which has room for n *
// padded_factors(K).
template <class F>
static Rows<F> rows_of(const float* rows, int64_t stride, int64_t n, int64_t K, float* near) {
    if constexpr (FactorOf<F>::numbers == 1) {
        return {rows, stride};
    } else {
        auto* out = reinterpret_cast<F*>(near);
        const int64_t size = padded_factors<F>(K);
        for (int64_t r = 0; r < n; ++r) put_row(rows + r * stride, K, out + r * size);
        return {out, size};
    }
}

// Write K rows of n <= VECTOR_WIDTH floats as vectors of factors, `stride` factors apart: a vector of pairs holds two
// rows. `row(k)` is the address of row k.
template <class F, class Row>
static inline void put_rows(Row row, int64_t K, int64_t n, F* out, int64_t stride) {
    for (int64_t k = 0; k < K; k += FactorOf<F>::numbers, out += stride) {
        FactorVec<F> v;
        if constexpr (FactorOf<F>::numbers == 1)
            v = load(row(k), n);
        else
            v = pairs_of(load(row(k), n), k + 1 < K ? load(row(k + 1), n) : Vec{});
        memcpy(out, &v, sizeof v);
    }
}

// Call f(factor) with a number of the type that a product takes.
template <class Function>
static auto with_factor(int64_t bf16, Function f) {
    return bf16 ? f(Pair()) : f(float());
}

}  // namespace
