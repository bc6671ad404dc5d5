// The unroll of one window for any cell, with its lanes divided among threads.
#pragma once

#include "unroll.h"

namespace {

// Return the size of Window.saved in floats; -1 for an unknown cell.
static int64_t saved_size(int64_t cell, int64_t T, int64_t B, int64_t H, int64_t keep) {
    return with_cell(cell, int64_t{-1}, [&](auto c) { return Unroll<decltype(c)>::saved_size({T, B, H}, keep); });
}

template <class Cell>
static Unroll<Cell> unroll_of(const Window& w) {
    return {{w.T, w.B, w.H}, w.keep != 0, w.ids, w.gates_x, w.weight_hh, w.h0, w.c0, w.outputs, w.saved};
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
    return with_cell(w.cell, int(BAD_CELL), [&](auto c) {
        using Cell = decltype(c);
        const auto unroll = unroll_of<Cell>(w);
        const int64_t vectors = unroll.s.blocks() * Cell::num_gates, group = PANEL * Cell::num_gates;
        Scratch packed(vectors * (w.H + 1) * VECTOR_WIDTH), sums(w.B * group * VECTOR_WIDTH);
        if (!packed || !sums) return int(NO_MEMORY);
        float* bias = packed.get() + vectors * w.H * VECTOR_WIDTH;
        in_parallel(w.num_threads, [&](int64_t i) {
            unroll.pack_forward(packed.get(), bias, w.bias_hh, unroll.s.blocks() * i / w.num_threads,
                                unroll.s.blocks() * (i + 1) / w.num_threads);
        });
        in_parallel(w.num_threads, [&](int64_t i) {
            const int64_t from = w.B * i / w.num_threads, to = w.B * (i + 1) / w.num_threads;
            unroll.forward(packed.get(), bias, sums.get() + from * group * VECTOR_WIDTH, from, to, w.cn);
        });
        return int(OK);
    });
}

static int backward(const Window& w, const Gradients& g) {
    return with_cell(w.cell, int(BAD_CELL), [&](auto c) {
        using Cell = decltype(c);
        const auto unroll = unroll_of<Cell>(w);
        const int64_t blocks = unroll.s.blocks(), items = blocks * Cell::num_gates;
        const int64_t lane_size = (2 * blocks + PANEL) * VECTOR_WIDTH,
                      item_size = w.ids ? w.num_rows * VECTOR_WIDTH : 0;
        Scratch packed(items * w.H * VECTOR_WIDTH), work(w.B * lane_size), rows(items * item_size);
        if (!packed || !work || !rows) return int(NO_MEMORY);
        in_parallel(w.num_threads, [&](int64_t i) {
            unroll.pack_backward(packed.get(), blocks * i / w.num_threads, blocks * (i + 1) / w.num_threads);
        });
        in_parallel(w.num_threads, [&](int64_t i) {
            const int64_t from = w.B * i / w.num_threads, to = w.B * (i + 1) / w.num_threads;
            unroll.backward(packed.get(), work.get() + from * lane_size, from, to, g.outputs, g.hn, g.cn, g.h0, g.c0);
        });
        in_parallel(w.num_threads, [&](int64_t i) {
            const int64_t from = items * i / w.num_threads, to = items * (i + 1) / w.num_threads;
            unroll.gradients(from, to, w.num_rows, rows.get() + from * item_size, g.weight_hh, g.bias_hh, g.gates_x);
        });
        return int(OK);
    });
}

}  // namespace
