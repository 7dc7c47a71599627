"""The command line ``equiforce``: train, evaluate, md, lammps, study, info and config.

Each command imports heavy modules in its own function, so that ``equiforce --help`` stays fast.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from equiforce.cli import study
from equiforce.errors import DivergedError, InputError

app = typer.Typer(
    help="E(3)-equivariant interatomic potentials: from quantum-mechanical data to molecular dynamics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(study.app, name="study")
INTERRUPTED = study.INTERRUPTED

Sets = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.OPTION=VALUE", help="Override an option.")]
TrainingDevice = Annotated[str | None, typer.Option("--device", help="cpu or cuda; by default a GPU if there is one.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; the CPU by default.")]
Model = Annotated[Path, typer.Argument(help="A model file, RUN/model.eqf.")]
EnergyKey = Annotated[str | None, typer.Option(help="Key of the energies; by default the usual names are tried.")]
ForcesKey = Annotated[str | None, typer.Option(help="Key of the forces.")]
StressKey = Annotated[str | None, typer.Option(help="Key of the stress (positive under tension).")]
VirialKey = Annotated[str | None, typer.Option(help="Key of the virial, minus the stress times the volume.")]
EnergyUnit = Annotated[str | None, typer.Option(help="eV, kcal/mol, kJ/mol, Hartree, ...")]
LengthUnit = Annotated[str | None, typer.Option(help="Å, Bohr or nm.")]
Temperature = Annotated[float | None, typer.Option(help="In K.")]
Steps = Annotated[int | None, typer.Option(help="Number of time steps.")]
Timestep = Annotated[float | None, typer.Option(help="In fs.")]
Ensemble = Annotated[str | None, typer.Option(help="nve, langevin, bussi or npt.")]
Pressure = Annotated[float | None, typer.Option(help="In GPa, for npt.")]
Friction = Annotated[float | None, typer.Option(help="In 1/ps, for langevin.")]
TrajectoryEvery = Annotated[int | None, typer.Option(help="Steps between frames of the trajectory.")]
ThermoEvery = Annotated[int | None, typer.Option(help="Steps between lines of the thermo table.")]
Seed = Annotated[int | None, typer.Option(help="Random seed of the initial velocities and of the thermostat.")]
AnyOther = Annotated[list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Any other option.")]


@app.command()
def train(
    data: Annotated[list[str] | None, typer.Argument(help="Reference data: any file ASE reads, or .npz.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The run folder; runs/NAME by default.")] = None,
    config: Annotated[Path | None, typer.Option("-c", "--config", help="A YAML file of options.")] = None,
    sets: Sets = None,
    time: Annotated[str | None, typer.Option(help="Train for this wall time: 10m, 1h30m, 2d.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder, with its own data and options.")
    ] = None,
    validation: Annotated[list[str] | None, typer.Option(help="A file of validation structures.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="A file of test structures.")] = None,
    split: Annotated[str | None, typer.Option(help="The split.json of an earlier run.")] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    energy_unit: EnergyUnit = None,
    length_unit: LengthUnit = None,
    device: TrainingDevice = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of the weights and of the order of batches.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Make repeated runs bit-identical, at some cost in speed.")
    ] = False,
) -> None:
    """Train a potential on quantum-mechanical reference data."""
    from equiforce.workflow import train as run

    given = {
        "training.time": time,
        "training.max_epochs": epochs,
        "training.max_steps": steps,
        "training.device": device,
        "training.seed": seed,
        "training.deterministic": deterministic or None,
        "split.validation_file": validation,
        "split.test_file": test,
        "split.split_file": split,
        **_data_options(
            energy_key=energy_key,
            forces_key=forces_key,
            stress_key=stress_key,
            virial_key=virial_key,
            energy_unit=energy_unit,
            length_unit=length_unit,
        ),
    }
    options = {key: value for key, value in given.items() if value is not None} | _parsed(sets)
    trained = run(data, output, config=config, options=options, resume=resume, console=Console())
    if trained.outcome.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
def evaluate(
    model: Model,
    data: Annotated[list[str], typer.Argument(help="Reference data: any file ASE reads, or .npz.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the tables and plots; evaluate-NAME by default.")
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    energy_unit: EnergyUnit = None,
    length_unit: LengthUnit = None,
    max_memory: Annotated[
        float | None,
        typer.Option(help="In GB; a structure that needs more is computed in chunks. By default the free memory."),
    ] = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the errors as JSON.")] = False,
) -> None:
    """Compute errors of a model on reference data, in total, by element and by group; write plots and predictions."""
    from equiforce import model_file, workflow
    from equiforce.config import load_config

    given = _data_options(
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        virial_key=virial_key,
        energy_unit=energy_unit,
        length_unit=length_unit,
    )
    reading = load_config(None, {key: value for key, value in given.items() if value is not None}).data
    console = Console(quiet=as_json)
    potential = model_file.load(model, device or "cpu")
    structures = workflow.read_and_report(data, reading, console)
    name = Path(data[0].partition("@")[0]).stem
    folder = output or Path(f"evaluate-{name}")
    result = workflow.assess(potential, structures, folder, name, console, max_memory)
    if as_json:
        print(json.dumps(result.as_dict(), indent=1))
    else:
        print(f"table, predictions and parity plot: {folder}")


@app.command()
def md(
    model: Model,
    start: Annotated[Path, typer.Argument(help="The start structure; the last one of a file with several.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A new folder; md-NAME by default.")] = None,
    temperature: Temperature = None,
    steps: Steps = None,
    timestep: Timestep = None,
    ensemble: Ensemble = None,
    pressure: Pressure = None,
    friction: Friction = None,
    trajectory_every: TrajectoryEvery = None,
    thermo_every: ThermoEvery = None,
    seed: Seed = None,
    sets: AnyOther = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.")] = False,
    device: Device = None,
) -> None:
    """Run molecular dynamics with a model."""
    from equiforce.calculators.md import MDOptions, run_md
    from equiforce.config import read_options

    given = _md_options(
        temperature, steps, timestep, ensemble, pressure, friction, trajectory_every, thermo_every, seed
    )
    options = read_options(MDOptions, given | _parsed(sets), "md")
    folder = output or Path(f"md-{start.stem}")
    summary = run_md(model, start, options, folder, overwrite=overwrite, device=device, console=Console())
    Console().print(summary.table())
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
def lammps(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help="A model file, RUN/model.eqf.")] = None,
    start: Annotated[
        Path | None,
        typer.Argument(metavar="STRUCTURE", help="The start structure; the last one of a file with several."),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The LAMMPS input; the data file is named after it.")
    ] = Path("in.lammps"),
    temperature: Temperature = None,
    steps: Steps = None,
    timestep: Timestep = None,
    ensemble: Ensemble = None,
    pressure: Pressure = None,
    friction: Friction = None,
    trajectory_every: TrajectoryEvery = None,
    thermo_every: ThermoEvery = None,
    seed: Seed = None,
    sets: AnyOther = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    doctor: Annotated[
        bool, typer.Option("--doctor", help="Check LAMMPS, MPI and the pair style, and run one step.")
    ] = False,
) -> None:
    """Write a LAMMPS input and its data file for a model and a structure, or check the installation."""
    if doctor:
        if start is not None:
            raise InputError(f"--doctor runs the reference structure of the model file and no other: leave out {start}")
        _examine(model)
        return
    from equiforce.calculators.lammps.prepare import prepare
    from equiforce.calculators.md import MDOptions
    from equiforce.config import read_options

    if model is None or start is None:
        raise InputError("name a model file and a start structure: equiforce lammps MODEL STRUCTURE -o in.lammps")
    given = _md_options(
        temperature, steps, timestep, ensemble, pressure, friction, trajectory_every, thermo_every, seed
    )
    options = read_options(MDOptions, given | _parsed(sets), "lammps")
    prepared = prepare(model, start, output, options, overwrite=overwrite)
    Console().print(prepared.summary(), highlight=False, markup=False, soft_wrap=True)


@app.command()
def info(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything in the file as JSON.")] = False,
) -> None:
    """Print the contents of a model file: the network, its elements, its data, its errors."""
    from equiforce.model_file import read_header, summary

    header = read_header(model)
    if as_json:
        print(json.dumps(header, indent=1))
    else:
        table = Table(title=str(model), show_header=False)
        for row in summary(header):
            table.add_row(*row)
        Console().print(table)


@app.command()
def config(
    file: Annotated[Path | None, typer.Argument(help="A YAML file to check and complete.")] = None,
    sets: Sets = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print a JSON schema for editors.")] = False,
) -> None:
    """Print every option with its default, its unit and its reason, or a JSON schema of the options."""
    from equiforce.config import json_schema, load_config, to_yaml

    if schema:
        print(json.dumps(json_schema(), indent=1, ensure_ascii=False))
    else:
        print(to_yaml(load_config(file, _parsed(sets))), end="")


def _examine(model: Path | None) -> None:
    from equiforce.calculators.lammps.doctor import examine, table

    console, findings = Console(), []
    with console.status("checking LAMMPS ...") as status:
        for finding in examine(model):
            findings.append(finding)
            status.update(f"{finding.part}: checked, continuing ...")
    console.print(table(findings))
    if not findings[-1].ok:
        raise typer.Exit(1)


def _data_options(**given: str | None) -> dict[str, Any]:
    return {f"data.{name}": value for name, value in given.items()}


def _md_options(
    temperature: float | None,
    steps: int | None,
    timestep: float | None,
    ensemble: str | None,
    pressure: float | None,
    friction: float | None,
    trajectory_every: int | None,
    thermo_every: int | None,
    seed: int | None,
) -> dict[str, Any]:
    given = {
        "temperature": temperature,
        "steps": steps,
        "timestep": timestep,
        "ensemble": ensemble,
        "pressure": pressure,
        "friction": friction,
        "trajectory_every": trajectory_every,
        "thermo_every": thermo_every,
        "seed": seed,
    }
    return {key: value for key, value in given.items() if value is not None}


def _parsed(sets: list[str] | None) -> dict[str, Any]:
    import yaml

    pairs = {}
    for text in sets or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text} has no equals sign: write option=value, for example model.l_max=2")
        try:
            pairs[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {text}: the value is not YAML, such as 2, true, [8, 4] or {{H: 1.0}}") from None
    return pairs


def main() -> None:
    """Run the program ``equiforce``; an InputError, a DivergedError or an OSError is printed as one sentence."""
    try:
        app()
    # an OSError names the file that could not be read or written
    except (InputError, DivergedError, OSError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
