// The unroll of one window for any cell, with its lanes divided among threads.
#pragma once

#include "unroll.h"

namespace {

// Return the size of Window.saved in floats; -1 for an unknown cell.
static int64_t saved_size(int64_t cell, int64_t T, int64_t B, int64_t H, int64_t keep) {
    return with_cell(cell, int64_t{-1},
                     [&](auto c) { return Unroll<decltype(c), float>::saved_size({T, B, H}, keep); });
}

// Call f(unroll) with the window of its cell and of its factors.
template <class Function>
static int with_unroll(const Window& w, Function f) {
    return with_cell(w.cell, int(BAD_CELL), [&](auto c) {
        return with_factor(w.bf16, [&](auto factor) {
            using Cell = decltype(c);
            using F = decltype(factor);
            const Shape shape{w.T, w.B, w.H};
            return f(Unroll<Cell, F>{shape, w.keep != 0, w.ids, w.gates_x, w.weight_hh, w.h0, w.c0, w.outputs, w.saved,
                                     nullptr});
        });
    });
}

// Return whether every id is a row of gates_x.
static bool ids_are_rows(const Window& w) {
    uint64_t largest = 0;
    for (int64_t i = 0; w.ids && i < w.T * w.B; ++i)
        largest = uint64_t(w.ids[i]) > largest ? uint64_t(w.ids[i]) : largest;
    return !w.ids || largest < uint64_t(w.num_rows);
}

static int forward(const Window& w) {
    if (!ids_are_rows(w)) return BAD_ID;
    return with_unroll(w, [&](auto unroll) {
        constexpr int64_t G = decltype(unroll)::G, group = PANEL * G;
        const int64_t blocks = unroll.s.blocks(),
                      size_of_panels = blocks * G * num_factors<typename decltype(unroll)::Factor>(w.H) * VECTOR_WIDTH;
        Scratch packed(size_of_panels + blocks * G * VECTOR_WIDTH), sums(w.B * group * VECTOR_WIDTH);
        Scratch factors(unroll.factors_size(unroll.s, 1));
        if (!packed || !sums || !factors) return int(NO_MEMORY);
        unroll.factors = reinterpret_cast<decltype(unroll.factors)>(factors.get());
        float* bias = packed.get() + size_of_panels;
        in_parallel(w.num_threads, [&](int64_t i) {
            unroll.pack_forward(packed.get(), bias, w.bias_hh, blocks * i / w.num_threads,
                                blocks * (i + 1) / w.num_threads);
        });
        in_parallel(w.num_threads, [&](int64_t i) {
            const int64_t from = w.B * i / w.num_threads, to = w.B * (i + 1) / w.num_threads;
            unroll.forward(packed.get(), bias, sums.get() + from * group * VECTOR_WIDTH, from, to, w.cn);
        });
        return int(OK);
    });
}

static int backward(const Window& w, const Gradients& g) {
    return with_unroll(w, [&](auto unroll) {
        constexpr int64_t G = decltype(unroll)::G;
        const int64_t blocks = unroll.s.blocks(), items = blocks * G;
        const int64_t lane_size = (2 * blocks + PANEL) * VECTOR_WIDTH,
                      item_size = w.ids ? w.num_rows * VECTOR_WIDTH : 0, near_size = unroll.gradients_size();
        Scratch packed(items * num_factors<typename decltype(unroll)::Factor>(w.H) * VECTOR_WIDTH),
            rows(items * item_size);
        Scratch work(w.B * lane_size + unroll.factors_size(unroll.s, G)), near(w.num_threads * near_size);
        if (!packed || !work || !rows || !near) return int(NO_MEMORY);
        unroll.factors = reinterpret_cast<decltype(unroll.factors)>(work.get() + w.B * lane_size);
        in_parallel(w.num_threads, [&](int64_t i) {
            unroll.pack_backward(packed.get(), blocks * i / w.num_threads, blocks * (i + 1) / w.num_threads);
        });
        in_parallel(w.num_threads, [&](int64_t i) {
            const int64_t from = w.B * i / w.num_threads, to = w.B * (i + 1) / w.num_threads;
            unroll.backward(packed.get(), work.get() + from * lane_size, from, to, g.outputs, g.hn, g.cn, g.h0, g.c0);
        });
        in_parallel(w.num_threads, [&](int64_t i) {
            const int64_t from = items * i / w.num_threads, to = items * (i + 1) / w.num_threads;
            unroll.gradients(from, to, w.num_rows, rows.get() + from * item_size, near.get() + i * near_size,
                             g.weight_hh, g.bias_hh, g.gates_x);
        });
        return int(OK);
    });
}

}  // namespace
