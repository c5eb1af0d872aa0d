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
    program=$(cd "$(dirname "$program")" && pwd)/$(basename "$program")
    given_program=1
  else
    program=$build/moepp-native
    given_program=
  fi
}

program_commit() {
  cat "$program.commit" 2>/dev/null || echo "of the program is not known"
}

# The C++ library is part of the program, and unused code is not: it runs on other machines. Their C
# library must be glibc 2.35 or newer, even where that of the building machine is newer.
stage_build() {
  local generator=()
  if [ -n "$given_program" ]; then
    skip "the program is $program"
    return
  fi
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
  cmake --build "$build" --target moepp-native --parallel || return 1
  git log -1 --format=%h >"$program.commit" 2>/dev/null || rm -f "$program.commit"
  note "$program, $(($(wc -c <"$program") >> 20)) MiB, for $architectures"
}
