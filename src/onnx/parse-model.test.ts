import { create, toBinary } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { ModelProtoSchema } from './onnx_pb.ts';
import { parseModel } from './parse-model.ts';

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
const model = toBinary(
  ModelProtoSchema,
  create(ModelProtoSchema, {
    irVersion: 10n,
    graph: { name: 'net', node: [{ opType: 'Relu', input: ['x'], output: ['y'] }] },
  }),
);

describe('what is not ONNX is named', () => {
  test.each([
    ['', /the file is empty/],
    ['version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n', /git-lfs pointer/],
    ['<!DOCTYPE html>\n<html>', /a web page/],
    ['  <html lang="en">', /a web page/],
    ['PK\x03\x04\x14\0\0\0', /zip archive/],
    ['\x80\x02\x8a\nl\xfc\x9cF\xf9', /Python pickle/],
    ['\x1f\x8b\x08\0', /gzip/],
    ['\x89HOTROD\n\x01\0\0\0', /Hotrod engine/],
    ['\x89HDF\r\n\x1a\n', /HDF5/],
    ['\x1c\0\0\0TFL3\x14\0', /TensorFlow Lite/],
    ['GGUF\x03\0\0\0', /GGUF/],
    ['\x40\x01\0\0\0\0\0\0{"w":{"dtype"', /safetensors/],
    ['{"format":"graph-model"}', /JSON/],
    ['hello there', /plain text/],
    ['\0\0\0\0\xff\xff', /the bytes are not an ONNX model/],
  ])('%j', (text, message) => {
    expect(() => parseModel(latin1(text))).toThrow(message);
    expect(() => parseModel(latin1(text))).toThrow(expect.objectContaining({ code: 'onnx-parse' }));
  });
});

test('every truncation of a model is refused as damaged', () => {
  for (let n = 1; n < model.length; n++) {
    // A cut before the graph's field leaves a valid message without a graph.
    expect(() => parseModel(model.subarray(0, n)), `${n} bytes`).toThrow(/damaged or cut short/);
  }
  expect(parseModel(model).graph.node[0].opType).toBe('Relu');
});

test('fields that nobody knows are skipped', () => {
  // Field 200, a string; field 201, a varint.
  const more = Uint8Array.from([...model, 0xc2, 0x0c, 2, 0x68, 0x69, 0xc8, 0x0c, 0x96, 1]);
  expect(parseModel(more).graph.name).toBe('net');
});
