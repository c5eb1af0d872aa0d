export default {
  target: 'node',
  mode: 'production',
  entry: './text.mjs',
  output: { filename: 'text.cjs' },
  externals: { moepp: 'commonjs moepp' },
}
