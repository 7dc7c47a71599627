// pair_style equiforce: energies and forces from a model that Python computes in this process.
#pragma once

#include "pair.h"

#include <cstdint>
#include <string>
#include <vector>

// Structures that C++ and Python exchange; host.py declares the same layout.
extern "C" {
struct EquiforceModel {
  int64_t number;       // index of the model in Python
  int64_t n_hops;       // number of edges between an atom and the farthest atom on which its energy depends
  int64_t n_species;
  int64_t edges_at_once;    // largest number of edges in a batch of a strictly local model
  double cutoff;        // Å
  double coincident;    // Å; atoms closer than this are an error
  char problem[1024];   // error message
  char note[1024];      // warning
};

struct EquiforceBatch {
  int64_t model, n_centers, n_atoms, n_edges;
  const int64_t *species, *centers, *neighbors, *by_neighbor;
  const double *vectors;     // [n_edges 3] from centre to neighbour, Å
  const uint8_t *energy_mask;    // [n_centers]
  double *energies;          // [n_centers] eV
  double *edge_gradients;    // [n_edges 3] derivative of the energy with respect to the vectors, eV/Å
  void *pair;                // the pair style that exchanges the ghosts
  char problem[1024];        // error message
};

struct EquiforceFunctions {
  // species_of_type is -1 for NULL
  void (*load)(const char *path, const char *elements, const char *precision, int n_ranks, int64_t *species_of_type,
               EquiforceModel *);
  void (*check_masses)(EquiforceModel *, const double *mass_of_type);    // 0 for an unknown mass
  int (*compute)(EquiforceBatch *);
  void (*exchange)(void *pair, void *rows, int64_t width, int64_t bytes, int reverse);
};
}

namespace LAMMPS_NS {

class PairEquiforce : public Pair {
 public:
  PairEquiforce(class LAMMPS *);
  ~PairEquiforce() override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  double memory_usage() override;

  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

  void exchange(void *rows, int64_t width, int64_t bytes, bool reverse);

 private:
  EquiforceModel model;
  std::string precision;
  std::vector<int64_t> species_of_type;    // -1 for a type that the model ignores
  double energy_unit;                  // 1 eV in LAMMPS' units
  std::string noted;                   // the last warning
  int absent;    // mask of the groups whose atoms do not exist in a trial move of fix gcmc or fix widom
  int overlaps;    // number of pairs that coincide in such a trial
  std::string broken;    // what this rank has found to be wrong in the present step
  double checksum;    // not finite if any energy or edge gradient of the present step is not

  // the present batch
  std::vector<int64_t> species, centers, neighbors, by_neighbor, counts;
  std::vector<int> owners;    // LAMMPS' index of the neighbour of each edge
  std::vector<double> vectors, energies, edge_gradients;
  std::vector<uint8_t> energy_mask, listed;

  // the present exchange: some columns of a matrix with a row for each atom
  char *rows;
  int64_t row_bytes, first_byte, n_bytes, item_bytes;
  double extra[2];    // for compute pair: seconds and bytes of all exchanges

  void allocate();
  void stop_if_any(const std::string &problem);
  std::string in_step(const std::string &problem);
  std::string fault_of(tagint, tagint, double distance);
  void check_simulation();
  void check_masses();
  void check_neighbors();
  void list_atoms();
  void add_edges(int atom, int64_t center, bool by_species);
  void sort_by_neighbor(int64_t n_atoms);
  void compute_at_once();
  void compute_center_batches();
  void run(int64_t n_centers, int64_t n_atoms);
  void tally(int first, int64_t n_centers);
  template <typename T> void add_rows(int, const int *, const double *);
};

}    // namespace LAMMPS_NS
