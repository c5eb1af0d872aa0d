# For users of node-gyp: hands the whole build to CMake (CMakeLists.txt), and knows nothing itself.
{
  "targets": [{
    "target_name": "moepp_cmake",
    "type": "none",
    "actions": [{
      "action_name": "cmake",
      "message": "building moepp with CMake",
      "inputs": ["<!@(git ls-files CMakeLists.txt cmake native)"],
      "outputs": ["<(PRODUCT_DIR)/moepp.node"],
      "action": ["node", "<(module_root_dir)/scripts/build-native.mjs"]
    }]
  }]
}
