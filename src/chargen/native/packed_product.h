// The product of a few rows with a packed matrix, in float32 or int8.
//
// The matrices are packed by NativeNetwork (sampling/native_network.py). With an int8 matrix the rows are quantized
// too, each with a scale of its own, the sums are exact integers, and the result has the same bits on every instruction
// set. The result of a row does not depend on the other rows.
//
// Dimensions: x is (N, K).
#pragma once

#include "kernels.h"
#include "product.h"

namespace {

// out (N, vectors * VECTOR_WIDTH) = x (N, K) W^T + b for a packed matrix W. `scratch` has room for N * bytes_size(K)
// floats.
struct PackedProduct {
    const PackedMatrix& m;
    int64_t K, vectors;  // vectors of a row of `out`; a multiple of PANEL

    static constexpr int64_t FEW = 4;  // below this number of rows, reading W takes most of the time
    static constexpr int WIDE = 4;     // panels computed at once for few rows, to hide the latency of the additions

    // Groups of four bytes in a row of K.
    static int64_t fours(int64_t K) { return (K + 3) / 4; }
    // Size of a quantized row of K in floats: its scale, then its bytes.
    static int64_t bytes_size(int64_t K) { return fours(K) + 1; }

    void operator()(const float* x, int64_t N, float* out, float* scratch) const {
        const int64_t stride = vectors * VECTOR_WIDTH;
        if (m.scale) {
            to_bytes(x, N, scratch);
            int64_t n = 0;
            for (; n + FEW <= N; n += FEW) product_of_bytes<FEW>(scratch + n * bytes_size(K), out + n * stride);
            for (; n < N; ++n) product_of_bytes<1>(scratch + n * bytes_size(K), out + n * stride);
        } else if (N < FEW) {
            for (int64_t n = 0; n < N; ++n) row(x + n * K, out + n * stride);
        } else {
            for (int64_t v = 0; v < vectors; v += PANEL) narrow(x, N, v, out);
        }
    }

    const float* panel(int64_t v) const { return static_cast<const float*>(m.panels) + v * K * VECTOR_WIDTH; }

    // Compute one panel for all N rows.
    void narrow(const float* x, int64_t N, int64_t v, float* out) const {
        product(x, N, {K, VECTOR_WIDTH, 1, K}, panel(v), PANEL, m.bias + v * VECTOR_WIDTH, out + v * VECTOR_WIDTH,
                vectors * VECTOR_WIDTH);
    }

    // Compute one row.
    void row(const float* x, float* out) const {
        int64_t v = 0;
        for (; v + WIDE * PANEL <= vectors; v += WIDE * PANEL) {
            Vec sum[WIDE][PANEL];
            for (int p = 0; p < WIDE; ++p)
                for (int c = 0; c < PANEL; ++c) sum[p][c] = load(m.bias + (v + p * PANEL + c) * VECTOR_WIDTH);
            const float* w = panel(v);
            for (int64_t k = 0; k < K; ++k, w += PANEL * VECTOR_WIDTH)
                for (int p = 0; p < WIDE; ++p)
                    for (int c = 0; c < PANEL; ++c) sum[p][c] += x[k] * load(w + (p * K * PANEL + c) * VECTOR_WIDTH);
            for (int p = 0; p < WIDE; ++p)
                for (int c = 0; c < PANEL; ++c) store(out + (v + p * PANEL + c) * VECTOR_WIDTH, sum[p][c]);
        }
        for (; v < vectors; v += PANEL) narrow(x, 1, v, out);
    }

    // Quantize each row of x to integers from -127 to 127 times the scale of the row. Where the product takes unsigned
    // bytes of x, add 128.
    void to_bytes(const float* x, int64_t N, float* scratch) const {
        for (int64_t n = 0; n < N; ++n, x += K, scratch += bytes_size(K)) {
            Vec most = {};
            for (int64_t k = 0; k < K; k += VECTOR_WIDTH) {
                const Vec size = (Vec)((IntVec)load(x + k, K - k) & INT32_MAX);
                most = size > most ? size : most;
            }
            float largest = 0;
            for (int e = 0; e < VECTOR_WIDTH; ++e) largest = most[e] > largest ? most[e] : largest;
            const Vec inverse = fill(largest > 0 ? 127 / largest : 0);
            scratch[0] = largest / 127;
            auto* bytes = reinterpret_cast<uint8_t*>(scratch + 1);
            memset(bytes, HAS_SIGNED_BYTES ? 0 : 128, 4 * fours(K));
            for (int64_t k = 0; k < K; k += VECTOR_WIDTH) {
                const Vec shifted = rounded(load(x + k, K - k) * inverse) + 128.5f;
                auto narrow = __builtin_convertvector(__builtin_convertvector(shifted, IntVec), ByteVec);
                if (HAS_SIGNED_BYTES) narrow ^= 128;  // subtracts the 128
                memcpy(bytes + k, &narrow, size_t(K - k < VECTOR_WIDTH ? K - k : VECTOR_WIDTH));
            }
        }
    }

    template <int R>
    void product_of_bytes(const float* rows, float* out) const {
        int64_t v = 0;
        for (; R < FEW && v + WIDE * PANEL <= vectors; v += WIDE * PANEL) bytes<R, WIDE>(rows, v, out);
        for (; v < vectors; v += PANEL) bytes<R, 1>(rows, v, out);
    }

    // Compute R rows and P panels from vector v on. `offset` cancels the added 128.
    template <int R, int P>
    void bytes(const float* rows, int64_t v, float* out) const {
        IntVec sum[R][P * PANEL];
        for (int r = 0; r < R; ++r)
            for (int i = 0; i < P * PANEL; ++i)
                if (HAS_SIGNED_BYTES)
                    sum[r][i] = IntVec{};
                else
                    memcpy(&sum[r][i], m.offset + (v + i) * VECTOR_WIDTH, sizeof(IntVec));
        const int64_t num_fours = fours(K);
        const auto* w = static_cast<const int8_t*>(m.panels) + v * num_fours * VECTOR_WIDTH * 4;
        for (int64_t k = 0; k < num_fours; ++k, w += PANEL * VECTOR_WIDTH * 4)
            for (int p = 0; p < P; ++p)
                for (int c = 0; c < PANEL; ++c) {
                    const int8_t* here = w + (p * num_fours * PANEL + c) * VECTOR_WIDTH * 4;
                    for (int r = 0; r < R; ++r)
                        sum[r][p * PANEL + c] =
                            add_products(sum[r][p * PANEL + c], rows + r * bytes_size(K) + 1 + k, here);
                }
        for (int r = 0; r < R; ++r)
            for (int i = 0; i < P * PANEL; ++i)
                store(out + (r * vectors + v + i) * VECTOR_WIDTH,
                      rounded(__builtin_convertvector(sum[r][i], Vec) *
                              (load(m.scale + (v + i) * VECTOR_WIDTH) * rows[r * bytes_size(K)])) +
                          load(m.bias + (v + i) * VECTOR_WIDTH));
    }
};

// Return how many vectors `rows` rows of each of `num_gates` gates need, rounded up to whole panels.
static int64_t padded_vectors(int64_t num_gates, int64_t rows) {
    const int64_t vectors = num_gates * ((rows + VECTOR_WIDTH - 1) / VECTOR_WIDTH);
    return (vectors + PANEL - 1) / PANEL * PANEL;
}

}  // namespace
