export default { build: { ssr: 'text.mjs' } }
