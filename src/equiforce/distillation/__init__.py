"""Teaches a small, fast potential what a large one says: ``equiforce distill``.

``starts`` reads the start structures and disturbs copies of them; ``trajectories`` lets the teacher move them;
``selection`` chooses frames that differ, with ``descriptors``; ``labelling`` asks the teacher, and ``task`` has what it
answered; ``training`` trains the student; in ``rounds`` the student moves the atoms itself; ``comparison`` and
``radial`` measure the student beside its teacher; ``report`` says what they found, and ``origin`` from whom the student
learned. ``work`` joins these.
"""
