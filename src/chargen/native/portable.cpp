// Any processor: vectors of four floats, which are NEON on ARM and SSE on x86.

#include "kernels.h"

namespace {
constexpr int LANES = 4;                              // floats in a vector
constexpr int ROWS = 4, PANEL = 3;                    // of a tile of the forward and the backward product
constexpr int GRADIENT_ROWS = 4, GRADIENT_PANEL = 3;  // of a tile of the weights' gradient
#include "simd.h"
#include "product.h"
#include "cells.h"
#include "unroll.h"
#include "window.h"
#include "linear.h"
#include "head.h"
#include "sample.h"
}  // namespace

static bool supported() { return true; }

const Kernels portable_kernels{"portable",     supported,       saved_size, forward,      backward,
                               linear_forward, linear_backward, head_size,  head_forward, head_backward,
                               LANES,          PANEL,           read_text,  write_text};
