// The sizes of vectors and tiles for the instruction set that is being compiled.
//
// The sources of AVX-512 and AVX2 define CHARGEN_AVX512 or CHARGEN_AVX2 before they include the kernels. Everything else
// has 128-bit vectors: NEON on ARM, which has 32 registers, and SSE on x86, which has 16.
#pragma once

#if defined(CHARGEN_AVX512)
constexpr int VECTOR_WIDTH = 16;                      // floats in a vector
constexpr int ROWS = 12, PANEL = 2;                   // rows and vectors of a tile of the forward and backward product
constexpr int GRADIENT_ROWS = 8, GRADIENT_PANEL = 2;  // rows and vectors of a tile of a weight gradient
constexpr bool BY_LANE = false;                       // whether a product can take its scalar from a lane of a register
#elif defined(CHARGEN_AVX2)
constexpr int VECTOR_WIDTH = 8;
constexpr int ROWS = 4, PANEL = 3;
constexpr int GRADIENT_ROWS = 4, GRADIENT_PANEL = 3;
constexpr bool BY_LANE = false;
#elif defined(__aarch64__)
constexpr int VECTOR_WIDTH = 4;
constexpr int ROWS = 8, PANEL = 2;
constexpr int GRADIENT_ROWS = 4, GRADIENT_PANEL = 4;
constexpr bool BY_LANE = true;
#else
constexpr int VECTOR_WIDTH = 4;
constexpr int ROWS = 4, PANEL = 3;
constexpr int GRADIENT_ROWS = 4, GRADIENT_PANEL = 3;
constexpr bool BY_LANE = false;
#endif
