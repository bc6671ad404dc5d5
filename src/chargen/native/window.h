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

// How threads divide a window: by blocks if a thread would have too few lanes for a tile, and the packed weights do not
// fit into its cache; otherwise by lanes. By blocks, the panels of a thread stand together.
struct Division {
    Shape s;
    int64_t packed_size;  // in floats
    static constexpr int64_t CACHED = 64 << 10;

    bool by_blocks(int64_t threads) const {
        return s.B < threads * ROWS && packed_size > CACHED && s.blocks() >= threads;
    }
    Share share(int64_t threads, int64_t i) const {
        const int64_t n = by_blocks(threads) ? s.blocks() : s.B, from = n * i / threads, to = n * (i + 1) / threads;
        return by_blocks(threads) ? Share{0, s.B, {from, to}} : Share{from, to, {0, s.blocks()}};
    }
};

static int forward(const Window& w) {
    if (!ids_are_rows(w)) return BAD_ID;
    return with_unroll(w, [&](auto unroll) {
        using F = typename decltype(unroll)::Factor;
        constexpr int64_t G = decltype(unroll)::G;
        const int64_t num_threads = threads_for(w.T * w.B * G * w.H * w.H, w.num_threads);
        const int64_t vectors = unroll.s.blocks() * G, size_of_panels = vectors * num_factors<F>(w.H) * VECTOR_WIDTH;
        const int64_t size_of_sums = w.B * PANEL * G * VECTOR_WIDTH;
        Scratch packed(size_of_panels + vectors * VECTOR_WIDTH), sums(num_threads * size_of_sums);
        Scratch factors(unroll.factors_size(unroll.s, 1));
        if (!packed || !sums || !factors) return int(NO_MEMORY);
        unroll.factors = reinterpret_cast<F*>(factors.get());
        float* bias = packed.get() + size_of_panels;
        const Division division{unroll.s, size_of_panels};
        in_team(num_threads, [&](Team& team, int64_t i) {
            const int64_t threads = team.size(), blocks = unroll.s.blocks();
            const Share share = division.share(threads, i);
            unroll.pack_forward(packed.get(), bias, w.bias_hh, share.blocks, blocks * i / threads,
                                blocks * (i + 1) / threads);
            team.wait();
            unroll.forward(packed.get(), bias, sums.get() + i * size_of_sums, share, team, w.cn);
        });
        return int(OK);
    });
}

static int backward(const Window& w, const Gradients& g) {
    return with_unroll(w, [&](auto unroll) {
        using F = typename decltype(unroll)::Factor;
        constexpr int64_t G = decltype(unroll)::G;
        const int64_t num_threads = threads_for(w.T * w.B * G * w.H * w.H, w.num_threads);
        const int64_t blocks = unroll.s.blocks(), items = blocks * G, state = blocks * w.B * VECTOR_WIDTH;
        const int64_t item_size = w.ids ? w.num_rows * VECTOR_WIDTH : 0, own_size = AnyGradient<F>::own_size();
        const int64_t size_of_panels = items * num_factors<F>(w.H) * VECTOR_WIDTH;
        const int64_t size_of_sums = w.B * PANEL * VECTOR_WIDTH;
        Scratch packed(size_of_panels), rows(items * item_size), near(num_threads * (own_size + size_of_sums));
        Scratch work(2 * state + unroll.factors_size(unroll.s, G) + AnyGradient<F>::shared_size(w.H));
        if (!packed || !work || !rows || !near) return int(NO_MEMORY);
        float *dh = work.get(), *dc = dh + state;
        unroll.factors = reinterpret_cast<F*>(dc + state);
        float* shared = dc + state + unroll.factors_size(unroll.s, G);
        const Division division{unroll.s, size_of_panels};
        in_team(num_threads, [&](Team& team, int64_t i) {
            const int64_t threads = team.size();
            const Share share = division.share(threads, i);
            float *own = near.get() + i * (own_size + size_of_sums), *sums = own + own_size;
            unroll.pack_backward(packed.get(), share.blocks, blocks * i / threads, blocks * (i + 1) / threads);
            team.wait();
            unroll.backward(packed.get(), dh, dc, sums, share, team, g);
            team.wait();
            const int64_t from = items * i / threads, to = items * (i + 1) / threads;
            unroll.gradients(team, i, from, to, w.num_rows, rows.get() + from * item_size, shared, own, g);
        });
        return int(OK);
    });
}

}  // namespace
