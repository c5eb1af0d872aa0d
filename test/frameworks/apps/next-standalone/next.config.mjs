const packages = ['moepp', 'moepp-books-7m', 'node-gyp-build']

export default {
  output: 'standalone',
  serverExternalPackages: ['moepp'],
  outputFileTracingIncludes: { '/text': packages.map(name => `./node_modules/${name}/**/*`) },
}
