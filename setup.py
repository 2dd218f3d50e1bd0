"""The compiled kernels, which the package can do without: if there is no compiler, it is installed without them."""

from pathlib import Path

from setuptools import Extension, setup

FOLDER = Path("gls_es") / "kernels"
# products and sums may be fused, which rounding models allow for; nothing else may be rearranged
FLAGS = ["-O2", "-g0", "-ffp-contract=fast", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wno-psabi"]

setup(
    ext_modules=[
        Extension(
            "gls_es.kernels._kernels",
            sources=[str(FOLDER / "kernels.c")],
            depends=[str(path) for path in sorted(FOLDER.glob("*.h"))],
            extra_compile_args=FLAGS,
            py_limited_api=True,  # it is loaded by ctypes: any Python will do
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
