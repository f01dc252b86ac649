/**
 * The ONNX reader on damaged files: real networks and what our writer writes, with bits flipped, bytes cut, moved and made huge. The
 * answer is a graph or a ModelError, with the memory and in the time that the size of the file explains; never another exception.
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ModelError } from '../src/core/errors.ts';
import { fromNumbers } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { verifyGraph } from '../src/graph/verify.ts';
import { describeOnnx } from '../src/onnx/describe.ts';
import { readOnnx } from '../src/onnx/read.ts';
import { writeOnnx } from '../src/onnx/write.ts';
import { OPS } from '../src/ops/all.ts';
import { bool, f32, type GraphInit, graphAttr, i64, int, node, output, protoBytes } from './model-protos.ts';

/** A generator of integers in [0, n): xorshift, so that a failure repeats from its seed. */
function randomInts(seed: number): (n: number) => number {
  let s = seed | 1;
  return (n) => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) % n;
  };
}

type Mutation = (bytes: Uint8Array, int: (n: number) => number) => Uint8Array;
const splice = (bytes: Uint8Array, from: number, to: number, by: Uint8Array): Uint8Array =>
  Uint8Array.from([...bytes.subarray(0, from), ...by, ...bytes.subarray(to)]);

const MUTATIONS: Readonly<Record<string, Mutation>> = {
  flip(bytes, int) {
    const out = bytes.slice();
    for (let n = 1 + int(4); n > 0; n--) out[int(out.length)] ^= 1 << int(8);
    return out;
  },
  set(bytes, int) {
    const out = bytes.slice();
    for (let n = 1 + int(3); n > 0; n--) out[int(out.length)] = [0, 1, 0x7f, 0x80, 0xff][int(5)];
    return out;
  },
  truncate: (bytes, int) => bytes.slice(0, int(bytes.length)),
  remove(bytes, int) {
    const at = int(bytes.length);
    return splice(bytes, at, Math.min(bytes.length, at + 1 + int(16)), new Uint8Array());
  },
  copy(bytes, int) {
    const from = int(bytes.length);
    const at = int(bytes.length);
    return splice(bytes, at, at, bytes.subarray(from, from + 1 + int(200)));
  },
  hugeVarint(bytes, int) {
    const at = int(bytes.length);
    return splice(bytes, at, at + int(3), Uint8Array.of(...new Array(4 + int(6)).fill(0xff), int(128)));
  },
};

/** Zeros in place of any file of weights, more than the largest of these models asks for. Untouched pages take no memory. */
const weights = new Uint8Array(2 ** 28);
const options = { ops: OPS, openExternal: () => weights };

/** Throws what is neither a graph nor a ModelError. */
function readDamaged(bytes: Uint8Array): 'graph' | 'error' {
  try {
    describeOnnx(bytes);
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
  }
  try {
    verifyGraph(readOnnx(bytes, options), OPS);
    return 'graph';
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    return 'error';
  }
}

function written(): Uint8Array {
  const b = graphBuilder('small', OPS);
  const x = b.input('x', 'f32', [{ terms: [{ name: 'n', coef: 1 }], constant: 0 }, 3, 8, 8]);
  const w = b.constant(fromNumbers('f32', [4, 3, 3, 3], new Float32Array(108).fill(0.5)), 'w');
  const [y] = b.node('Conv', [x, w], { attrs: { pads: [1, 1, 1, 1], strides: [2, 2] } });
  const [z] = b.node('Reshape', [y, b.constant(fromNumbers('i64', [2], [0, -1]))]);
  b.output(b.node('Softmax', [b.node('Relu', [z])[0]], { attrs: { axis: 1 } })[0]);
  return writeOnnx(b.finish(), { ops: OPS });
}

/** Calls of functions, subgraphs, sequences: what the writer never writes. */
function withControlFlow(): Uint8Array {
  const body: GraphInit = {
    input: [{ name: 'i' }, { name: 'go' }, { name: 'v' }, { name: 's' }],
    node: [
      node('If: go -> w', [
        graphAttr('then_branch', { node: [node('Neg: v -> r')], output: output('r') }),
        graphAttr('else_branch', { node: [node('Abs: v -> r')], output: output('r') }),
      ]),
      node('SequenceInsert: s w -> t'),
      node('Identity: go -> on'),
    ],
    output: output('on', 'w', 't', 'w'),
  };
  const graph: GraphInit = {
    input: [f32('x', 'n', 4)],
    initializer: [i64('trips', [3], []), bool('yes', true)],
    node: [
      node('SequenceEmpty: -> empty'),
      node('Loop: trips yes x empty -> last list all', [graphAttr('body', body)]),
      node('ConcatFromSequence: list -> joined', [int('axis', 0)]),
      node('Halved: joined -> half', [int('axis', 1)], { domain: 'my' }),
      node('ReduceSum: all -> sum', [int('keepdims', 0)]),
      node('Add: half sum -> y'),
    ],
    output: output('y', 'last'),
  };
  const halved = {
    domain: 'my',
    name: 'Halved',
    input: ['a'],
    output: ['r'],
    attribute: ['axis'],
    opsetImport: [{ version: 21n }],
    node: [node('Softmax: a -> p', [{ name: 'axis', type: 2, refAttrName: 'axis' }]), node('Mul: p p -> r')],
  };
  return protoBytes(graph, { functions: [halved], opsetImport: [{ version: 21n }, { domain: 'my', version: 1n }] });
}

const zoo = new URL('../../shared/zoo/', import.meta.url);
const files = ['squeezenet1_1.onnx', 'alexnet.onnx', 'bert.onnx']
  .map((name) => new URL(name, zoo))
  .filter((url) => existsSync(url));
const subjects: readonly (readonly [string, Uint8Array, number])[] = [
  ['a small model of ours', written(), 1000],
  ['a model with functions and control flow', withControlFlow(), 1000],
  ...files.map((url) => {
    const bytes = Uint8Array.from(readFileSync(url));
    // A larger file takes longer to read and copy; every kind of field occurs in each.
    return [basename(url.pathname), bytes, Math.max(20, Math.round(2e6 / bytes.length))] as const;
  }),
];

describe.each(subjects)('%s', (_name, bytes, runs) => {
  test('is readable as it is', () => expect(readDamaged(bytes)).toBe('graph'));
  test.each(Object.entries(MUTATIONS))('%s', (_kind, mutate) => {
    let graphs = 0;
    for (let seed = 1; seed <= runs; seed++) {
      const damaged = mutate(bytes, randomInts(seed * 0x9e3779b1));
      try {
        if (readDamaged(damaged) === 'graph') graphs++;
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.stack : error}`);
      }
    }
    // Damage that no check can see leaves some models readable, but never all.
    expect(graphs).toBeLessThan(runs);
  });
});

test('every byte of a small model set to each of a few values', () => {
  const bytes = written();
  let errors = 0;
  for (let at = 0; at < bytes.length; at++) {
    for (const value of [0, 0x7f, 0xff]) {
      const damaged = bytes.slice();
      damaged[at] = value;
      if (readDamaged(damaged) === 'error') errors++;
    }
  }
  expect(errors).toBeGreaterThan(bytes.length / 4);
});
