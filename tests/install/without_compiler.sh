#!/usr/bin/env bash
# Install and use the library where Python and make are, and no compiler: from a checkout by the two
# commands of the README and by pip, and from the wheels in dist/ (of `make build`), if they are there.
# Each says by show_config whether the kernels are in use. It takes about ten minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
tree=$PWD
PYTHON=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')

# A PATH of its own, as that of a small container image.
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/bin"
for tool in bash cat cp echo env expand find grep head ls make mkdir mktemp rm sed sh tail touch uname; do
    ln -s "$(command -v "$tool")" "$place/bin/$tool"
done
git ls-files -z | xargs -0 cp --parents -t "$(mkdir "$place/checkout" && echo "$place/checkout")"
ln -s "$PYTHON" "$place/bin/python3"
export PATH=$place/bin
unset CC PYTHONPATH
for compiler in cc c++ gcc g++ clang tcc zig as ld; do
    if command -v "$compiler"; then echo "without_compiler: $compiler is on the PATH"; exit 1; fi
done

pip() { "$1/bin/python" -m pip install -qq -c "$tree/constraints.txt" "${@:2}"; }
# The way that show_config must name; and a draw and its gradient are finite.
expect() {
    (cd "$place" && "$1/bin/python" -W error - "$2") <<'END'
import contextlib, io, sys
import relaxed_dists, torch
from relaxed_dists.pyro import RelaxedOneHotCategorical
with contextlib.redirect_stdout(io.StringIO()) as printed:
    relaxed_dists.show_config()
print(printed.getvalue())
logits = torch.zeros(100, 10, requires_grad=True)
d = RelaxedOneHotCategorical(0.5, logits=logits)
d.log_prob(d.rsample()).sum().backward()
assert logits.grad is not None and logits.grad.isfinite().all()
assert printed.getvalue().splitlines()[-1].startswith(f"In torch: {sys.argv[1]}"), sys.argv[1]
END
}

echo "== A checkout, by pip: without kernels"
python3 -m venv "$place/pip"
pip "$place/pip" pip
pip "$place/pip" "$place/checkout[pyro]"
expect "$place/pip" "torch's operations: the package was built without kernels"

echo "== A checkout, by make: the kernels are compiled by ziglang"
make -s -C "$place/checkout" demo ARGS="--steps 20"
make -s -C "$place/checkout" test PYTEST_ARGS="-q -k test_show_config"
expect "$place/checkout/.venv" "compiled kernels"

for wheel in "$tree"/dist/*-manylinux*_"$(uname -m)".whl "$tree"/dist/*-any.whl; do
    [ -e "$wheel" ] || continue
    echo "== $(echo "$wheel" | sed 's|.*/||')"
    pip "$place/pip" --force-reinstall --no-deps "$wheel"
    case $wheel in *-any.whl) way="torch's operations" ;; *) way="compiled kernels" ;; esac
    expect "$place/pip" "$way"
done
echo "without_compiler: passed"
