// The sizes of vectors and tiles for the instruction set that is being compiled.
//
// avx512.cpp and avx2.cpp define CHARGEN_AVX512 or CHARGEN_AVX2 before they include the kernels. Everything else gets
// the sizes of portable.cpp, which are 128-bit vectors: NEON on ARM, SSE on x86.
#pragma once

#if defined(CHARGEN_AVX512)
constexpr int VECTOR_WIDTH = 16;                      // floats in a vector
constexpr int ROWS = 12, PANEL = 2;                   // rows and vectors of a tile of the forward and backward product
constexpr int GRADIENT_ROWS = 8, GRADIENT_PANEL = 2;  // rows and vectors of a tile of a weight gradient
#elif defined(CHARGEN_AVX2)
constexpr int VECTOR_WIDTH = 8;
constexpr int ROWS = 4, PANEL = 3;
constexpr int GRADIENT_ROWS = 4, GRADIENT_PANEL = 3;
#else
constexpr int VECTOR_WIDTH = 4;
constexpr int ROWS = 4, PANEL = 3;
constexpr int GRADIENT_ROWS = 4, GRADIENT_PANEL = 3;
#endif
