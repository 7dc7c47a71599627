/* Evaluates splines on edges: rows_e = s_e sum_b B_b(t_e) table_b, with the table of the edge's kind.

   lookup.py writes the definitions of S (float or double), W (scalars in a vector) and the struct Lookup before this
   text. */
#include <string.h>

typedef S V __attribute__((vector_size(W * sizeof(S)), aligned(sizeof(S)), may_alias));

static inline V load(const S *p, long n) {
  V v = {0};
  if (n >= W) return *(const V *)p;
  memcpy(&v, p, n * sizeof(S));
  return v;
}

static inline void store(S *p, V v, long n) {
  if (n >= W) *(V *)p = v;
  else memcpy(p, &v, n * sizeof(S));
}

#define ZERO_BASIS 4

static void basis(S u, long order, S *b) {
  const S v = 1 - u;
  if (order == 0) { b[0] = v*v*v/6; b[1] = (3*u*u*u - 6*u*u + 4)/6; b[2] = (3*v*v*v - 6*v*v + 4)/6; b[3] = u*u*u/6; }
  else if (order == 1) { b[0] = -v*v/2; b[1] = (3*u*u - 4*u)/2; b[2] = (4*v - 3*v*v)/2; b[3] = u*u/2; }
  else if (order == 2) { b[0] = v; b[1] = 3*u - 2; b[2] = 3*v - 2; b[3] = u; }
  else if (order == 3) { b[0] = -1; b[1] = 3; b[2] = -3; b[3] = 1; }
  else { b[0] = b[1] = b[2] = b[3] = 0; }
}

static void part(const void *given, long p) {
  const Lookup *a = given;
  const long n = a->n_columns;
  for (long e = a->n_edges*p/a->n_parts; e < a->n_edges*(p + 1)/a->n_parts; e++) {
    const S t = a->knot_coordinates[e];
    const long first = t > 0 ? (t < a->n_rows - 4 ? (long)t : a->n_rows - 4) : 0; /* in range for inf and NaN too */
    S b[4];
    const int beyond = t - first > 1; /* the splines are constant beyond the last knot */
    basis(beyond ? 1 : t - first, beyond && a->order ? ZERO_BASIS : a->order, b);
    S *table = a->table + (a->kinds[e]*a->n_rows + first)*n + (a->result == 2 ? p*a->n_numbers : 0);
    S *rows = a->rows + e*n;
    if (a->given_strengths) for (int k = 0; k < 4; k++) b[k] *= a->given_strengths[e];
    V total = {0};
    for (long c = 0; c < n; c += W) {
      if (a->result == 2) {
        const V g = load(rows + c, n - c);
        for (int k = 0; k < 4; k++) store(table + k*n + c, load(table + k*n + c, n - c) + b[k]*g, n - c);
        continue;
      }
      V value = {0};
      for (int k = 0; k < 4; k++) value += b[k]*load(table + k*n + c, n - c);
      if (a->result == 0) store(rows + c, value, n - c);
      else total += value*load(rows + c, n - c);
    }
    if (a->result == 1) {
      S sum = 0;
      for (int k = 0; k < W; k++) sum += total[k];
      a->strengths[e] = sum;
    }
  }
}

long run(const Lookup *a) {
  for (long e = 0; e < a->n_edges; e++)
    if (a->kinds[e] < 0 || a->kinds[e] >= a->n_kinds) return e + 1;
  each_part(part, a, a->n_parts);
  return 0;
}
