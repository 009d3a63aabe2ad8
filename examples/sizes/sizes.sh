#!/bin/sh
# Lines, words and bytes of each text of a batch, counted by one `wc` for all of them.
set -eu
cd "$TMP_INPUT_DIR"
for file in *; do
  if [ "$(tr -d '\000' <"$file" | wc -c)" -ne "$(wc -c <"$file")" ]; then
    echo "$file: not a text" >&2
    exit 65
  fi
done
wc -- * | while read -r lines words bytes name; do
  if [ -e "$name" ]; then
    echo "$lines lines, $words words, $bytes bytes" >"$TMP_OUTPUT_DIR/${name%.*}.size" # named like its input
  fi
done
echo "counted in one run: $(ls | wc -l) texts"
