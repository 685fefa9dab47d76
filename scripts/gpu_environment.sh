# shellcheck shell=bash
# Sourced by the scripts for a GPU machine: goes to the project's folder and sets what its Python
# needs there. Ends the caller with status 2 when the folder of wheels does not exist.
#
# PYTHON            the Python to use (default: python3)
# LIGHT_MOE_SITE    a folder of extracted wheels, for packages that this Python lacks
site=""
if [ -n "${LIGHT_MOE_SITE:-}" ]; then
    site=$(realpath -e -- "$LIGHT_MOE_SITE") || exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export PYTHONPATH="$PWD${site:+:$site}${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
