// Reading and writing text with a trained network, one character of every stream per tick.
//
// The streams are the rows of the matrix products, and the result of a row does not depend on the other rows. The text
// of a stream therefore does not depend on the other streams or on the number of threads.
//
// Dimensions: N streams, n characters of each, L layers, H hidden, V vocabulary, G gates.
#pragma once

#include "cells.h"
#include "choice.h"
#include "kernels.h"
#include "packed_product.h"

namespace {

// The ticks of N streams whose states are adjacent. Part p of the state of stream i is at states + p * stride + i * H,
// where a part is h or c of one layer.
template <class Cell, bool REPRODUCIBLE>
struct Ticks {
    const Network& net;
    int64_t N = 0;
    float* states = nullptr;
    int64_t stride = 0;
    static constexpr int G = Cell::num_gates;

    static int64_t num_parts(const Network& net) { return net.L * (Cell::has_c ? 2 : 1); }

    // Floats in a row of the widest product.
    static int64_t widest(const Network& net) {
        const int64_t gates = padded_vectors(G, net.H), head = padded_vectors(1, net.V);
        return (gates > head ? gates : head) * VECTOR_WIDTH;
    }

    // Floats of scratch for each stream.
    static int64_t scratch_size(const Network& net) {
        return 2 * widest(net) + net.H + PackedProduct::bytes_size(net.H);
    }

    // Read ids[i * ids_stride] on stream i. Write the logits of the next character to logits_of(i), unless it is null.
    //
    // Inlined into its callers, this function was measured to be 5 % slower.
    template <class LogitsOf>
    __attribute__((noinline)) void tick(const int64_t* ids, int64_t ids_stride, LogitsOf logits_of,
                                        float* scratch) const {
        const int64_t H = net.H, vectors = padded_vectors(G, H), blocks = (H + VECTOR_WIDTH - 1) / VECTOR_WIDTH;
        float *sums = scratch, *inputs = sums + N * widest(net), *below = inputs + N * widest(net),
              *bytes = below + N * H;
        for (int64_t layer = 0; layer < net.L; ++layer) {
            float* h = states + layer * (Cell::has_c ? 2 : 1) * stride;
            float* c = h + stride;
            PackedProduct{net.hidden[layer], H, vectors}(h, N, sums, bytes);
            if (layer) PackedProduct{net.input[layer], H, vectors}(below, N, inputs, bytes);
            for (int64_t n = 0; n < N; ++n)
                for (int64_t j = 0; j < blocks; ++j) {
                    const int64_t at = n * H + j * VECTOR_WIDTH, left = H - j * VECTOR_WIDTH,
                                  valid = left < VECTOR_WIDTH ? left : VECTOR_WIDTH;
                    Vec x[G], hidden[G], kept[Cell::num_kept], h_here = load(h + at, valid), c_here{};
                    for (int g = 0; g < G; ++g) {
                        const int64_t vector = (n * vectors + g * blocks + j) * VECTOR_WIDTH;
                        hidden[g] = load(sums + vector);
                        x[g] = layer ? load(inputs + vector)
                                     : load(net.table + (ids[n * ids_stride] * G + g) * H + j * VECTOR_WIDTH, valid);
                    }
                    if (Cell::has_c) c_here = load(c + at, valid);
                    Cell::template step<REPRODUCIBLE>(x, hidden, h_here, c_here, kept);
                    store(h + at, h_here, valid);
                    if (Cell::has_c) store(c + at, c_here, valid);
                    store(below + at, layer && net.residual ? h_here + load(below + at, valid) : h_here, valid);
                }
        }
        if (!logits_of(0)) return;
        const int64_t head = padded_vectors(1, net.V);
        PackedProduct{net.head, H, head}(below, N, sums, bytes);
        for (int64_t n = 0; n < N; ++n) memcpy(logits_of(n), sums + n * head * VECTOR_WIDTH, sizeof(float) * net.V);
    }
};

constexpr int64_t GAP = 5 * VECTOR_WIDTH;  // floats between states and sums, to keep them out of the same cache sets

// Divide N streams among threads. Call f(ticks, from, to, scratch, thread) for the streams from .. to - 1 of each
// thread, where f fills in the states of `ticks`. The scratch has room for the ticks of these streams and, if `gather`,
// in front of that for their states and a gap.
//
// With int8 matrices the ticks are reproducible. In float32 the matrix products differ between instruction sets anyway.
template <class F>
static int for_streams(const Network& net, int64_t N, int64_t num_threads, bool gather, F f) {
    const auto divide = [&](auto ticks) {
        const int64_t state_size = gather ? ticks.num_parts(net) * net.H : 0;
        const int64_t stream_size = state_size + ticks.scratch_size(net);
        Scratch scratch(N * stream_size + num_threads * GAP);
        if (!scratch) return int(NO_MEMORY);
        in_parallel(num_threads, [&](int64_t thread) {
            const int64_t from = N * thread / num_threads, to = N * (thread + 1) / num_threads;
            f(ticks, from, to, scratch.get() + from * stream_size + thread * GAP, thread);
        });
        return int(OK);
    };
    return with_cell(net.cell, int(BAD_CELL), [&](auto cell) {
        using Cell = decltype(cell);
        return net.head.scale ? divide(Ticks<Cell, true>{net}) : divide(Ticks<Cell, false>{net});
    });
}

// See chargen_read.
static int read_text(const Network& net, int64_t N, int64_t n, const int64_t* ids, float* states, float* logits,
                     int64_t every, int64_t num_threads) {
    for (int64_t i = 0; i < N * n; ++i)
        if (uint64_t(ids[i]) >= uint64_t(net.V)) return BAD_ID;
    if (num_threads > N) num_threads = N;
    const auto read = [&](auto ticks, int64_t from, int64_t to, float* scratch, int64_t) {
        ticks.N = to - from, ticks.states = states + from * net.H, ticks.stride = N * net.H;
        for (int64_t i = 0; i < n; ++i) {
            const auto logits_of = [&](int64_t s) -> float* {
                if (every) return logits + ((from + s) * n + i) * net.V;
                return logits && i == n - 1 ? logits + (from + s) * net.V : nullptr;
            };
            ticks.tick(ids + from * n + i, n, logits_of, scratch);
        }
    };
    return for_streams(net, N, num_threads, false, read);
}

// See chargen_write. The states of a thread's streams are gathered into adjacent memory, and written back at the end.
static int write_text(const Network& net, const Stream* streams, int64_t N, int64_t n, int64_t num_threads) {
    for (int64_t s = 0; s < N; ++s)
        for (int64_t i = 0; i < streams[s].num_banned; ++i)
            if (uint64_t(streams[s].banned[i]) >= uint64_t(net.V)) return BAD_ID;
    if (num_threads > N) num_threads = N;
    // For each thread, `order` (int64, as large as two floats) and `weights`.
    Scratch memory(3 * net.V * num_threads), current(2 * N);
    if (!memory || !current) return NO_MEMORY;
    const auto write = [&](auto ticks, int64_t from, int64_t to, float* scratch, int64_t thread) {
        const int64_t count = to - from, H = net.H, num_parts = ticks.num_parts(net);
        ticks.N = count, ticks.states = scratch, ticks.stride = count * H;
        int64_t* order = reinterpret_cast<int64_t*>(memory.get()) + net.V * thread;
        float* weights = memory.get() + net.V * (2 * num_threads + thread);
        int64_t* ids = reinterpret_cast<int64_t*>(current.get()) + from;  // the ids of this tick
        for (int64_t p = 0; p < num_parts; ++p)
            for (int64_t s = 0; s < count; ++s)
                memcpy(scratch + (p * count + s) * H, streams[from + s].state + p * H, sizeof(float) * H);
        for (int64_t i = 0; i < n; ++i) {
            for (int64_t s = 0; s < count; ++s) {
                const Stream& stream = streams[from + s];
                ids[s] = stream.ids[i] = draw(stream, net.V, stream.uniforms[i], weights, order);
            }
            ticks.tick(
                ids, 1, [&](int64_t s) { return streams[from + s].logits; }, scratch + num_parts * count * H + GAP);
        }
        for (int64_t p = 0; p < num_parts; ++p)
            for (int64_t s = 0; s < count; ++s)
                memcpy(streams[from + s].state + p * H, scratch + (p * count + s) * H, sizeof(float) * H);
    };
    return for_streams(net, N, num_threads, true, write);
}

}  // namespace
