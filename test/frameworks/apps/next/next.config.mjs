export default { serverExternalPackages: ['moepp'] }
