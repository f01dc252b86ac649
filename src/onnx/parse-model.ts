/**
 * Bytes to ModelProto. The decoder is @bufbuild/protobuf's; tensors' raw_data are views on `bytes`, unknown fields are skipped.
 *
 * Bytes that are not ONNX get an error that says what they look like instead: the usual mistakes are a pointer file of git-lfs, an
 * HTML page saved by a downloader, a checkpoint of PyTorch. Work and memory are bounded by the length of the input.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { ModelError } from '../core/errors.ts';
import { type GraphProto, type ModelProto, ModelProtoSchema } from './onnx_pb.ts';

export type ParsedModel = ModelProto & { readonly graph: GraphProto };

/** Throws ModelError `onnx-parse`. */
export function parseModel(bytes: Uint8Array): ParsedModel {
  if (bytes.length === 0) throw new ModelError('onnx-parse', 'the file is empty, expected an ONNX model');
  const model = decode(bytes);
  if (model instanceof Error) throw notOnnx(bytes, model);
  // Any bytes may happen to decode; every real model has a format version and a graph.
  if (model.irVersion <= 0n || model.graph === undefined) throw notOnnx(bytes);
  return model as ParsedModel;
}

function decode(bytes: Uint8Array): ModelProto | Error {
  try {
    return fromBinary(ModelProtoSchema, bytes, { readUnknownFields: false });
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
}

interface Lookalike {
  readonly name: string;
  readonly hint: string;
  matches(head: string): boolean;
}

const startsWith =
  (...prefixes: string[]) =>
  (head: string): boolean =>
    prefixes.some((p) => head.startsWith(p));

/** `head` is the first bytes as Latin-1. The first row that matches is named. */
const LOOKALIKES: readonly Lookalike[] = [
  {
    name: 'a git-lfs pointer, not the file itself',
    hint: 'fetch the file with `git lfs pull`',
    matches: startsWith('version https://git-lfs'),
  },
  {
    name: 'a web page',
    hint: 'the download went wrong: fetch the raw file',
    matches: (head) => /^\s*<(!doctype|html|\?xml)/i.test(head),
  },
  { name: 'a Hotrod engine', hint: 'engines are run directly, not built again', matches: startsWith('\x89HOTROD') },
  {
    name: 'a zip archive (a PyTorch checkpoint, or a packed model)',
    hint: 'unpack it, or export the network to ONNX first',
    matches: startsWith('PK\x03\x04'),
  },
  {
    name: 'a Python pickle (a PyTorch checkpoint)',
    hint: 'export the network to ONNX first',
    matches: startsWith('\x80\x02', '\x80\x03', '\x80\x04', '\x80\x05'),
  },
  { name: 'a gzip archive', hint: 'unpack it first', matches: startsWith('\x1f\x8b') },
  { name: 'an HDF5 file (Keras)', hint: 'convert it with tf2onnx', matches: startsWith('\x89HDF') },
  { name: 'a TensorFlow Lite model', hint: 'convert it with tf2onnx', matches: (head) => head.slice(4, 8) === 'TFL3' },
  { name: 'a GGUF model', hint: 'export the network to ONNX first', matches: startsWith('GGUF') },
  {
    name: 'a safetensors file',
    hint: 'it holds weights only: export the network to ONNX first',
    matches: (head) => head.slice(5, 10) === '\0\0\0{"',
  },
  { name: 'JSON text', hint: 'give the .onnx file', matches: (head) => /^\s*[{[]\s*["{[]/.test(head) },
  { name: 'plain text', hint: 'give the .onnx file', matches: (head) => /^[\t\n\r -~]+$/.test(head) },
];

function notOnnx(bytes: Uint8Array, cause?: Error): ModelError {
  const head = String.fromCharCode(...bytes.subarray(0, 256));
  const found = LOOKALIKES.find((row) => row.matches(head));
  if (found)
    return new ModelError('onnx-parse', `not an ONNX model: this looks like ${found.name}`, { hint: found.hint });
  // A model's first field is ir_version (tag 8) or, from some writers, a string or the graph.
  const plausible = bytes[0] === 0x08;
  return plausible
    ? new ModelError('onnx-parse', `the ONNX model is damaged or cut short (${bytes.length} bytes)`, {
        hint: 'fetch or export the file again',
        cause,
      })
    : new ModelError('onnx-parse', 'the bytes are not an ONNX model', { cause });
}
