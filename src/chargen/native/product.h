// Matrix products over packed panels.
//
// The right-hand matrix is cut into panels of up to PANEL adjacent vectors and stored in the order in which it is read,
// so that a product streams through it. A tile holds R rows x C vectors of sums in registers while k runs upwards over
// the inner dimension. The order of the summation is the same for every row, so the result of a row does not depend on
// the other rows or on the number of threads.
#pragma once

#include "factors.h"

namespace {

// The layout of the left-hand matrix, in factors. Its inner dimension is num_gates * K, and each K is cut into ceil(K /
// VECTOR_WIDTH) blocks that are `block_stride` apart. A row-major matrix with K columns is {stride, VECTOR_WIDTH, 1, K}.
struct Left {
    int64_t row_stride, block_stride, num_gates, K;
};

// Add to a tile VECTOR_WIDTH steps along the inner dimension. A vector of each row is loaded at once, and each product
// takes its scalar from a lane of it.
template <int R, int C, class F>
static inline void add_by_lane(Vec (&sum)[R][C], const F* a, int64_t row_stride, const F* panel) {
    FactorVec<F> x[R];
    for (int r = 0; r < R; ++r) x[r] = load_factors(a + r * row_stride);
#pragma GCC unroll 4
    for (int e = 0; e < VECTOR_WIDTH; ++e) {
        FactorVec<F> w[C];
        for (int c = 0; c < C; ++c) w[c] = load_factors(panel + (e * C + c) * VECTOR_WIDTH);
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c) sum[r][c] = add_product(sum[r][c], lane<F>(x[r], e), w[c]);
    }
}

// out[r][c] = start[c] + sum_k left[r][k] panel[k][c], for R rows and C vectors. A null `start` stands for zeros.
template <int R, int C, class F>
static void tile(const F* a, Left left, const F* panel, const float* start, float* out, int64_t out_stride) {
    Vec sum[R][C];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sum[r][c] = start ? load(start + c * VECTOR_WIDTH) : Vec{};
    for (int64_t gate = 0; gate < left.num_gates; ++gate)
        for (int64_t k = 0; k < left.K; k += VECTOR_WIDTH, a += left.block_stride) {
            const int64_t n = left.K - k < VECTOR_WIDTH ? left.K - k : VECTOR_WIDTH;
            if (BY_LANE && n == VECTOR_WIDTH) {
                add_by_lane<R, C>(sum, a, left.row_stride, panel);
                panel += VECTOR_WIDTH * C * VECTOR_WIDTH;
                continue;
            }
            for (int64_t e = 0; e < n; ++e, panel += C * VECTOR_WIDTH) {
                FactorVec<F> w[C];
                for (int c = 0; c < C; ++c) w[c] = load_factors(panel + c * VECTOR_WIDTH);
                for (int r = 0; r < R; ++r) {
                    const F x = a[r * left.row_stride + e];
                    for (int c = 0; c < C; ++c) sum[r][c] = add_product(sum[r][c], x, w[c]);
                }
            }
        }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) store(out + r * out_stride + c * VECTOR_WIDTH, sum[r][c]);
}

// A number that is known at compile time.
template <int R>
struct Count {
    static constexpr int value = R;
};

// Call f(Count<rows>()).
template <int R = ROWS, class F>
static void with_rows(int64_t rows, F f) {
    if constexpr (R > 0) {
        if (rows == R) return f(Count<R>());
        with_rows<R - 1>(rows, f);
    }
}

// Call f(Count<vectors>()).
template <int C = PANEL, class F>
static void with_vectors(int64_t vectors, F f) {
    if constexpr (C > 0) {
        if (vectors == C) return f(Count<C>());
        with_vectors<C - 1>(vectors, f);
    }
}

// Compute `tile` for any number of rows and up to PANEL vectors. The tiles get equal numbers of rows.
template <class F>
static void product(const F* a, int64_t rows, Left left, const F* panel, int64_t vectors, const float* start,
                    float* out, int64_t out_stride) {
    const int64_t tiles = (rows + ROWS - 1) / ROWS;
    for (int64_t t = 0; t < tiles; ++t) {
        const int64_t from = rows * t / tiles, to = rows * (t + 1) / tiles;
        with_rows(to - from, [&](auto R) {
            with_vectors(vectors, [&](auto C) {
                tile<R.value, C.value, F>(a + from * left.row_stride, left, panel, start, out + from * out_stride,
                                          out_stride);
            });
        });
    }
}

// Exchange the off-diagonal corners of every square of 2 * HALF vectors.
template <int HALF, int... E>
static inline void swap_corners(Vec* v, std::integer_sequence<int, E...>) {
    for (int i = 0; i < VECTOR_WIDTH; ++i)
        if (!(i & HALF)) {
            const Vec x = v[i], y = v[i | HALF];
            v[i] = SHUFFLE(x, y, (E & HALF ? VECTOR_WIDTH + (E ^ HALF) : E)...);
            v[i | HALF] = SHUFFLE(x, y, (E & HALF ? VECTOR_WIDTH + E : E ^ HALF)...);
        }
}

// Transpose a square of VECTOR_WIDTH vectors in place, by swapping corners of increasing size.
template <int HALF = 1>
static inline void transpose(Vec* v) {
    if constexpr (HALF < VECTOR_WIDTH) {
        swap_corners<HALF>(v, std::make_integer_sequence<int, VECTOR_WIDTH>());
        transpose<2 * HALF>(v);
    }
}

// Write the transpose of n rows of K numbers, n <= VECTOR_WIDTH, as vectors of factors: factor k goes to out + k *
// stride, padded with zeros to a whole vector.
template <class F>
static void put_transposed(const float* rows, int64_t n, int64_t K, F* out, int64_t stride) {
    for (int64_t k = 0; k < K; k += VECTOR_WIDTH) {
        const int64_t columns = K - k < VECTOR_WIDTH ? K - k : VECTOR_WIDTH;
        Vec square[VECTOR_WIDTH] = {};
        for (int64_t e = 0; e < n; ++e) square[e] = load(rows + e * K + k, columns);
        transpose(square);
        put_rows<F>([&](int64_t i) { return reinterpret_cast<const float*>(&square[i]); }, columns, VECTOR_WIDTH,
                    out + num_factors<F>(k) * stride, stride);
    }
}

}  // namespace
