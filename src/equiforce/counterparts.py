"""What options of nequip, MACE and other programs are called here: the table of docs/coming-from-nequip-or-mace.md.

A row is ``ours = program: names | program: names  # remark``; lines with an indent continue it. ``ours`` is the option,
or several that share the meaning; the section ``md`` holds the options of ``equiforce md``. Where it is ``none``, the
remark says why. ``elsewhere`` collects words of no program in particular, which are answered but not printed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

PROGRAMS = ("nequip", "nequip-allegro", "MACE", "SevenNet", "DeePMD-kit", "ASE", "LAMMPS")
COLUMNS = {"nequip, nequip-allegro": PROGRAMS[:2]} | {program: (program,) for program in PROGRAMS[2:]}  # of the page
ELSEWHERE = "elsewhere"
TABLE = """
== The network
model.kind = nequip: model_builders | MACE: model | DeePMD-kit: descriptor  # nequip or allegro
model.cutoff = nequip: r_max cutoff_radius | nequip-allegro: r_max | MACE: r_max | SevenNet: cutoff | DeePMD-kit: rcut
    | elsewhere: rmax r_cut cut_off cutoff_distance
model.pair_cutoffs = nequip: per_edge_type_cutoff | nequip-allegro: per_edge_type_cutoff
    # by ordered pair, centre first, as in {H-O: 3.0, O-H: 3.0}
model.n_layers = nequip: num_layers | nequip-allegro: num_layers | MACE: num_interactions | SevenNet:
    num_convolution_layer | DeePMD-kit: nlayers | elsewhere: num_blocks n_blocks n_interactions
model.l_max = nequip: l_max irreps_edge_sh | nequip-allegro: l_max | MACE: max_ell max_L | SevenNet: lmax lmax_edge
    lmax_node  # features and edges have the same highest degree
model.parity = nequip: parity | nequip-allegro: parity | SevenNet: is_parity
model.channels = nequip: num_features feature_irreps_hidden | MACE: num_channels hidden_irreps | SevenNet: channel |
    elsewhere: n_features n_channels hidden_channels hidden_dim
    # one number, or one for each degree, as in [64, 32] for 64x0e + 32x1o
model.scalar_channels = nequip-allegro: num_scalar_features radial_chemical_embed_dim
model.tensor_channels = nequip-allegro: num_tensor_features env_embed_multiplicity
model.embedding_channels = nequip: type_embed_num_features chemical_embedding_irreps_out
model.n_bessel model.n_basis = nequip: num_bessels num_basis | nequip-allegro: num_bessels | MACE: num_radial_basis |
    SevenNet: bessel_basis_num | elsewhere: n_rbf num_rbf
model.bessel_trainable = nequip: bessel_trainable BesselBasis_trainable
model.radial_basis = MACE: radial_type | SevenNet: radial_basis_name
model.envelope_p = nequip: polynomial_cutoff_p PolynomialCutoff_p | MACE: num_cutoff_basis | SevenNet:
    poly_cut_p_value cutoff_function | DeePMD-kit: rcut_smth
model.radial_depth = nequip: radial_mlp_depth invariant_layers | nequip-allegro: scalar_embed_mlp_hidden_layers_depth
model.radial_width = nequip: radial_mlp_width invariant_neurons | nequip-allegro: scalar_embed_mlp_hidden_layers_width
    two_body_latent_mlp_latent_dimensions | MACE: radial_MLP | SevenNet: weight_nn_hidden_neurons
    # model.radial_depth is the number of hidden layers
model.self_connection = nequip: use_sc convnet_sc | SevenNet: self_connection_type
model.residual = nequip: resnet convnet_resnet | nequip-allegro: latent_resnet
model.latent_depth = nequip-allegro: allegro_mlp_hidden_layers_depth
model.latent_width = nequip-allegro: allegro_mlp_hidden_layers_width latent_mlp_latent_dimensions
model.channel_mixing = nequip-allegro: tp_path_channel_coupling
model.readout_depth = nequip: readout_mlp_hidden_layers_depth | SevenNet: readout_as_fcn
model.readout_width = nequip: readout_mlp_hidden_layers_width conv_to_output_hidden_irreps_out | MACE: MLP_irreps |
    SevenNet: readout_fcn_hidden_neurons  # model.readout_depth must be at least 1
model.mean_neighbors = nequip: avg_num_neighbors | nequip-allegro: avg_num_neighbors | MACE: avg_num_neighbors
    compute_avg_num_neighbors | SevenNet: avg_num_neigh conv_denominator  # it is measured by default
none = MACE: correlation  # equiforce's models correlate more atoms with more layers (model.n_layers)
none = nequip: nonlinearity_type nonlinearity_scalars nonlinearity_gates readout_mlp_nonlinearity | nequip-allegro:
    allegro_mlp_nonlinearity scalar_embed_mlp_nonlinearity | MACE: gate | SevenNet: act_scalar act_gate act_radial
    readout_fcn_activation | DeePMD-kit: activation_function
    # the nonlinearities are SiLU for even scalars and gates, and tanh for odd scalars
none = MACE: interaction interaction_first  # the blocks of a network are those of its paper
none = nequip: chemical_symbols chemical_species type_names model_type_names chemical_symbol_to_type | MACE:
    atomic_numbers | SevenNet: chemical_species | DeePMD-kit: type_map | elsewhere: elements species
    # the elements are those of the training data
none = DeePMD-kit: sel  # the neighbour list holds every pair within the cutoff
== Energies of atoms, scale, repulsion
potential.reference_energies = nequip: per_type_energy_shifts per_species_rescale_shifts | MACE: E0s | SevenNet: shift
    | DeePMD-kit: atom_ener | elsewhere: atomic_energies isolated_atom_energies atomrefs
    # by element, as in {H: -13.6, O: -430.1}; by default they come from isolated atoms in the data or a fit
potential.atomic_energies_trainable = nequip: per_type_energy_shifts_trainable per_species_rescale_shifts_trainable |
    SevenNet: train_shift_scale
potential.scale = nequip: per_type_energy_scales per_species_rescale_scales global_rescale_scale | MACE: scaling std |
    SevenNet: scale
potential.scale_trainable = nequip: per_type_energy_scales_trainable per_species_rescale_scales_trainable
    global_rescale_scale_trainable
potential.zbl = nequip: pair_potential | MACE: pair_repulsion | DeePMD-kit: use_srtab | elsewhere: zbl
none = nequip: global_rescale_shift global_rescale_shift_trainable | MACE: mean
    # a shift of the total energy would not grow with the number of atoms (potential.reference_energies does)
== Data and splits
split.train_file = nequip: file_path train_file_path dataset_file_name dataset_url | MACE: train_file | SevenNet:
    load_trainset_path load_dataset_path | DeePMD-kit: systems | elsewhere: train_path training_file dataset data_path
    # or name the files after equiforce train
split.validation_file = nequip: val_file_path validation_dataset_file_name validation_dataset | MACE: valid_file |
    SevenNet: load_validset_path | elsewhere: val_file val_path  # equiforce train has the flag --validation
split.test_file = nequip: test_file_path test_dataset_file_name | MACE: test_file test_dir | SevenNet:
    load_testset_path  # equiforce train has the flag --test
split.train = nequip: n_train | elsewhere: train_fraction train_size num_train
split.validation = nequip: n_val val | MACE: valid_fraction | SevenNet: data_divide_ratio | elsewhere: val_fraction
    validation_fraction validation_split n_valid num_val val_ratio
    # a fraction if below 1, else a number of structures
split.test = nequip: n_test | elsewhere: test_fraction num_test
split.seed = nequip: dataset_seed | elsewhere: split_seed data_seed  # training.seed is that of the weights
data.energy_key data.forces_key data.stress_key = nequip: key_mapping include_keys | SevenNet: data_format_args
    # the usual names are found by default
data.energy_key = MACE: energy_key | SevenNet: y_energy
data.forces_key = MACE: forces_key | SevenNet: y_force | elsewhere: force_key
data.stress_key = MACE: stress_key | SevenNet: y_stress
data.virial_key = MACE: virials_key
data.energy_unit data.length_unit = elsewhere: units unit
none = MACE: heads head_key  # one model has one level of theory, and there are no heads
none = MACE: config_type_weights | SevenNet: use_weight
    # all structures weigh the same, so leave out what should not count
none = MACE: dipole_key dipole_weight charges_key  # charges and dipoles are not predicted
== The loss
loss.energy = nequip: total_energy per_atom_energy | MACE: energy_weight | DeePMD-kit: start_pref_e limit_pref_e |
    elsewhere: energy_loss_weight e_weight
    # the residuals are per atom; a list [[0, 1], [0.75, 10]] changes the weight during the run
loss.forces = MACE: forces_weight | SevenNet: force_loss_weight | DeePMD-kit: start_pref_f limit_pref_f | elsewhere:
    force_weight f_weight
loss.stress = MACE: stress_weight virials_weight compute_stress | SevenNet: stress_loss_weight is_train_stress |
    DeePMD-kit: start_pref_v limit_pref_v | elsewhere: virial_weight
loss.energy loss.forces loss.stress = nequip: loss_coeffs coeffs
loss.kind = MACE: loss | SevenNet: loss | elsewhere: loss_type loss_fn criterion  # mse, mae or huber
loss.huber_delta = MACE: huber_delta | SevenNet: loss_param | elsewhere: delta
loss.energy = MACE: swa start_swa stage_two start_stage_two swa_energy_weight stage_two_energy_weight
    # a second stage is a list of (fraction of the run, weight), as in [[0, 1], [0.75, 1], [0.8, 100]]
loss.forces = MACE: swa_forces_weight stage_two_forces_weight
    # a second stage is a list of (fraction of the run, weight)
loss.stress = MACE: swa_stress_weight stage_two_stress_weight
    # a second stage is a list of (fraction of the run, weight)
== The optimizer
optimizer.name = nequip: optimizer_name | MACE: optimizer | SevenNet: optimizer  # muon, adam or adamw
optimizer.learning_rate = nequip: lr learning_rate | MACE: lr | SevenNet: lr optim_param | DeePMD-kit: start_lr |
    elsewhere: rate initial_lr base_lr max_lr
optimizer.amsgrad = nequip: optimizer_amsgrad | MACE: amsgrad
optimizer.beta2 = nequip: optimizer_betas betas | MACE: beta  # the first one is 0.9
optimizer.weight_decay = nequip: optimizer_weight_decay weight_decay | MACE: weight_decay
optimizer.schedule = nequip: lr_scheduler_name lr_scheduler | MACE: scheduler | SevenNet: scheduler scheduler_param
    # cosine, plateau or constant
optimizer.warmup_steps = nequip: warmup_epochs | DeePMD-kit: warmup_ratio | elsewhere: warmup lr_warmup_steps
optimizer.final_fraction = nequip: eta_min lr_scheduler_eta_min | MACE: swa_lr stage_two_lr | DeePMD-kit: stop_lr |
    elsewhere: final_lr  # a fraction of the highest learning rate
optimizer.plateau_patience = nequip: lr_scheduler_patience | MACE: scheduler_patience
optimizer.plateau_factor = nequip: lr_scheduler_factor factor | MACE: lr_factor
optimizer.plateau_stop = nequip: min_lr early_stopping_lower_bounds
none = MACE: lr_scheduler_gamma | DeePMD-kit: decay_steps  # optimizer.schedule has cosine, plateau and constant
optimizer.clip_gradient = nequip: max_gradient_norm gradient_clip_val | MACE: clip_grad
optimizer.ema_decay = nequip: ema_decay use_ema | MACE: ema_decay ema  # 0 turns it off
== The run
training.time = nequip: max_time | elsewhere: max_hours time_limit walltime  # as in 10m, 1h30m or 2d
training.max_epochs = nequip: max_epochs | MACE: max_num_epochs | SevenNet: epoch | elsewhere: epochs n_epochs
    num_epochs
training.max_steps = nequip: max_steps | DeePMD-kit: numb_steps | elsewhere: num_steps n_steps steps max_iterations
    stop_batch
training.batch_size = nequip: batch_size | MACE: batch_size | SevenNet: batch_size | DeePMD-kit: batch_size |
    elsewhere: batchsize train_batch_size
none = nequip: validation_batch_size | MACE: valid_batch_size  # validation takes the batches of training
training.validate_every = nequip: val_check_interval check_val_every_n_epoch | MACE: eval_interval | SevenNet:
    per_epoch | DeePMD-kit: disp_freq  # it counts steps
training.early_stopping = nequip: patience early_stopping_patiences | MACE: patience
    # it counts validations; optimizer.plateau_patience is the patience of the learning rate
training.seed split.seed = nequip: seed | MACE: seed | SevenNet: random_seed  # of the weights; of the split
training.dtype = nequip: model_dtype default_dtype | MACE: default_dtype | SevenNet: dtype | DeePMD-kit: precision
    # float32 or float64
training.tf32 = nequip: allow_tf32
training.bf16 = elsewhere: amp fp16 mixed_precision
training.device = nequip: accelerator devices | MACE: device | SevenNet: device | elsewhere: use_gpu gpu
training.n_nodes = nequip: num_nodes | MACE: distributed launcher  # start the run with torchrun
training.wandb = nequip: wandb_project wandb logger | MACE: wandb wandb_project
start.model = MACE: foundation_model  # equiforce train NEW.xyz --from MODEL trains a model file further
start.replay = MACE: multiheads_finetuning pt_train_file  # files of old structures; there are no heads
none = nequip: run_name root dirpath save_dir name project
    | MACE: name work_dir log_dir model_dir results_dir checkpoints_dir | SevenNet: csv_log | elsewhere: output_dir
    out_dir outdir  # the run folder is given by -o
none = nequip: append ckpt_path | MACE: restart_latest | SevenNet: continue checkpoint | elsewhere: resume restart
    # equiforce train --resume RUN continues a run
none = nequip: compile_mode | MACE: enable_cueq only_cueq enable_oeq | SevenNet: use_flash_tp cuequivariance_config
    use_oeq  # the fused kernels are always used and compile themselves
none = nequip: metrics_components metrics_key | MACE: error_table  # the tables always have MAE and RMSE
none = nequip: num_workers shuffle train_val_split | MACE: num_workers pin_memory shuffle | SevenNet: train_shuffle
    preprocess_num_cores  # batches are shuffled, and no worker processes are needed
== Molecular dynamics
md.timestep = ASE: timestep | LAMMPS: timestep | elsewhere: dt time_step step_size  # in fs
md.temperature = ASE: temperature_K | LAMMPS: temp Tstart Tstop | elsewhere: T temperature temp_K kT  # in K
md.ensemble = ASE: VelocityVerlet Langevin Bussi | LAMMPS: fix nvt nve | elsewhere: thermostat barostat integrator
    dynamics
md.steps = ASE: steps | LAMMPS: run | elsewhere: nsteps n_steps num_steps md_steps
md.friction = ASE: friction | LAMMPS: damp | elsewhere: gamma collision_rate  # in 1/ps
md.tdamp = ASE: tdamp taut ttime | LAMMPS: Tdamp | elsewhere: tau tau_t thermostat_time  # in fs
md.pdamp = ASE: pdamp taup pfactor | LAMMPS: Pdamp | elsewhere: tau_p barostat_time  # in fs
md.pressure = ASE: pressure_au externalstress | LAMMPS: Pstart Pstop | elsewhere: P press  # in GPa
md.trajectory_every = ASE: loginterval | LAMMPS: dump | elsewhere: save_interval dump_every traj_interval stride
    write_every save_every  # it counts steps
md.thermo_every = LAMMPS: thermo | elsewhere: print_every log_every  # it counts steps
md.seed = LAMMPS: seed | elsewhere: random_seed rng_seed
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Counterpart:
    """A row of the table.

    Args:
        ours: the options of equiforce, each as ``section.option``; empty if there is none.
        names: the options that mean the same, by program.
        remark: what differs, or why there is no counterpart; may be empty.
    """

    ours: tuple[str, ...]
    names: dict[str, tuple[str, ...]]
    remark: str


@cache
def rows() -> dict[str, list[Counterpart]]:
    """The rows of the table under their headings."""
    found: dict[str, list[Counterpart]] = {}
    for line in re.sub(r"\n +", " ", TABLE).strip().splitlines():
        if line.startswith("== "):
            found[line.removeprefix("== ")] = []
            continue
        content, _, remark = line.partition(" # ")
        ours, _, cells = content.partition(" = ")
        names = {}
        for cell in cells.split(" | "):
            program, _, words = cell.partition(":")
            names[program.strip()] = tuple(words.split())
        row = Counterpart(ours=() if ours == "none" else tuple(ours.split()), names=names, remark=remark.strip())
        found[list(found)[-1]].append(row)
    return found


def plain(name: str) -> str:
    """A name without case, underscores and dashes, by which names are compared."""
    return name.lower().replace("_", "").replace("-", "")


@cache
def by_name() -> dict[str, dict[Counterpart, list[str]]]:
    """The rows that mention a name, which is spelled as by :func:`plain`, each with the programs that have it."""
    found: dict[str, dict[Counterpart, list[str]]] = {}
    for row in (row for part in rows().values() for row in part):
        for program, names in row.names.items():
            for name in dict.fromkeys(plain(name) for name in names):
                found.setdefault(name, {}).setdefault(row, []).append(program)
    return found


def markdown() -> str:
    """The tables of docs/coming-from-nequip-or-mace.md."""
    return "\n".join(line for heading, part in rows().items() for line in _table(heading, part))


def _table(heading: str, part: list[Counterpart]) -> list[str]:
    columns = {
        title: of for title, of in COLUMNS.items() if any(program in row.names for row in part for program in of)
    }
    lines = [f"### {heading}", "", f"| equiforce | {' | '.join(columns)} | remark |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for row in part:
        names = [
            dict.fromkeys(name for program in of for name in row.names.get(program, ())) for of in columns.values()
        ]
        if any(names):
            lines.append(f"| {_code(row.ours) or 'none'} | {' | '.join(map(_code, names))} | {row.remark} |")
    return [*lines, ""]


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
