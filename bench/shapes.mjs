// The paper's four models: arXiv 2410.07348, the table of sizes and architectures. Every model has
// one copy and one zero expert besides the constant experts. So 0.6B has (8 + 4), 1B (16 + 4), 2B
// (32 + 8) and 7B (16 + 4) experts. Only models with two constant experts have a checkpoint format:
// config.json cannot say their number.
export const SHAPES = {
  '0.6b': {
    layers: 12,
    hidden: 768,
    ffn: 2048,
    heads: 12,
    vocab: 65536,
    ffnExperts: 8,
    constants: 2,
  },
  '1b': {
    layers: 12,
    hidden: 768,
    ffn: 2048,
    heads: 12,
    vocab: 65536,
    ffnExperts: 16,
    constants: 2,
  },
  '2b': {
    layers: 12,
    hidden: 768,
    ffn: 2048,
    heads: 12,
    vocab: 65536,
    ffnExperts: 32,
    constants: 6,
  },
  '7b': {
    layers: 24,
    hidden: 1536,
    ffn: 4096,
    heads: 16,
    vocab: 65536,
    ffnExperts: 16,
    constants: 2,
  },
}

/** All experts of a shape: FFN, constant, copy, zero. */
export const experts = shape => shape.ffnExperts + shape.constants + 2
