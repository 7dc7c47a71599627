/* Linear maps of the features of each atom, and the gate.

   nodes.py writes the definitions of S (float or double), DOUBLE (0 or 1), W (scalars in a vector), R (rows that are
   multiplied together) and of the structs Block, Linear, GateBlock and Gate before this text.
   Features are flat; the block of an irrep is [2l+1, channels], channels last. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef S V __attribute__((vector_size(W * sizeof(S)), aligned(sizeof(S)), may_alias));
#define LD(p) (*(const V *)(p))
#define ST(p, v) (*(V *)(p) = (v))

static inline V load(const S *p, long n) {
  if (n >= W) return LD(p);
  V v = {0};
  memcpy(&v, p, n * sizeof(S));
  return v;
}

static inline void store(S *p, V v, long n) {
  if (n >= W) ST(p, v);
  else memcpy(p, &v, n * sizeof(S));
}

/* ---- y_i = x_i W(species_i): one matrix for each irrep and species */

#define UNROLL _Pragma("GCC unroll 8") /* the sums stay in registers only if the loops are unrolled */
#define CHUNK 96 /* number of rows whose addresses are listed together; a multiple of R */

#define TILE(NAME, VECTORS)                                                                           \
  static inline void NAME(S *const *a, S *const *b, const S *w, long n_in, long n_out, S scale) {     \
    V sum[R][VECTORS] = {{{0}}};                                                                      \
    const S *from[R];                                                                                 \
    UNROLL for (int r = 0; r < R; r++) from[r] = a[r];                                                \
    for (long c = 0; c < n_in; c++, w += n_out) {                                                     \
      V right[VECTORS];                                                                               \
      UNROLL for (int v = 0; v < VECTORS; v++) right[v] = LD(w + v * W);                              \
      UNROLL for (int r = 0; r < R; r++) {                                                            \
        const S left = from[r][c];                                                                    \
        UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] += left * right[v];                        \
      }                                                                                               \
    }                                                                                                 \
    UNROLL for (int r = 0; r < R; r++)                                                                \
      UNROLL for (int v = 0; v < VECTORS; v++) ST(b[r] + v * W, scale * sum[r][v]);                   \
  }
TILE(tile_2, 2)
TILE(tile_1, 1)

/* b[r] = scale a[r] w for every row, w [n_in, n_out]; the number of rows is a multiple of R, the last may repeat */
static void multiply(S **a, S **b, long rows, const S *w, long n_in, long n_out, S scale) {
  S *to[R];
  for (long r = 0; r < rows; r += R) {
    long n = 0;
    while (n + W <= n_out) {
      const int two = n + 2 * W <= n_out;
      for (int k = 0; k < R; k++) to[k] = b[r + k] + n;
      (two ? tile_2 : tile_1)(a + r, to, w + n, n_in, n_out, scale);
      n += two ? 2 * W : W;
    }
    for (; n < n_out; n++)
      for (int k = 0; k < R; k++) {
        S sum = 0;
        for (long c = 0; c < n_in; c++) sum += a[r + k][c] * w[c * n_out + n];
        b[r + k][n] = scale * sum;
      }
  }
}

/* w += scale a^T b over the rows, w [n_in, n_out] */
static void outer(S **a, S **b, long rows, S *w, long n_in, long n_out, S scale) {
  for (long n = 0; n < n_out; n += 2 * W) {
    const long first = n_out - n, second = n_out - n - W;
    long c = 0;
    for (; c + R <= n_in; c += R) {
      V sum[R][2] = {{{0}}};
      for (long r = 0; r < rows; r++) {
        const V b0 = load(b[r] + n, first), b1 = second > 0 ? load(b[r] + n + W, second) : (V){0};
        const S *left = a[r] + c;
        UNROLL for (int k = 0; k < R; k++) { sum[k][0] += left[k] * b0; sum[k][1] += left[k] * b1; }
      }
      UNROLL for (int k = 0; k < R; k++) {
        S *to = w + (c + k) * n_out + n;
        store(to, load(to, first) + scale * sum[k][0], first);
        if (second > 0) store(to + W, load(to + W, second) + scale * sum[k][1], second);
      }
    }
    for (; c < n_in; c++)
      for (long r = 0; r < rows; r++) {
        S *to = w + c * n_out + n;
        store(to, load(to, first) + scale * a[r][c] * load(b[r] + n, first), first);
        if (second > 0) store(to + W, load(to + W, second) + scale * a[r][c] * load(b[r] + n + W, second), second);
      }
  }
}

/* the atoms order[first..last) have the same species, whose matrices are w (transposed for result 1) */
static void linear_some(const Linear *m, const long *order, long first, long last, S *w) {
  S *a[CHUNK], *b[CHUNK];
  for (long k = 0; k < m->n_blocks; k++) {
    const Block t = m->blocks[k];
    for (long row = first * t.rows; row < last * t.rows; row += CHUNK) {
      const long n = last * t.rows - row < CHUNK ? last * t.rows - row : CHUNK;
      for (long r = 0; r < n; r++) {
        const long atom = order[(row + r) / t.rows], component = (row + r) % t.rows;
        a[r] = m->x + atom * m->dim_x + t.x + component * t.n_in;
        b[r] = m->y + atom * m->dim_y + t.y + component * t.n_out;
      }
      long whole = n;
      for (; whole % R; whole++) { a[whole] = a[n - 1]; b[whole] = b[n - 1]; }
      if (m->result == 0) multiply(a, b, whole, w + t.w, t.n_in, t.n_out, t.scale);
      if (m->result == 1) multiply(b, a, whole, w + t.w, t.n_out, t.n_in, t.scale);
      if (m->result == 2) outer(a, b, n, w + t.w, t.n_in, t.n_out, t.scale);
    }
  }
}

typedef struct { const Linear *m; const long *order, *start; S *w; } Sorted; /* atoms sorted by species */

static void linear_part(const void *given, long p) {
  const Sorted *sorted = given;
  const Linear *m = sorted->m;
  const long low = m->n_atoms * p / m->n_parts, high = m->n_atoms * (p + 1) / m->n_parts;
  S *w = sorted->w + (m->result == 2 ? p * m->n_species * m->n_weights : 0);
  for (long s = 0; s < m->n_species; s++, w += m->n_weights) {
    const long first = sorted->start[s] > low ? sorted->start[s] : low;
    const long last = sorted->start[s + 1] < high ? sorted->start[s + 1] : high;
    if (first < last) linear_some(m, sorted->order, first, last, w);
  }
}

static S *transposed(const Linear *m) {
  S *w = malloc(m->n_species * m->n_weights * sizeof(S));
  for (long s = 0; s < m->n_species; s++)
    for (long k = 0; k < m->n_blocks; k++) {
      const Block t = m->blocks[k];
      const S *from = m->w + s * m->n_weights + t.w;
      S *to = w + s * m->n_weights + t.w;
      for (long c = 0; c < t.n_in; c++)
        for (long n = 0; n < t.n_out; n++) to[n * t.n_in + c] = from[c * t.n_out + n];
    }
  return w;
}

long linear(const Linear *m) {
  for (long i = 0; m->species && i < m->n_atoms; i++)
    if (m->species[i] < 0 || m->species[i] >= m->n_species) return i + 1;
  const long total = m->n_species * m->n_weights;
  long *order = malloc((m->n_atoms + 1) * sizeof(long)), *start = calloc(m->n_species + 2, sizeof(long));
  for (long i = 0; i < m->n_atoms; i++) start[(m->species ? m->species[i] : 0) + 2]++;
  for (long s = 0; s < m->n_species; s++) start[s + 2] += start[s + 1];
  for (long i = 0; i < m->n_atoms; i++) order[start[(m->species ? m->species[i] : 0) + 1]++] = i;
  const Sorted sorted = {m, order, start, m->result == 1 ? transposed(m) : m->w};
  each_part(linear_part, &sorted, m->n_parts);
  if (m->result == 2)
    for (long p = 1; p < m->n_parts; p++)
      for (long k = 0; k < total; k++) m->w[k] += m->w[p * total + k];
  if (m->result == 1) free(sorted.w);
  free(order);
  free(start);
  return 0;
}

/* ---- the gate: SiLU of even scalars, tanh of odd ones, other irreps times the SiLU of their gates */

typedef struct { V f, f1, f2; } Value; /* a function and its first two derivatives */

#if DOUBLE
static inline V exponential(V x) {
  V y;
  for (int k = 0; k < W; k++) y[k] = exp(x[k]);
  return y;
}
#else
typedef int I __attribute__((vector_size(W * sizeof(int)), aligned(sizeof(int)), may_alias));

static inline V smaller(V a, V b) {
  const I first = a < b;
  return (V)(((I)a & first) | ((I)b & ~first));
}

/* 2^n e^r with |r| <= ln 2 / 2, and for e^r the polynomial of Cephes' expf (S. Moshier) */
static inline V exponential(V x) {
  const V limit = (V){0} + 87, y = -smaller(-smaller(x, limit), limit);
  const V magic = (V){0} + 12582912, n = (y * 1.44269504f + magic) - magic;
  const V r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = (V){0} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  return p * (V)((__builtin_convertvector(n, I) + 127) << 23);
}
#endif

static inline Value silu(V x, S gain) {
  const V s = 1 / (1 + exponential(-x)), slope = s * (1 - s);
  return (Value){gain * x * s, gain * (s + x * slope), gain * slope * (2 + x * (1 - 2 * s))};
}

static inline Value hyperbolic(V x, S gain) {
#if DOUBLE
  V t;
  for (int k = 0; k < W; k++) t[k] = tanh(x[k]);
#else
  /* for small x the formula of ``far`` loses all digits, because it subtracts two numbers near 1 */
  const V x2 = x * x, far = 2 / (1 + exponential(-2 * x)) - 1;
  const V near = x * (1 - x2 * (1.f / 3 - x2 * (2.f / 15 - x2 * (17.f / 315))));
  const I small = x2 < 0.02f;
  const V t = (V)(((I)near & small) | ((I)far & ~small));
#endif
  const V slope = 1 - t * t;
  return (Value){gain * t, gain * slope, -2 * gain * t * slope};
}

static void gate_scalars(const Gate *a, const GateBlock p, long atom) {
  const S *x = a->x + atom * a->dim_x + p.x;
  const long to = atom * a->dim_x + p.x, from = atom * a->dim_y + p.y;
  for (long c = 0; c < p.channels; c += W) {
    const long n = p.channels - c;
    const Value v = p.activation ? hyperbolic(load(x + c, n), a->tanh_gain) : silu(load(x + c, n), a->silu_gain);
    if (a->order == 0) { store(a->y + from + c, v.f, n); continue; }
    const V g = load(a->g + from + c, n);
    if (a->order == 1) { store(a->gx + to + c, v.f1 * g, n); continue; }
    const V dx = load(a->dx + to + c, n);
    store(a->dg + from + c, v.f1 * dx, n);
    store(a->gx + to + c, v.f2 * g * dx, n);
  }
}

static void gate_block(const Gate *a, const GateBlock p, long atom) {
  const long in = atom * a->dim_x, out = atom * a->dim_y;
  for (long c = 0; c < p.channels; c += W) {
    const long n = p.channels - c, gate = in + p.gate + c;
    const Value v = silu(load(a->x + gate, n), a->silu_gain);
    const V dt = a->order == 2 ? load(a->dx + gate, n) : (V){0};
    V along = {0}, across = {0};
    for (long m = 0; m < p.rows; m++) {
      const long i = in + p.x + m * p.channels + c, o = out + p.y + m * p.channels + c;
      const V x = load(a->x + i, n);
      if (a->order == 0) { store(a->y + o, v.f * x, n); continue; }
      const V g = load(a->g + o, n);
      along += g * x;
      if (a->order == 1) { store(a->gx + i, v.f * g, n); continue; }
      const V dx = load(a->dx + i, n);
      across += g * dx;
      store(a->dg + o, v.f1 * dt * x + v.f * dx, n);
      store(a->gx + i, v.f1 * dt * g, n);
    }
    if (a->order == 1) store(a->gx + gate, v.f1 * along, n);
    if (a->order == 2) store(a->gx + gate, v.f2 * dt * along + v.f1 * across, n);
  }
}

static void gate_part(const void *given, long p) {
  const Gate *a = given;
  for (long atom = a->n_atoms * p / a->n_parts; atom < a->n_atoms * (p + 1) / a->n_parts; atom++)
    for (long k = 0; k < a->n_blocks; k++)
      if (a->blocks[k].activation == 2) gate_block(a, a->blocks[k], atom);
      else gate_scalars(a, a->blocks[k], atom);
}

void gate(const Gate *a) { each_part(gate_part, a, a->n_parts); }
