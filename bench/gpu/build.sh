# moepp-native, for the card or for a list of architectures.
# shellcheck shell=bash disable=SC2154

# Sets program where none is given, and the folder that it is built in.
program_of_build() {
  PATH=$PATH:${CUDA_PATH:-/usr/local/cuda}/bin
  if [ -z "$architectures" ] && [ "$card" != none ]; then
    # wgmma and setmaxnreg are in sm_90a alone.
    architectures=$capability-real
    [ "$capability" = 90 ] && architectures=90a-real
  fi
  build=build/gpu-native-$(tr ';' + <<<"$architectures")
  if [ -n "$program" ]; then
    [ -x "$program" ] || wrong_use "--program: $program is no program"
    given_program=1
  else
    program=$build/moepp-native
    given_program=
  fi
}

program_commit() {
  cat "$program.commit" 2>/dev/null || echo "of the program is not known"
}

# The C++ library is part of the program, and unused code is not: it runs on other machines. Their
# glibc must be as new as the program's newest symbol.
stage_build() {
  local generator=() glibc
  if [ -n "$given_program" ]; then
    skip "the program is $program"
    return
  fi
  # No later stage may take an old program for the new one.
  rm -f "$program" "$program.commit"
  if ! command -v nvcc >/dev/null; then
    echo "nvcc was not found: install the CUDA toolkit, or bring a program (--program)"
    note "no nvcc"
    return 1
  fi
  if ! command -v cmake >/dev/null; then
    echo "CMake was not found: install it, or bring a program (--program)"
    note "no CMake"
    return 1
  fi
  command -v ninja >/dev/null && generator=(-G Ninja)
  cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DMOEPP_ADDON=OFF \
    -DMOEPP_NATIVE=ON -DMOEPP_SIMT=OFF -DMOEPP_CUDA=ON -DMOEPP_WERROR=OFF \
    -DMOEPP_CUDA_ARCHITECTURES="$architectures" \
    -DCMAKE_EXE_LINKER_FLAGS="-static-libstdc++ -static-libgcc -s -Wl,--gc-sections" || return 1
  cmake --build "$build" --target moepp-native --parallel "$(nproc)" || return 1
  git log -1 --format=%h >"$program.commit" 2>/dev/null || rm -f "$program.commit"
  glibc=$(glibc_needed)
  echo "the program needs ${glibc:-a glibc that neither objdump nor readelf names}"
  note "$program, $(($(wc -c <"$program") >> 20)) MiB, for $architectures${glibc:+, $glibc}"
}
# The newest version among those of the program's symbols.
glibc_needed() {
  { objdump -T "$program" || readelf -V "$program"; } 2>/dev/null |
    grep -o 'GLIBC_[0-9.]*' | sort -u -V | tail -n 1
}
