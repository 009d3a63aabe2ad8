#!/bin/sh
# Removes from a virtual environment what nothing of tidemill reads, and compiles the rest.
set -eu
cd "$1"/lib/python3*/site-packages
find . -depth -type d \( -name tests -o -name testing -o -name test \) -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete
if [ -d botocore/data ]; then # descriptions of 400 services; ours are these
  find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name sqs ! -name sns -exec rm -rf {} +
fi
# unchecked: a start looks at no source's time, and the layer's bytes do not depend on it
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$1" -p /opt/tidemill "$PWD"
