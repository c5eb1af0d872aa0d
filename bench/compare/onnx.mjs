// Writes ONNX files with the weights beside them: the few fields of onnx.proto that a graph of
// plain nodes needs.
import { PbfWriter } from 'pbf'

const FLOAT = 1
const EXTERNAL = 1
const ATTRIBUTE_TYPES = { float: 1, int: 2, string: 3 }

const message = (pbf, tag, write, object) =>
  pbf.writeMessage(tag, (value, inner) => write(value, inner), object)

function writeAttribute([name, { float, int, string }], pbf) {
  pbf.writeStringField(1, name)
  if (float !== undefined) pbf.writeFloatField(2, float)
  if (int !== undefined) pbf.writeVarintField(3, int)
  if (string !== undefined) pbf.writeBytesField(4, Buffer.from(string))
  const kind = float !== undefined ? 'float' : int !== undefined ? 'int' : 'string'
  pbf.writeVarintField(20, ATTRIBUTE_TYPES[kind])
}

function writeNode({ op, domain = '', inputs, output, attributes = {} }, pbf) {
  for (const input of inputs) pbf.writeStringField(1, input)
  pbf.writeStringField(2, output)
  pbf.writeStringField(3, output)
  pbf.writeStringField(4, op)
  for (const attribute of Object.entries(attributes)) message(pbf, 5, writeAttribute, attribute)
  if (domain) pbf.writeStringField(7, domain)
}

function writeInitializer({ name, shape, file, offset }, pbf) {
  for (const size of shape) pbf.writeVarintField(1, size)
  pbf.writeVarintField(2, FLOAT)
  pbf.writeStringField(8, name)
  const length = 4 * shape.reduce((a, b) => a * b, 1)
  for (const entry of Object.entries({
    location: file,
    offset: String(offset),
    length: String(length),
  })) {
    message(
      pbf,
      13,
      ([key, value], inner) => {
        inner.writeStringField(1, key)
        inner.writeStringField(2, value)
      },
      entry,
    )
  }
  pbf.writeVarintField(14, EXTERNAL)
}

function writeValue({ name, shape }, pbf) {
  pbf.writeStringField(1, name)
  const dimension = (size, inner) => inner.writeVarintField(1, size)
  const shapeOf = (_, inner) => {
    for (const size of shape) message(inner, 1, dimension, size)
  }
  const tensor = (_, inner) => {
    inner.writeVarintField(1, FLOAT)
    message(inner, 2, shapeOf, null)
  }
  message(pbf, 2, (_, inner) => message(inner, 1, tensor, null), null)
}

function writeGraph({ nodes, initializers, inputs, outputs }, pbf) {
  for (const node of nodes) message(pbf, 1, writeNode, node)
  pbf.writeStringField(2, 'moe')
  for (const initializer of initializers) message(pbf, 5, writeInitializer, initializer)
  for (const input of inputs) message(pbf, 11, writeValue, input)
  for (const output of outputs) message(pbf, 12, writeValue, output)
}

function writeOpset({ domain, version }, pbf) {
  if (domain) pbf.writeStringField(1, domain)
  pbf.writeVarintField(2, version)
}

/**
 * The bytes of a model of f32 tensors. nodes: {op, domain?, inputs, output, attributes?};
 * initializers: {name, shape, file, offset}; inputs and outputs: {name, shape}.
 */
export function onnxModel(graph) {
  const pbf = new PbfWriter()
  pbf.writeVarintField(1, 8)
  pbf.writeStringField(2, 'moepp')
  message(pbf, 7, writeGraph, graph)
  for (const opset of [{ version: 17 }, { domain: 'com.microsoft', version: 1 }])
    message(pbf, 8, writeOpset, opset)
  return pbf.finish()
}
