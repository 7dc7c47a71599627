/* Computes r_ij from positions, and dE/dr_i from dE/dr_ij, in double precision. pairs.py describes the struct Pairs. */
#include <stdlib.h>

static long first_edge(const Pairs *a, const long *atoms, const long *order, long p) {
  long e = a->n_edges * p / a->n_parts;
#define ATOM(e) atoms[order ? order[e] : (e)]
  while (e > 0 && e < a->n_edges && ATOM(e) == ATOM(e - 1)) e++;
  return e;
}

static void vectors_part(const void *given, long p) {
  const Pairs *a = given;
  for (long e = a->n_edges * p / a->n_parts; e < a->n_edges * (p + 1) / a->n_parts; e++) {
    const long i = a->centers[e], j = a->neighbors[e];
    const double *from = a->positions + 3 * i, *to = a->positions + 3 * j, *n = a->shifts + 3 * e;
    const double *cell = a->cells + 9 * (a->structures ? a->structures[i] : 0);
    for (int c = 0; c < 3; c++)
      a->vectors[3 * e + c] = to[c] - from[c] + n[0] * cell[c] + n[1] * cell[3 + c] + n[2] * cell[6 + c];
  }
}

static void add(const Pairs *a, const long *atoms, const long *order, double sign, long p) {
  const long stop = first_edge(a, atoms, order, p + 1);
  for (long e = first_edge(a, atoms, order, p); e < stop; e++) {
    const double *edge_gradients = a->vectors + 3 * (order ? order[e] : e);
    double *total = a->gradient + 3 * ATOM(e);
    for (int c = 0; c < 3; c++) total[c] += sign * edge_gradients[c];
  }
}

static void at_centers(const void *given, long p) {
  const Pairs *a = given;
  add(a, a->centers, 0, -1, p);
}

static void at_neighbors(const void *given, long p) {
  const Pairs *a = given;
  add(a, a->neighbors, a->by_neighbor, 1, p);
}

static void differences_part(const void *given, long p) {
  const Pairs *a = given;
  for (long e = a->n_edges * p / a->n_parts; e < a->n_edges * (p + 1) / a->n_parts; e++)
    for (int c = 0; c < 3; c++)
      a->vectors[3 * e + c] = a->gradient[3 * a->neighbors[e] + c] - a->gradient[3 * a->centers[e] + c];
}

/* Memory of tensors can be changed in ways that torch does not notice, so the indices are checked again here, once for
   all kernels that read the same graph after this one. Returns 0, or 1 + the first row with a wrong index. */
static long first_wrong(const Pairs *a) {
#define OUTSIDE(i, n) ((unsigned long)(i) >= (unsigned long)(n))
  for (long e = 0; e < a->n_edges; e++)
    if (OUTSIDE(a->centers[e], a->n_atoms) | OUTSIDE(a->neighbors[e], a->n_atoms) |
        OUTSIDE(a->by_neighbor[e], a->n_edges)) return e + 1;
  for (long i = 0; a->structures && i < a->n_atoms; i++)
    if (OUTSIDE(a->structures[i], a->n_structures)) return i + 1;
  return 0;
}

/* r_ij = r_j - r_i + S cell */
long vectors(const Pairs *a) {
  const long wrong = first_wrong(a);
  if (!wrong) each_part(vectors_part, a, a->n_parts);
  return wrong;
}

/* dE/dr_i = sum_j dE/dr_ji - sum_j dE/dr_ij; each atom belongs to one thread, so that no two threads add to it */
long gradient(const Pairs *a) {
  each_part(at_centers, a, a->n_parts);
  each_part(at_neighbors, a, a->n_parts);
  return 0;
}

/* the transpose of gradient */
long differences(const Pairs *a) {
  each_part(differences_part, a, a->n_parts);
  return 0;
}
