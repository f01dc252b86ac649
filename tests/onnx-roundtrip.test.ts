/**
 * The writer against the reader and against onnxruntime: what is written reads back as the same graph, and an implementation that is
 * not ours loads it. Graphs are every case of every operator, and the real networks that are at hand.
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { fromNumbers, tensorBytes } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import type { AttrValue, Graph } from '../src/graph/ir.ts';
import { printGraph } from '../src/graph/print.ts';
import { OLDEST_EXPRESSIBLE_OPSET } from '../src/onnx/older-opsets.ts';
import { NEWEST_OPSET, OLDEST_WRITABLE_OPSET } from '../src/onnx/opsets.ts';
import { readOnnx } from '../src/onnx/read.ts';
import { writeOnnx } from '../src/onnx/write.ts';
import { OPS } from '../src/ops/all.ts';
import { caseGraph } from './op-cases.ts';

const whole = (graph: Graph): string => printGraph(graph, { inlineElements: 1 << 12 });

/** The graph as ONNX can hold it: float attributes are float32 there. */
function withF32Attributes(graph: Graph): Graph {
  const nodes = graph.nodes.map((node) => {
    const { attrSpecs } = OPS.get(node.op)!;
    const rounded = Object.entries(node.attrs).map(([name, value]): [string, AttrValue] => {
      const { type, default: unwritten } = attrSpecs[name];
      if (value === undefined || value === unwritten) return [name, value];
      if (type === 'floats') return [name, (value as readonly number[]).map(Math.fround)];
      return [name, type === 'float' ? Math.fround(value as number) : value];
    });
    return { ...node, attrs: Object.fromEntries(rounded) };
  });
  return { ...graph, nodes };
}

describe.each([...OPS.values()].map((op) => [op.key, op] as const))('%s', (_key, op) => {
  test('reads back as it was written', () => {
    for (const [i, opCase] of op.cases.entries()) {
      const { graph } = caseGraph(op, opCase, OPS, i);
      const back = readOnnx(writeOnnx(graph, { ops: OPS }), { ops: OPS });
      expect(whole(back), opCase.name).toBe(whole(withF32Attributes(graph)));
    }
  });
});

const zoo = new URL('../../shared/zoo/', import.meta.url);
const real = new URL('../../shared/real/SqueezeNet_fp16.onnx', import.meta.url);
const demo = new URL('../node_modules/detypify-service/train/model.onnx', import.meta.url);
const networks = [
  'resnet18',
  'mobilenet_v2',
  'mobilenet_v3_small',
  'squeezenet1_1',
  'densenet121',
  'efficientnet_b0',
  'bert',
];
const files = [demo, real, ...networks.map((name) => new URL(`${name}.onnx`, zoo))].filter((url) => existsSync(url));

/** Weights beside a zoo's network may not have been made; their values are of no interest here. */
const zeros = (largest: number) => () => new Uint8Array(largest);

test.runIf(files.length > 0).each(files.map((url) => [basename(url.pathname), url] as const))(
  '%s reads back',
  (_name, url) => {
    const graph = readOnnx(readFileSync(url), { ops: OPS, openExternal: zeros(2 ** 28) });
    const back = readOnnx(writeOnnx(graph, { ops: OPS }), { ops: OPS });
    expect(printGraph(back)).toBe(printGraph(graph));
    for (const [name, tensor] of graph.constants) {
      const same = Buffer.compare(tensorBytes(tensor), tensorBytes(back.constants.get(name)!)) === 0;
      expect(same, name).toBe(true);
    }
  },
);

test.runIf(existsSync(real))('onnxruntime loads a whole network that we wrote', async () => {
  const graph = readOnnx(readFileSync(real), { ops: OPS });
  const session = await ort.InferenceSession.create(writeOnnx(graph, { ops: OPS }), { logSeverityLevel: 4 });
  expect(session.inputNames).toEqual([...graph.inputs]);
  expect(session.outputNames).toEqual([...graph.outputs]);
  await session.release();
});

/** Names, several locs and none, symbolic dims, an absent input. */
function oddGraph(): Graph {
  const b = graphBuilder('odd "graph"', OPS);
  const x = b.input('x', 'f32', [{ terms: [{ name: 'batch', coef: 1 }], constant: 0 }, 4]);
  const high = b.constant(fromNumbers('f32', [], [6]), 'höchstens');
  const [y] = b.node('Clip', [x, '', high], { outputs: ['a/b c'], loc: ['/one', '/two+three'] });
  const shape = b.constant(fromNumbers('i64', [3], [1, -1, 4]), 'shape');
  const [image] = b.node('Reshape', [y, shape], { outputs: ['image'], loc: ['/image'] });
  const [z] = b.node('MaxPool', [image], { outputs: ['pooled'], attrs: { kernel_shape: [2] }, loc: [] });
  b.output(z);
  b.output(y);
  return b.finish();
}

test('names, locs, open dims and absent values survive', () => {
  const graph = oddGraph();
  expect(whole(readOnnx(writeOnnx(graph, { ops: OPS }), { ops: OPS }))).toBe(whole(graph));
});

/** Some weights, from 4 bytes to 4 KiB. */
function weightedGraph(): Graph {
  const b = graphBuilder('weighted', OPS);
  let y = b.input('x', 'f32', [1024]);
  for (const n of [1, 1024, 1, 1024])
    y = b.node('Add', [y, b.constant(fromNumbers('f32', [n], new Float32Array(n).fill(n)))])[0];
  b.output(y);
  return b.finish();
}

test('constants above the threshold go beside the model, page by page', () => {
  const graph = weightedGraph();
  const pieces: Uint8Array[] = [];
  const externalData = {
    location: 'sub/net.bin',
    thresholdBytes: 100,
    append: (bytes: Uint8Array) => void pieces.push(bytes.slice()),
  };
  const model = writeOnnx(graph, { ops: OPS, externalData });
  const file = Buffer.concat(pieces);
  expect(file.length).toBe(2 * 4096);
  expect(model.length).toBeLessThan(1000);
  const opened: string[] = [];
  const back = readOnnx(model, {
    ops: OPS,
    openExternal(location) {
      opened.push(location);
      return file;
    },
  });
  expect(opened).toEqual(['sub/net.bin']);
  expect(whole(back)).toBe(whole(graph));
});

test('writing is deterministic, and states the opset asked for, or the oldest that has what the graph needs', () => {
  const graph = weightedGraph();
  const write = (opset?: number) => writeOnnx(graph, { ops: OPS, ...(opset !== undefined && { opset }) });
  expect(write()).toEqual(write(OLDEST_WRITABLE_OPSET));
  expect(write(NEWEST_OPSET)).not.toEqual(write());
  expect(() => write(OLDEST_EXPRESSIBLE_OPSET - 1)).toThrow(/can be written/);
  expect(() => write(NEWEST_OPSET + 1)).toThrow(/can be written/);
});

test.each([
  ['Swish', {}, 24],
  ['SpaceToDepth', { blocksize: 2, mode: 'CRD' }, 28],
  ['SpaceToDepth', { blocksize: 2 }, OLDEST_WRITABLE_OPSET],
] as const)('%s %j is written as opset %i', (op, attrs, opset) => {
  const b = graphBuilder('g', OPS);
  b.node(op, [b.input('x', 'f32', [1, 2, 4, 4])], { attrs, outputs: ['y'] });
  b.output('y');
  const graph = b.finish();
  expect(writeOnnx(graph, { ops: OPS })).toEqual(writeOnnx(graph, { ops: OPS, opset }));
  if (opset > OLDEST_WRITABLE_OPSET)
    expect(() => writeOnnx(graph, { ops: OPS, opset: opset - 1 })).toThrow(`since opset ${opset}`);
});
