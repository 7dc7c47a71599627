"""``equiforce lammps``."""


def test_lammps_writes_an_input_or_says_what_is_missing(equiforce, model, place):
    status, out, _ = equiforce("lammps", model, "copper.xyz", "-o", "in.lammps", "--steps", "7")
    assert status == 0
    assert "mpirun -np 2 lmp -in in.lammps" in out
    assert "variable steps index 7 " in (place / "in.lammps").read_text()
    for arguments, sentence in (
        ((model, "copper.xyz"), "in.lammps exists already"),
        ((model,), "name a model file and a start structure"),
        ((model, "copper.xyz", "--doctor"), "leave out copper.xyz"),
        ((model, "water.xyz", "-o", "other.lammps"), "it was trained on Cu"),
    ):
        status, _, err = equiforce("lammps", *arguments)
        assert (status, err.count("\n")) == (1, 1)
        assert sentence in err
    assert not (place / "other.lammps").exists()
