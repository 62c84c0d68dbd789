/* The kernels' signatures. kernels.c is compiled once for each instruction set (a level), and
 * levels.c chooses the level of the machine when the library is loaded.
 *
 * All arrays are contiguous and of float32. A result has rows of K numbers; for binary
 * distributions a row is one number. A call computes the rows from `begin` to `end`, so that
 * several threads can share the work. A parameter may have fewer rows than the result: row r of the
 * result is computed from the parameter's row r % number. A gradient (by_...) comes with the
 * strides from row to row and from column to column, which are 0 where the gradient is expanded. */

#include <stdint.h>

#define KERNELS(X)                                                                                 \
    X(int64_t, look, (const float *x, int64_t number, int64_t K))                                  \
    X(void, noise, (uint64_t seed, float *out, int64_t K, int64_t begin, int64_t end))             \
    X(void, logistic, (uint64_t seed, float *out, int64_t begin, int64_t end))                     \
    X(void, draw,                                                                                  \
      (uint64_t seed, const float *noise, const float *x, int64_t x_number,                        \
       const float *t, int64_t t_number, float *y, float *value, float *own, int64_t hard,         \
       int64_t K, int64_t begin, int64_t end))                                                     \
    X(void, draw_back,                                                                             \
      (const float *y, const float *p, const float *t, int64_t t_number,                           \
       const float *by_y, int64_t by_y_row, int64_t by_y_column, const float *by_value,            \
       int64_t by_value_row, int64_t by_value_column, const float *by_own, int64_t by_own_row,     \
       float *dx, float *dt, int64_t K, int64_t begin, int64_t end))                               \
    X(void, density,                                                                               \
      (const float *x, int64_t x_number, const float *t, int64_t t_number,                         \
       const float *y, float *out, int64_t simplex, int64_t K, int64_t begin,                      \
       int64_t end))                                                                               \
    X(void, density_back,                                                                          \
      (const float *x, int64_t x_number, const float *t, int64_t t_number,                         \
       const float *y, const float *by_out, int64_t by_out_row, float *dx,                         \
       float *dy, float *dt, int64_t simplex, int64_t K, int64_t begin, int64_t end))              \
    X(void, mass,                                                                                  \
      (const float *x, int64_t x_number, const float *value, float *out,                           \
       int64_t K, int64_t begin, int64_t end))                                                     \
    X(void, mass_back,                                                                             \
      (const float *x, int64_t x_number, const float *value,                                       \
       const float *by_out, int64_t by_out_row, float *dx, float *dvalue, int64_t K,               \
       int64_t begin, int64_t end))                                                                \
    X(void, binary_draw,                                                                           \
      (uint64_t seed, const float *noise, const float *x, int64_t x_number,                        \
       const float *t, int64_t t_number, float *y, float *value, int64_t hard,                     \
       int64_t begin, int64_t end))                                                                \
    X(void, binary_draw_back,                                                                      \
      (const float *y, const float *t, int64_t t_number, const float *by_y,                        \
       int64_t by_y_stride, const float *by_value, int64_t by_value_stride, float *dx, float *dt,  \
       int64_t begin, int64_t end))                                                                \
    X(void, binary_density,                                                                        \
      (const float *x, int64_t x_number, const float *t, int64_t t_number,                         \
       const float *y, float *out, int64_t unit, int64_t begin, int64_t end))                      \
    X(void, binary_density_back,                                                                   \
      (const float *x, int64_t x_number, const float *t, int64_t t_number,                         \
       const float *y, const float *by_out, int64_t by_out_stride, float *dx,                      \
       float *dy, float *dt, int64_t unit, int64_t begin, int64_t end))

#define FIELD(result, name, arguments) result(*name) arguments;
struct kernels {
    KERNELS(FIELD)
};
