// LAMMPS lists the pairs, moves the atoms and communicates between ranks; Python computes energies and edge gradients.

#include "pair_equiforce.h"

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "group.h"
#include "memory.h"
#include "modify.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "platform.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mpi.h>

using namespace LAMMPS_NS;

const char *equiforce_start(EquiforceFunctions &);

static constexpr int CHUNK = 128;          // doubles per atom in a message, which sets the size of LAMMPS' buffers
static constexpr double KCAL_PER_MOL = 23.060549; // per eV, with LAMMPS' own conversion factor
static constexpr double REJECTED = 1e100;    // the energy by which fix gcmc itself rejects atoms that overlap

static EquiforceFunctions functions = {};

static void exchange_rows(void *pair, void *rows, int64_t width, int64_t bytes, int reverse)
{
  static_cast<PairEquiforce *>(pair)->exchange(rows, width, bytes, reverse);
}

PairEquiforce::PairEquiforce(LAMMPS *lmp) :
    Pair(lmp), model{}, precision(), energy_unit(1.0), absent(0), overlaps(0), checksum(0.0)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  centroidstressflag = CENTROID_AVAIL;
  comm_forward = comm_reverse = CHUNK;
  nextra = 2;
  pvector = extra;
  extra[0] = extra[1] = 0.0;
}

PairEquiforce::~PairEquiforce()
{
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

void PairEquiforce::settings(int narg, char **arg)
{
  if (narg > 1 || (narg == 1 && strcmp(arg[0], "float32") != 0 && strcmp(arg[0], "float64") != 0))
    error->all(FLERR, "pair_style equiforce takes one optional argument, the precision of the weights: write float32 or "
                      "float64");
  precision = narg ? arg[0] : "";
}

void PairEquiforce::allocate()
{
  const int n = atom->ntypes;
  if (!allocated) {
    memory->create(setflag, n + 1, n + 1, "pair:setflag");
    memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
    allocated = 1;
  }
  for (int i = 1; i <= n; i++)
    for (int j = 1; j <= n; j++) setflag[i][j] = 0;
}

void PairEquiforce::coeff(int narg, char **arg)
{
  const int n_types = atom->ntypes;
  if (narg != 3 + n_types || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR,
               "wrong arguments of pair_coeff: write pair_coeff * * MODEL.eqf and then the chemical symbol of each of the "
               "{} atom types, or NULL for a type that the model ignores; a path with spaces needs double quotes",
               n_types);
  functions.exchange = exchange_rows;
  const char *problem = functions.compute ? nullptr : equiforce_start(functions);
  std::string elements;
  for (int type = 1; type <= n_types; type++) elements += std::string(type > 1 ? " " : "") + arg[2 + type];
  species_of_type.assign(n_types + 1, -1);
  if (problem)
    strncpy(model.problem, problem, sizeof(model.problem) - 1);
  else
    functions.load(arg[2], elements.c_str(), precision.c_str(), comm->nprocs, &species_of_type[1], &model);
  // a file or Python may be missing on some ranks only
  const std::string rank = comm->me ? "rank " + std::to_string(comm->me) + ": " : std::string();
  stop_if_any(model.problem[0] ? rank + model.problem : std::string());

  allocate();
  for (int i = 1; i <= n_types; i++)
    for (int j = 1; j <= n_types; j++) setflag[i][j] = species_of_type[i] >= 0 && species_of_type[j] >= 0;
  comm_forward = comm_reverse = model.n_hops == 1 ? 0 : CHUNK;
}

// Every rank calls this. If some have a problem, all stop with that of the lowest of these ranks.
void PairEquiforce::stop_if_any(const std::string &problem)
{
  int first = problem.empty() ? comm->nprocs : comm->me, any;
  MPI_Allreduce(&first, &any, 1, MPI_INT, MPI_MIN, world);
  if (any == comm->nprocs) return;
  char sentence[2048] = {};
  strncpy(sentence, problem.c_str(), sizeof(sentence) - 1);
  MPI_Bcast(sentence, sizeof(sentence), MPI_CHAR, any, world);
  error->all(FLERR, "{}", sentence);
}

void PairEquiforce::init_style()
{
  check_simulation();
  check_masses();
  energy_unit = strcmp(update->unit_style, "real") == 0 ? KCAL_PER_MOL : 1.0;
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

void PairEquiforce::check_simulation()
{
  const std::string units = update->unit_style;
  if (units != "metal" && units != "real")
    error->all(FLERR, "pair_style equiforce supports units metal (and real, by conversion), not units {}: write units "
                      "metal and give all other settings in these units", units);
  if (!force->newton_pair)
    error->all(FLERR, "pair_style equiforce needs newton on because each rank also computes forces on atoms of other "
                      "ranks: remove newton off, and -pk and package commands that turn it off");
  if (model.n_hops > 1)
    for (auto &compute : modify->get_compute_list())
      if (utils::strmatch(compute->style, "^heat/flux"))
        error->all(FLERR, "compute {} needs a heat flux, which does not follow from the virials of atoms in a "
                          "message-passing model, where an energy depends on atoms beyond the cutoff: use an Allegro "
                          "model", compute->id);
}

// Compares masses with elements; a type whose atoms have several masses is not checked.
void PairEquiforce::check_masses()
{
  const int n_types = atom->ntypes;
  std::vector<double> masses(n_types, 0.0);
  if (atom->rmass_flag) {
    std::vector<double> ends(2 * n_types, HUGE_VAL), all(2 * n_types);    // the smallest mass, and minus the largest
    for (int i = 0; i < atom->nlocal; i++) {
      double *end = &ends[2 * (atom->type[i] - 1)];
      end[0] = std::min(end[0], atom->rmass[i]), end[1] = std::min(end[1], -atom->rmass[i]);
    }
    MPI_Allreduce(ends.data(), all.data(), 2 * n_types, MPI_DOUBLE, MPI_MIN, world);
    for (int k = 0; k < n_types; k++)
      if (all[2 * k] == -all[2 * k + 1]) masses[k] = all[2 * k];
  } else if (atom->mass)
    for (int k = 0; k < n_types; k++)
      if (atom->mass_setflag[k + 1]) masses[k] = atom->mass[k + 1];
  functions.check_masses(&model, masses.data());
  if (model.problem[0]) error->all(FLERR, "{}", model.problem);
  if (model.note[0] && noted != model.note && comm->me == 0) error->warning(FLERR, "{}", model.note);
  noted = model.note;
}

// Checks settings that LAMMPS knows only after the simulation is set up.
void PairEquiforce::check_neighbors()
{
  for (int k = 1; k < 4; k++)
    if (atom->molecular != Atom::ATOMIC && neighbor->special_flag[k] == 0)
      error->all(FLERR, "pair_style equiforce needs bonded pairs, but the special_bonds setting removes 1-{} neighbors "
                        "from the list: write special_bonds lj/coul 1.0 1.0 1.0", k + 1);
  absent = 0;
  for (int k = 0; k < neighbor->nex_group; k++) {
    const std::string one = group->names[neighbor->ex1_group[k]], other = group->names[neighbor->ex2_group[k]];
    if (other == "all" && (utils::strmatch(one, "^FixGCMC:") || utils::strmatch(one, "^FixWidom:")))
      absent |= neighbor->ex1_bit[k];
    else
      error->all(FLERR, "pair_style equiforce needs all pairs, but neigh_modify exclude group {} {} removes some from the "
                        "list, on which the forces on other atoms depend: remove it, and hold atoms in place by fix "
                        "setforce 0.0 0.0 0.0 or without time integration", one, other);
  }
  if (neighbor->nex_type || neighbor->nex_mol)
    error->all(FLERR, "pair_style equiforce needs all pairs, but neigh_modify exclude {} removes some from the list: remove "
                      "it, or give types that the model shall ignore NULL in pair_coeff",
               neighbor->nex_type ? "type" : "molecule");
  if (comm->get_comm_cutoff() < model.cutoff)
    error->all(FLERR, "the cutoff of the model is {} Å, but ranks know atoms of other ranks only within {} Å: raise "
                      "comm_modify cutoff", model.cutoff, comm->get_comm_cutoff());
}

double PairEquiforce::init_one(int i, int j)
{
  if (!setflag[i][j]) error->all(FLERR, "pair_style equiforce has no model for some atom types: add pair_coeff");
  return model.cutoff;
}

void PairEquiforce::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  if (neighbor->ago == 0) check_neighbors();
  list_atoms();
  overlaps = 0;
  checksum = 0.0;
  broken.clear();
  if (model.n_hops == 1)
    compute_center_batches();
  else
    compute_at_once();
  if (broken.empty() && !std::isfinite(checksum))
    broken = in_step("the energy or the forces are not finite: use a shorter timestep, or train the model on structures "
                     "like this one");
  stop_if_any(broken);
  if (eflag_global && overlaps) eng_vdwl += REJECTED;
  if (vflag_fdotr) virial_fdotr_compute();
}

std::string PairEquiforce::fault_of(tagint i, tagint j, double distance)
{
  if (!std::isfinite(distance))
    return fmt::format("atom {} or {} (IDs of LAMMPS) is at no finite position: use a shorter timestep, or train the model "
                       "on structures like this one", i, j);
  return fmt::format("atoms {} and {} (IDs of LAMMPS) are {:.2g} Å apart, closer than {:g} Å: is one a copy, is the cell or "
                     "the unit of length wrong, or has the simulation exploded?", std::min(i, j), std::max(i, j), distance,
                     model.coincident);
}

std::string PairEquiforce::in_step(const std::string &problem)
{
  return fmt::format("equiforce, in step {}: {}", update->ntimestep, problem);
}

// Marks the atoms that the model computes: those whose type is not NULL, that LAMMPS lists for this pair style, and that
// a trial move has not removed.
void PairEquiforce::list_atoms()
{
  listed.assign(atom->nlocal, 0);
  for (int k = 0; k < list->inum; k++) {
    const int i = list->ilist[k];
    listed[i] = species_of_type[atom->type[i]] >= 0 && !(atom->mask[i] & absent);
  }
}

// Adds the edges of one centre; a neighbour is given by its index among all atoms, or by its species.
void PairEquiforce::add_edges(int i, int64_t center, bool by_species)
{
  double **x = atom->x;
  const double range = model.cutoff * model.cutoff;
  const int *others = list->firstneigh[i], n_others = list->numneigh[i];
  for (int k = 0; k < n_others; k++) {
    const int j = others[k] & NEIGHMASK;
    const int64_t kind = species_of_type[atom->type[j]];
    const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
    const double square = dx * dx + dy * dy + dz * dz;
    if (square >= range || kind < 0) continue;
    const bool coincide = square < model.coincident * model.coincident;
    if (coincide && absent) {    // fix gcmc and fix widom place atoms anywhere
      overlaps++;
      continue;
    }
    if (coincide || !std::isfinite(square)) {
      if (broken.empty()) broken = in_step(fault_of(atom->tag[i], atom->tag[j], std::sqrt(square)));
      continue;
    }
    centers.push_back(center);
    neighbors.push_back(by_species ? kind : j);
    owners.push_back(j);
    vectors.insert(vectors.end(), {dx, dy, dz});
  }
}

void PairEquiforce::sort_by_neighbor(int64_t n_atoms)
{
  counts.assign(n_atoms + 1, 0);
  for (int64_t j : neighbors) counts[j + 1]++;
  for (int64_t j = 0; j < n_atoms; j++) counts[j + 1] += counts[j];
  by_neighbor.resize(neighbors.size());
  for (size_t edge = 0; edge < neighbors.size(); edge++) by_neighbor[counts[neighbors[edge]]++] = edge;
}

// Message passing: all atoms in one batch, owned atoms first and then ghosts, because layers exchange features of ghosts.
void PairEquiforce::compute_at_once()
{
  const int n_owned = atom->nlocal, n_atoms = n_owned + atom->nghost;
  species.resize(n_atoms);
  for (int i = 0; i < n_atoms; i++) species[i] = std::max<int64_t>(0, species_of_type[atom->type[i]]);
  size_t max_edges = 0;
  for (int i = 0; i < n_owned; i++)
    if (listed[i]) max_edges += list->numneigh[i];
  // reserved because a vector that grows holds its contents twice for a moment
  centers.clear(), neighbors.clear(), owners.clear(), vectors.clear();
  centers.reserve(max_edges), neighbors.reserve(max_edges), owners.reserve(max_edges), vectors.reserve(3 * max_edges);
  for (int i = 0; i < n_owned; i++)
    if (listed[i]) add_edges(i, i, false);
  stop_if_any(broken);    // before the ranks wait for one another's features
  energy_mask = listed;
  run(n_owned, n_atoms);
  tally(0, n_owned);
}

// Strictly local models: batches of centres, because the model needs only the species and the vector of a neighbour.
void PairEquiforce::compute_center_batches()
{
  const int n_owned = atom->nlocal;
  for (int first = 0, stop; first < n_owned && broken.empty(); first = stop) {
    species.clear(), centers.clear(), neighbors.clear(), owners.clear(), vectors.clear();
    for (stop = first; stop < n_owned; stop++) {
      const size_t more = listed[stop] ? list->numneigh[stop] : 0;
      if (stop > first && centers.size() + more > static_cast<size_t>(model.edges_at_once)) break;
      species.push_back(std::max<int64_t>(0, species_of_type[atom->type[stop]]));
      if (listed[stop]) add_edges(stop, stop - first, true);
    }
    const int64_t n_centers = stop - first, n_atoms = n_centers + model.n_species;
    for (int64_t kind = 0; kind < model.n_species; kind++) species.push_back(kind);
    for (int64_t &neighbor : neighbors) neighbor += n_centers;
    energy_mask.assign(listed.begin() + first, listed.begin() + stop);
    if (!broken.empty()) return;
    run(n_centers, n_atoms);
    tally(first, n_centers);
  }
}

void PairEquiforce::run(int64_t n_centers, int64_t n_atoms)
{
  sort_by_neighbor(n_atoms);
  energies.resize(n_centers);
  edge_gradients.resize(vectors.size());
  EquiforceBatch batch = {};
  batch.model = model.number;
  batch.n_centers = n_centers, batch.n_atoms = n_atoms, batch.n_edges = static_cast<int64_t>(centers.size());
  batch.species = species.data(), batch.centers = centers.data(), batch.neighbors = neighbors.data();
  batch.by_neighbor = by_neighbor.data(), batch.vectors = vectors.data(), batch.energy_mask = energy_mask.data();
  batch.energies = energies.data(), batch.edge_gradients = edge_gradients.data(), batch.pair = this;
  if (!functions.compute(&batch)) return;
  broken = in_step(batch.problem);
  if (model.n_hops > 1) error->one(FLERR, "{}", broken);    // the other ranks may wait for the features of this one
}

void PairEquiforce::tally(int first, int64_t n_centers)
{
  double **f = atom->f;
  for (int64_t k = 0; k < n_centers; k++) {
    const double energy = energy_unit * energies[k];
    checksum += energy;
    if (eflag_global) eng_vdwl += energy;
    if (eflag_atom) eatom[first + k] += energy;
  }
  for (size_t edge = 0; edge < owners.size(); edge++) {
    const int i = first + static_cast<int>(centers[edge]), j = owners[edge];
    const double *r = &vectors[3 * edge];
    double g[3];
    for (int a = 0; a < 3; a++) {
      g[a] = energy_unit * edge_gradients[3 * edge + a];
      f[i][a] += g[a];
      f[j][a] -= g[a];
      checksum += g[a];
    }
    if (!(vflag_global || vflag_atom || cvflag_atom)) continue;
    const double v[6] = {-r[0] * g[0], -r[1] * g[1], -r[2] * g[2], -r[0] * g[1], -r[0] * g[2], -r[1] * g[2]};
    if (vflag_global)
      for (int a = 0; a < 6; a++) virial[a] += v[a];
    if (vflag_atom)
      for (int a = 0; a < 6; a++) vatom[j][a] += v[a];
    // the neighbour gets the whole virial of an edge, as a correct heat flux needs (Fan et al.,
    // doi:10.1103/PhysRevB.92.094301)
    if (cvflag_atom) {
      for (int a = 0; a < 6; a++) cvatom[j][a] += v[a];
      cvatom[j][6] -= r[1] * g[0], cvatom[j][7] -= r[2] * g[0], cvatom[j][8] -= r[2] * g[1];
    }
  }
}

double PairEquiforce::memory_usage()
{
  return 8.0 * (species.capacity() + centers.capacity() + neighbors.capacity() + by_neighbor.capacity() +
                counts.capacity() + vectors.capacity() + energies.capacity() + edge_gradients.capacity()) +
      4.0 * owners.capacity() + energy_mask.capacity() + listed.capacity();
}

// Forward communication copies the rows of atoms to their ghosts; reverse communication adds the rows of ghosts to their
// atoms. Each message carries as many columns as LAMMPS' buffers hold.
void PairEquiforce::exchange(void *matrix, int64_t width, int64_t bytes, bool reverse)
{
  const double began = platform::walltime();
  rows = static_cast<char *>(matrix);
  row_bytes = width * bytes, item_bytes = bytes;
  for (first_byte = 0; first_byte < row_bytes; first_byte += n_bytes) {
    n_bytes = std::min<int64_t>(row_bytes - first_byte, CHUNK * sizeof(double));
    const int size = static_cast<int>((n_bytes + sizeof(double) - 1) / sizeof(double));
    if (reverse) {
      comm_reverse = size;
      comm->reverse_comm(this);
    } else {
      comm_forward = size;
      comm->forward_comm(this);
    }
  }
  comm_forward = comm_reverse = CHUNK;
  extra[0] += platform::walltime() - began;
  extra[1] += static_cast<double>(atom->nghost) * row_bytes;
}

int PairEquiforce::pack_forward_comm(int n, int *atoms, double *buffer, int, int *)
{
  for (int k = 0; k < n; k++)
    std::memcpy(buffer + static_cast<size_t>(k) * comm_forward, rows + atoms[k] * row_bytes + first_byte, n_bytes);
  return n * comm_forward;
}

void PairEquiforce::unpack_forward_comm(int n, int first, double *buffer)
{
  for (int k = 0; k < n; k++)
    std::memcpy(rows + (first + k) * row_bytes + first_byte, buffer + static_cast<size_t>(k) * comm_forward, n_bytes);
}

int PairEquiforce::pack_reverse_comm(int n, int first, double *buffer)
{
  for (int k = 0; k < n; k++)
    std::memcpy(buffer + static_cast<size_t>(k) * comm_reverse, rows + (first + k) * row_bytes + first_byte, n_bytes);
  return n * comm_reverse;
}

template <typename T> void PairEquiforce::add_rows(int n, const int *atoms, const double *buffer)
{
  for (int k = 0; k < n; k++) {
    T *to = reinterpret_cast<T *>(rows + atoms[k] * row_bytes + first_byte);
    const T *from = reinterpret_cast<const T *>(buffer + static_cast<size_t>(k) * comm_reverse);
    for (int64_t c = 0; c < n_bytes / static_cast<int64_t>(sizeof(T)); c++) to[c] += from[c];
  }
}

void PairEquiforce::unpack_reverse_comm(int n, int *atoms, double *buffer)
{
  if (item_bytes == sizeof(float))
    add_rows<float>(n, atoms, buffer);
  else
    add_rows<double>(n, atoms, buffer);
}
