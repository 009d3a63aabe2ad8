#!/bin/sh
# The ten most frequent words of a text, most frequent first; POSIX tools alone.
set -eu
tr '[:upper:]' '[:lower:]' <"$INPUT_FILE_PATH" | tr -cs '[:alpha:]' '\n' | sed '/^$/d' |
  sort | uniq -c | sort -k1,1nr -k2 | head -n 10 | while read -r count word; do
    printf '%s %s\n' "$count" "$word"
  done >"$TMP_OUTPUT_DIR/words.txt"
