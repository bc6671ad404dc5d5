// The gradient of a matrix, dW = D^T X, where the inner dimension is the positions of a window.
//
// The positions are processed in pieces that fit into the cache. A piece of X is packed into panels, which the threads
// of a team share. Each thread computes some vectors of rows of dW, which are columns of D, a few vectors at a time.
// The order of every sum is that of the positions, so it does not depend on the number of threads.
#pragma once

#include "product.h"

namespace {

// A vector of columns of D, which are rows of the gradient.
struct Columns {
    int64_t offset;  // of the vector in a row of D
    int64_t rows;    // valid ones, up to VECTOR_WIDTH
    float* grad;
};

// One matrix and its gradient. `row_of_x(n)` and `row_of_d(n)` are the addresses of row n of X and D, and `columns(v)`
// describes vector v of D.
template <class F, class RowOfX, class RowOfD, class ColumnsOf>
struct WeightGradient {
    int64_t num, K;  // positions, and the columns of X and of the gradient
    RowOfX row_of_x;
    RowOfD row_of_d;
    ColumnsOf columns;

    static constexpr int64_t PIECE = 256;  // positions
    static constexpr int64_t CHUNK = 4;    // vectors of D for which a panel of X stays in the first-level cache

    static int64_t vectors(int64_t K) { return (K + VECTOR_WIDTH - 1) / VECTOR_WIDTH; }
    // Sizes of the scratch memory in floats: that of the team, for two pieces of X in turns, and that of a thread.
    static int64_t shared_size(int64_t K) { return 2 * num_factors<F>(PIECE) * vectors(K) * VECTOR_WIDTH; }
    static int64_t own_size() { return num_factors<F>(PIECE) * CHUNK * VECTOR_WIDTH; }

    // Compute the gradient of vectors from .. to - 1. Every thread of the team calls this function. `each_piece(begin,
    // end)` is called for each piece of the positions.
    template <class EachPiece>
    void operator()(Team& team, int64_t i, int64_t from, int64_t to, float* shared, float* own,
                    EachPiece each_piece) const {
        const int64_t panels = (vectors(K) + GRADIENT_PANEL - 1) / GRADIENT_PANEL;
        const float *x[PIECE], *d[PIECE];
        for (int64_t begin = 0, turn = 0; begin < num; begin += PIECE, turn ^= 1) {
            const int64_t size = num - begin < PIECE ? num - begin : PIECE;
            for (int64_t n = 0; n < size; ++n) x[n] = row_of_x(begin + n), d[n] = row_of_d(begin + n);
            auto* packed = reinterpret_cast<F*>(shared + turn * (shared_size(K) / 2));
            for (int64_t p = panels * i / team.size(); p < panels * (i + 1) / team.size(); ++p)
                pack(x, size, p * GRADIENT_PANEL, packed);
            each_piece(begin, begin + size);
            team.wait();
            for (int64_t v = from; v < to; v += CHUNK)
                add_chunk(d, size, v, to - v < CHUNK ? to - v : CHUNK, packed, reinterpret_cast<F*>(own), begin == 0);
        }
    }

    // Pack `size` rows of the panel of X from vector v on.
    void pack(const float* const* x, int64_t size, int64_t v, F* packed) const {
        const int64_t C = width(v), factors = num_factors<F>(size);
        for (int64_t c = 0; c < C; ++c)
            put_rows([&](int64_t n) { return x[n] + (v + c) * VECTOR_WIDTH; }, size, K - (v + c) * VECTOR_WIDTH,
                     packed + (v * factors + c) * VECTOR_WIDTH, C * VECTOR_WIDTH);
    }

    int64_t width(int64_t v) const { return vectors(K) - v < GRADIENT_PANEL ? vectors(K) - v : GRADIENT_PANEL; }

    // Add a piece of `size` rows to the gradient of n vectors from v on. `own` is scratch.
    void add_chunk(const float* const* d, int64_t size, int64_t v, int64_t n, const F* packed, F* own,
                   bool first) const {
        const int64_t factors = num_factors<F>(size);
        for (int64_t c = 0; c < n; ++c) {
            const Columns here = columns(v + c);
            put_rows([&](int64_t i) { return d[i] + here.offset; }, size, here.rows, own + c * factors * VECTOR_WIDTH,
                     VECTOR_WIDTH);
        }
        for (int64_t k = 0; k < vectors(K); k += GRADIENT_PANEL)
            with_vectors<GRADIENT_PANEL>(width(k), [&](auto C) {
                for (int64_t c = 0; c < n; ++c) {
                    const Columns here = columns(v + c);
                    for (int64_t row = 0; row < here.rows; row += GRADIENT_ROWS)
                        add_tile<C.value>(own + c * factors * VECTOR_WIDTH + row, packed + k * factors * VECTOR_WIDTH,
                                          factors, here.rows - row, K - k * VECTOR_WIDTH,
                                          here.grad + row * K + k * VECTOR_WIDTH, first);
                }
            });
    }

    // Add the products of a piece to a tile of the gradient, which has at most `rows` rows and `floats` floats in a row.
    template <int C>
    void add_tile(const F* d, const F* x, int64_t factors, int64_t rows, int64_t floats, float* grad,
                  bool first) const {
        constexpr int R = GRADIENT_ROWS;
        Vec sum[R][C] = {};
        if (!first) {
            for (int r = 0; r < R && r < rows; ++r)
                for (int c = 0; c < C; ++c)
                    sum[r][c] = load(grad + r * K + c * VECTOR_WIDTH, floats - c * VECTOR_WIDTH);
            for (int r = 0; r < R;
                 ++r)  // prefetch the tile to the right, which has left the cache since the last piece
                for (int c = 0; c < C; ++c) __builtin_prefetch(grad + r * K + (C + c) * VECTOR_WIDTH, 1);
        }
        for (int64_t i = 0; i < factors; ++i, d += VECTOR_WIDTH, x += C * VECTOR_WIDTH) {
            FactorVec<F> v[C];
            for (int c = 0; c < C; ++c) v[c] = load_factors(x + c * VECTOR_WIDTH);
            if constexpr (BY_LANE) {
                static_assert(R <= VECTOR_WIDTH || !BY_LANE);
                const FactorVec<F> rows_of_d = load_factors(d);
                for (int r = 0; r < R; ++r)
                    for (int c = 0; c < C; ++c) sum[r][c] = add_product(sum[r][c], lane<F>(rows_of_d, r), v[c]);
            } else {
                for (int r = 0; r < R; ++r)
                    for (int c = 0; c < C; ++c) sum[r][c] = add_product(sum[r][c], d[r], v[c]);
            }
        }
        for (int r = 0; r < R && r < rows; ++r)
            for (int c = 0; c < C; ++c) store(grad + r * K + c * VECTOR_WIDTH, sum[r][c], floats - c * VECTOR_WIDTH);
    }
};

// Return the gradient of a matrix whose inputs X and output gradients D are read by functions.
template <class F, class RowOfX, class RowOfD, class ColumnsOf>
static WeightGradient<F, RowOfX, RowOfD, ColumnsOf> weight_gradient_of(int64_t num, int64_t K, RowOfX row_of_x,
                                                                       RowOfD row_of_d, ColumnsOf columns) {
    return {num, K, row_of_x, row_of_d, columns};
}

// Sizes of its scratch memory, before it is there.
template <class F>
using AnyGradient = WeightGradient<F, int, int, int>;

}  // namespace
